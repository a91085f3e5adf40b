"""What each loader of a mixture delivers is a pure function: exact, even, and never twice."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fastloader.plan.mixture import PartPlan, Portion, Within, divided, taken
from fastloader.plan.order import Uniform
from fastloader.plan.plan import Plan
from fastloader.transport.serial import pack, unpack

weights = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6)
steps = st.tuples(st.integers(1, 9), st.integers(1, 4))  # batch_size and number of shards
all_shares = st.lists(st.integers(1, 60), min_size=1, max_size=5).map(tuple)


@given(st.integers(0, 10**9), weights)
def test_divided_keeps_the_total_and_misses_no_share_by_a_whole(
    total: int, weights: list[float]
) -> None:
    found = divided(total, weights)
    assert sum(found) == total
    for share, weight in zip(found, weights, strict=True):
        exact = total * Fraction(weight) / sum(map(Fraction, weights))
        assert abs(share - exact) < 1


def test_divided_gives_the_largest_remainders_the_rest() -> None:
    assert divided(10, [0.7, 0.3]) == (7, 3)
    assert divided(10, [7, 3]) == (7, 3)
    assert divided(11, [0.7, 0.3]) == (8, 3)
    assert divided(1, [1, 1, 1]) == (1, 0, 0)


@given(all_shares)
def test_items_come_one_by_one_and_evenly(shares: tuple[int, ...]) -> None:
    total = sum(shares)
    counts = [taken(shares, number) for number in range(total + 1)]
    assert counts[0] == [0] * len(shares)
    assert counts[-1] == list(shares)
    for one, next_one in itertools.pairwise(counts):
        assert sorted(b - a for a, b in zip(one, next_one, strict=True))[-2:] in ([0, 1], [1])
    for number, found in enumerate(counts):
        for share, count in zip(shares, found, strict=True):
            # Half an item for each loader that was asked before.
            assert abs(count - Fraction(number * share, total)) <= Fraction(len(shares), 2)
            if len(shares) == 2:
                assert abs(count - Fraction(number * share, total)) <= Fraction(1, 2)


@given(all_shares, steps, st.sampled_from(["batch", "batches"]), st.integers(0, 3), st.data())
def test_all_shards_together_take_each_number_of_each_loader_once(
    shares: tuple[int, ...],
    step: tuple[int, int],
    within: Within,
    epoch: int,
    data: st.DataObject,
) -> None:
    """Of the rows of a loader, also over its epochs, whose number the mixture's do not fit."""
    batch_size, shards = step
    tables = [data.draw(st.integers(1, 40)) for _ in shares]
    unit = batch_size * shards
    count = sum(shares) // unit
    for index, table_rows in enumerate(tables):
        own = Uniform(table_rows, shuffle=True, seed=index)
        portion = Portion(shares, index, within)
        assert unpack(pack(portion), Portion) == portion
        plans = [portion.plan(Plan(own, batch_size, shard=(s, shards))) for s in range(shards)]
        assert [portion.plan(plan) for plan in plans] == plans  # a worker is told it again
        lengths = {len(plan) for plan in plans}
        assert lengths == {count if within == "batch" else shares[index]}
        found: list[int] = []
        for batch in range(len(plans[0])):
            for plan in plans:
                found += plan.positions(epoch, batch).tolist()
        rows = shares[index] if within == "batch" else shares[index] * unit
        expected = own.with_rows(rows)(epoch, np.arange(len(found))).positions
        assert found == expected.tolist()
        if within == "batch":
            assert len(found) == taken(shares, count * unit)[index]
        else:
            assert len(found) == rows


@given(all_shares, steps, steps, st.data())
def test_the_rest_of_an_epoch_is_the_same_rows_with_other_batches(
    shares: tuple[int, ...], was: tuple[int, int], then: tuple[int, int], data: st.DataObject
) -> None:
    def rows(size: int, shards: int, first_row: int, steps: int) -> list[list[int]]:
        """Return the rows of each loader that some steps deliver."""
        found = []
        for index in range(len(shares)):
            portion, own = Portion(shares, index, "batch"), Uniform(37, shuffle=True)
            its: list[int] = []
            for step in range(steps):
                for shard in range(shards):
                    plan = portion.plan(Plan(own, size, shard=(shard, shards))).rest(first_row)
                    assert isinstance(plan, PartPlan)
                    its += plan.positions(1, step).tolist()
            found.append(its)
        return found

    total = sum(shares)
    begun = data.draw(st.integers(0, total // math.prod(was)))
    first_row = begun * math.prod(was)
    rest = (total - first_row) // math.prod(then)
    both = zip(rows(*was, 0, begun), rows(*then, first_row, rest), strict=True)
    whole = rows(1, 1, 0, first_row + rest * math.prod(then))
    assert [one + other for one, other in both] == whole


@given(all_shares, st.integers(1, 12))
def test_a_batch_has_all_its_rows(shares: tuple[int, ...], batch_size: int) -> None:
    plans = [
        Portion(shares, index, "batch").plan(Plan(Uniform(9), batch_size))
        for index in range(len(shares))
    ]
    for batch in range(sum(shares) // batch_size):
        assert sum(len(plan.positions(0, batch)) for plan in plans) == batch_size

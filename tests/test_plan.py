"""Every row once an epoch, whoever reads it, in an order that is a function of the seed alone."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader.errors import PlanError
from fastloader.plan.order import Permutation, Shuffled, Uniform
from fastloader.plan.plan import Plan, check_keys, key_ranges

sorted_keys = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=200, unique=True).map(
    lambda keys: np.array(sorted(keys), np.int64)
)
row_counts = st.integers(1, 2000)
batch_sizes = st.integers(1, 50)
seeds = st.integers(0, 2**64 - 1)
epochs = st.integers(0, 2**63 - 1)

ORDER_OF_12 = [9, 1, 4, 0, 6, 7, 2, 10, 3, 8, 5, 11]
ORDER_OF_12_IN_BLOCKS = [8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7]
ORDER_OF_MANY = [
    839980178689,
    839980178690,
    839980178691,
    839980178692,
    839980178693,
    839980178694,
    839980178695,
    839980178696,
    970864006233,
]


@st.composite
def plans(draw: st.DrawFn) -> list[Plan]:
    """Those of all shards of a table."""
    shards = draw(st.integers(1, 9))
    rows = draw(st.integers(shards, 700))
    batch_size, drop = draw(batch_sizes), draw(st.booleans())
    shuffle, block, seed = draw(st.booleans()), draw(st.integers(1, 800)), draw(seeds)
    return [
        Plan(Uniform(rows, shuffle, block, seed), batch_size, drop, (index, shards))
        for index in range(shards)
    ]


def rows_of(plan: Plan, epoch: int, first: int = 0) -> list[list[int]]:
    """Return the batches of an epoch from one on."""
    return [plan.positions(epoch, batch).tolist() for batch in range(first, len(plan))]


# ---- batches -------------------------------------------------------------------------------------


@given(plans(), epochs)
def test_every_row_is_in_exactly_one_batch_of_one_shard(shards: list[Plan], epoch: int) -> None:
    batches = [batch for plan in shards for batch in rows_of(plan, epoch)]
    seen = sorted(row for batch in batches for row in batch)
    plan, count = shards[0], len(shards)
    left_out = 0
    if plan.drop_remainder or (plan.batch_size == 1 and count > 1):
        left_out = plan.rows % (plan.batch_size * count)
    assert len(set(seen)) == len(seen) == plan.rows - left_out
    assert all(0 <= row < plan.rows for row in seen)
    assert all(1 <= len(batch) <= plan.batch_size for batch in batches)


@given(plans())
def test_all_shards_have_as_many_batches_and_all_but_the_last_two_are_full(
    shards: list[Plan],
) -> None:
    sizes = [[len(batch) for batch in rows_of(plan, 0)] for plan in shards]
    assert len({len(plan) for plan in shards}) == 1
    for step, of_step in enumerate(zip(*sizes, strict=True)):
        assert max(of_step) - min(of_step) <= 1
        whole = len(shards[0]) - (0 if shards[0].drop_remainder else 2 if len(shards) > 1 else 1)
        if step < whole:
            assert set(of_step) == {shards[0].batch_size}


@given(row_counts, batch_sizes)
def test_without_shuffling_rows_come_in_the_order_of_their_keys(rows: int, batch_size: int) -> None:
    batches = rows_of(Plan(Uniform(rows), batch_size), 3)
    assert list(itertools.chain(*batches)) == list(range(rows))
    assert all(len(batch) == batch_size for batch in batches[:-1])


@given(row_counts, batch_sizes, st.integers(1, 9), st.integers(0, 60))
def test_workers_share_the_batches_from_any_first_one(
    rows: int, batch_size: int, workers: int, first: int
) -> None:
    plan = Plan(Uniform(rows), batch_size)
    shares = [list(plan.batches_of(worker, workers, first)) for worker in range(workers)]
    assert sorted(batch for share in shares for batch in share) == list(range(first, len(plan)))
    for worker, share in enumerate(shares):
        assert all(batch % workers == worker for batch in share)
        assert share == sorted(share)


@given(plans(), epochs, st.data())
def test_resuming_at_any_batch_gives_exactly_the_rest(
    shards: list[Plan], epoch: int, data: st.DataObject
) -> None:
    plan = shards[-1]
    first = data.draw(st.integers(0, len(plan)))
    again = Plan(*(getattr(plan, name) for name in Plan.__dataclass_fields__))
    assert rows_of(again, epoch, first) == rows_of(plan, epoch)[first:]


@given(sorted_keys, plans(), epochs)
def test_key_ranges_cover_the_rows_of_their_batch_in_its_order_and_no_other(
    keys: np.ndarray, shards: list[Plan], epoch: int
) -> None:
    plan = Plan(replace(shards[0].order, table_rows=len(keys), shuffle=True), 7)
    for batch in range(len(plan)):
        positions = plan.positions(epoch, batch)
        ranges = key_ranges(keys, positions)
        inside = [k for first, last in ranges for k in keys.tolist() if first <= k <= last]
        assert inside == keys[positions].tolist()
        assert all(
            np.searchsorted(keys, last) + 1 != np.searchsorted(keys, first)
            for (_, last), (first, _) in itertools.pairwise(ranges)
        ), "runs are not cut"


def test_too_few_rows_are_an_error_in_words() -> None:
    Plan(Uniform(8), 8, drop_remainder=True).check("t")
    with pytest.raises(PlanError, match="t: 3 rows are too few for 4 shards"):
        Plan(Uniform(3), 8, shard=(0, 4)).check("t")
    with pytest.raises(PlanError, match="t: 7 rows do not fill a batch of 8, and drop_remainder"):
        Plan(Uniform(7), 8, drop_remainder=True).check("t")
    with pytest.raises(PlanError, match="a batch of 8 for each of 2 shards"):
        Plan(Uniform(15), 8, drop_remainder=True, shard=(1, 2)).check("t")


# ---- order ---------------------------------------------------------------------------------------


def order(rows: int, block: int, seed: int = 0, epoch: int = 0) -> list[int]:
    return Shuffled(rows, block, seed, epoch)(np.arange(rows)).tolist()


@given(st.integers(1, 3000), st.integers(1, 4000), seeds, epochs)
def test_blocks_stay_together_and_all_but_one_are_whole(
    rows: int, block: int, seed: int, epoch: int
) -> None:
    found = order(rows, block, seed, epoch)
    assert sorted(found) == list(range(rows))
    starts = [0, *(i for i in range(1, rows) if (found[i] - found[i - 1]) % rows != 1)]
    runs = [end - start for start, end in itertools.pairwise([*starts, rows])]
    short = [run for run in runs if run % block]
    # Blocks may happen to follow one another; then a run is as long as two, or more.
    assert sum(run % block for run in runs) % block == rows % block
    assert len(short) <= 1


def test_the_order_of_an_epoch_is_what_it_was_in_every_version() -> None:
    """Or a training that was saved yesterday could not go on today."""
    assert order(12, 1, seed=7, epoch=3) == ORDER_OF_12
    assert order(12, 5, seed=2**64 - 1, epoch=0) == ORDER_OF_12_IN_BLOCKS
    assert Shuffled(10**12, 8, 1, 2)(np.arange(10**11, 10**11 + 9)).tolist() == ORDER_OF_MANY


def test_orders_differ_between_epochs_and_seeds() -> None:
    pairs = itertools.product([0, 1, 2, 2**64 - 1], [0, 1, 2, 2**63 - 1])
    orders = [tuple(order(50, 1, seed, epoch)) for seed, epoch in pairs]
    assert len(set(orders)) == len(orders)
    # Each pair agrees at about one place of 50, as random orders do.
    agree = [sum(a == b for a, b in zip(x, y, strict=True)) for x, y in itertools.pairwise(orders)]
    assert max(agree) <= 6


def chi_squared(counts: Counter, cells: int) -> float:
    """In standard deviations above what a uniform distribution gives."""
    expected = counts.total() / cells
    squares = sum((count - expected) ** 2 / expected for count in counts.values())
    squares += (cells - len(counts)) * expected
    return (squares - (cells - 1)) / math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_orders_of_a_few_blocks_are_equally_likely(n: int) -> None:
    counts = Counter(tuple(order(n, 1, seed)) for seed in range(60 * math.factorial(n)))
    assert abs(chi_squared(counts, math.factorial(n))) < 4


def is_odd(found: list[int]) -> bool:
    """Whether the permutation is."""
    seen, cycles = set(), 0
    for start in found:
        cycles += start not in seen
        at = start
        while at not in seen:
            seen.add(at)
            at = found[at]
    return (len(found) - cycles) % 2 == 1


@pytest.mark.parametrize("n", [2, 3, 7, 8, 9, 10, 24, 25, 49, 81, 121])
def test_as_many_orders_are_odd_as_even_ones(n: int) -> None:
    """What neither single places nor pairs of rows tell."""
    odd = sum(is_odd(order(n, 1, seed)) for seed in range(600))
    assert abs(odd - 300) < 4.5 * math.sqrt(600) / 2


def test_every_row_comes_equally_often_at_every_place_and_behind_every_other() -> None:
    rows, seeds = 40, 4000
    orders = [order(rows, 1, seed, epoch=9) for seed in range(seeds)]
    places = Counter((place, row) for found in orders for place, row in enumerate(found))
    # Each row's and each place's sum is fixed, so there is a little less freedom than in the test.
    assert abs(chi_squared(places, rows * rows)) < 5
    pairs = Counter(pair for found in orders for pair in itertools.pairwise(found))
    assert abs(chi_squared(pairs, rows * (rows - 1))) < 5


def test_the_grid_of_the_blocks_and_the_short_one_are_elsewhere_in_each_epoch() -> None:
    starts, shorts = Counter(), Counter()
    for epoch in range(3000):
        shuffled = Shuffled(10, 4, seed=5, epoch=epoch)
        starts[shuffled._first] += 1
        shorts[shuffled._short_begin // 4] += 1
    assert abs(chi_squared(starts, 10)) < 4
    assert abs(chi_squared(shorts, 3)) < 4


def test_a_permutation_of_many_takes_little_memory() -> None:
    permutation = Permutation(10**9, np.random.Philox(key=[1, 2]))
    assert sum(table.nbytes for table in permutation._tables) < 7e6
    some = permutation(np.arange(0, 10**9, 10**5))
    assert len(set(some.tolist())) == 10**4
    assert 0 <= some.min() < some.max() < 10**9


# ---- keys ----------------------------------------------------------------------------------------


def test_keys_must_be_there_and_unique() -> None:
    check_keys(np.array([-5, 1, 2], np.int64), "t")
    check_keys(np.array([-(2**63), 2**63 - 1], np.int64), "t")
    with pytest.raises(PlanError, match=r"^t: there are no rows"):
        check_keys(np.array([], np.int64), "t")
    with pytest.raises(PlanError, match=r"^t: 3 rows have the key 7;"):
        check_keys(np.array([1, 7, 7, 7, 8, 8], np.int64), "t")
    with pytest.raises(PlanError, match=r"^t: 2 rows have the key 5;"):
        check_keys(np.array([-(2**63), 5, 5, 2**63 - 1], np.int64), "t")
    with pytest.raises(PlanError, match="out of order"):
        check_keys(np.array([3, 2], np.int64), "t")

"""Batches partition the keys, whoever reads them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader.errors import PlanError
from fastloader.plan import Plan, check_keys, key_ranges

sorted_keys = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=200, unique=True).map(
    lambda keys: np.array(sorted(keys), np.int64)
)
row_counts = st.integers(1, 2000)
batch_sizes = st.integers(1, 50)


@given(sorted_keys, batch_sizes)
def test_every_key_is_in_exactly_one_batch_in_order(keys: np.ndarray, batch_size: int) -> None:
    plan = Plan(len(keys), batch_size)
    batches = [keys[plan.positions(batch)] for batch in range(len(plan))]
    assert np.concatenate(batches).tolist() == keys.tolist()
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_size


@given(row_counts, batch_sizes)
def test_dropping_the_remainder_leaves_whole_batches_only(rows: int, batch_size: int) -> None:
    plan = Plan(rows, batch_size, drop_remainder=True)
    assert len(plan) == rows // batch_size
    for batch in range(len(plan)):
        positions = plan.positions(batch)
        assert positions.stop - positions.start == batch_size


@given(row_counts, batch_sizes, st.integers(1, 9), st.integers(0, 60))
def test_workers_share_the_batches_from_any_first_one(
    rows: int, batch_size: int, workers: int, first: int
) -> None:
    plan = Plan(rows, batch_size)
    shares = [list(plan.batches_of(worker, workers, first)) for worker in range(workers)]
    assert sorted(batch for share in shares for batch in share) == list(range(first, len(plan)))
    for worker, share in enumerate(shares):
        assert all(batch % workers == worker for batch in share)
        assert share == sorted(share)


@given(sorted_keys, batch_sizes)
def test_key_ranges_cover_the_keys_of_their_batch_and_no_other(
    keys: np.ndarray, batch_size: int
) -> None:
    plan = Plan(len(keys), batch_size)
    for batch in range(len(plan)):
        wanted = keys[plan.positions(batch)]
        inside = [
            key
            for first, last in key_ranges(wanted)
            for key in keys.tolist()
            if first <= key <= last
        ]
        assert inside == wanted.tolist()


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

"""Keys of one column and of several: how they are stored, shown, compared and numbered."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from fastloader.errors import PlanError
from fastloader.plan.keys import (
    Keys,
    array_equal,
    column_values,
    digest,
    dtype_name,
    key_numbers,
    key_values,
    same,
    together,
)
from fastloader.plan.plan import check_keys, key_ranges

U = [uuid.UUID(int=n) for n in (5, 2**127)]
ROWS: list[tuple[Any, ...]] = [(-3, "a", str(U[0])), (-3, "b", str(U[1])), (7, "", str(U[0]))]


def keys_of(rows: list[tuple[Any, ...]], width: int = 9) -> Keys:
    """Return keys of an integer, a text and a uuid."""
    numbers, texts, uuids = zip(*rows, strict=True)
    void = np.frombuffer(b"".join(uuid.UUID(u).bytes for u in uuids), "V16")
    text = np.array([t.encode() for t in texts], f"S{width}")
    return together([np.array(numbers, np.int64), text, void])


def test_keys_are_shown_as_tuples_and_their_dtype_is_a_text() -> None:
    keys = keys_of(ROWS)
    assert key_values(keys) == ROWS
    assert column_values(keys) == [list(column) for column in zip(*ROWS, strict=True)]
    assert dtype_name(keys.dtype) == "<i8,|S9,|V16"
    assert np.dtype(dtype_name(keys.dtype)) == keys.dtype
    assert key_values(np.frombuffer(keys.tobytes(), dtype_name(keys.dtype))) == ROWS
    assert key_ranges(keys, np.array([1, 2, 0])) == [(ROWS[1], ROWS[2]), (ROWS[0], ROWS[0])]


def test_one_column_is_an_array_as_ever() -> None:
    numbers = np.array([1, 2], np.int64)
    assert together([numbers]) is numbers
    assert dtype_name(numbers.dtype) == "<i8"
    assert (key_values(numbers), column_values(numbers)) == ([1, 2], [[1, 2]])


def test_keys_are_compared_column_by_column_whatever_the_longest_text() -> None:
    keys, wider = keys_of(ROWS), keys_of(ROWS, width=30)
    assert array_equal(keys, wider)
    assert not array_equal(keys, keys[:2])
    for column, value in enumerate((9, "c", str(U[1]))):
        other = [list(row) for row in ROWS]
        other[2][column] = value
        assert same(keys, keys_of([tuple(row) for row in other])).tolist() == [True, True, False]
    assert same(keys, keys[1:2]).tolist() == [False, True, False]


def test_a_number_depends_on_nothing_but_the_key() -> None:
    numbers = key_numbers(keys_of(ROWS))
    assert numbers.dtype == np.uint64
    assert len(set(numbers.tolist())) == 3
    assert key_numbers(keys_of(ROWS, width=30)).tolist() == numbers.tolist()
    assert key_numbers(keys_of(ROWS[1:])).tolist() == numbers[1:].tolist()
    # Crops and flips of a later version must be the same.
    assert numbers[:2].tolist() == [1707383036956661046, 12268297921847622224]


def test_a_digest_tells_keys_and_their_columns_apart() -> None:
    keys = keys_of(ROWS)
    others = [keys[:2], keys[::-1], np.frombuffer(keys.tobytes(), "<i8,S8,S1,V16")]
    assert len({digest(its) for its in (keys, *others)}) == 4
    assert digest(keys) == digest(keys_of(ROWS))
    assert digest(np.arange(3)) == "ef1668178690d3011aca7ba036f8a4f3"  # as in older states


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([ROWS[0], ROWS[1], ROWS[1]], r"2 rows have the key \(-3, 'b', "),
        ([ROWS[2], ROWS[0]], "out of order"),
    ],
)
def test_keys_must_be_unique_and_in_order(rows: list[tuple[Any, ...]], problem: str) -> None:
    check_keys(keys_of(ROWS), "here")
    with pytest.raises(PlanError, match=problem):
        check_keys(keys_of(rows), "here")


def test_order_is_checked_as_far_as_it_is_known() -> None:
    def pairs(*rows: tuple[int, int]) -> Keys:
        return together([np.array(column, np.int64) for column in zip(*rows, strict=True)])

    check_keys(pairs((1, 5), (1, 6), (2, 1)), "here")
    with pytest.raises(PlanError, match="out of order"):
        check_keys(pairs((1, 5), (1, 4), (2, 1)), "here")
    texts = np.array([b"b", b"a"])  # a collation may have it so
    check_keys(together([texts, np.array([2, 1], np.int64)]), "here")

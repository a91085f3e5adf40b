"""Values of the database become columns of a batch, or are reported as not fitting."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from fastloader.errors import ConfigError
from fastloader.fields.columns import Column, blob_column, store
from fastloader.fields.values import ARRAY, Values
from fastloader.options.labels import split_label


def stored(column: Column, values: list[Any]) -> tuple[list[Any], dict[int, str]]:
    dtype = object if column.is_text else column.dtype
    target = np.zeros((len(values), *column.shape), dtype)
    bad = store(column, Values.of(values), target)
    return target.tolist(), bad


def test_blobs_are_arrays_of_bytes_or_of_the_type_that_is_asked_for() -> None:
    assert blob_column("c", None, 8) == Column("c", "uint8", (8,))
    assert blob_column("c", "float32", 8) == Column("c", "float32", (2,))


@pytest.mark.parametrize("size", [0, 7])
def test_a_blob_that_is_no_array_of_the_type_is_refused(size: int) -> None:
    words = f'{size} bytes is not an array of float32; .* label="c:float32"'
    with pytest.raises(ConfigError, match=words):
        blob_column("c", "float32", size)


def test_names_may_contain_colons() -> None:
    assert split_label("a:int32") == ("a", "int32")
    assert split_label("a:b:int32") == ("a:b", "int32")
    assert split_label("Größe") == ("Größe", None)


def test_integers_are_stored_exactly_or_not_at_all() -> None:
    values = [0, -128, 127, 128, 1.0, 1.5, "1", None, b"1", float("nan")]
    got, bad = stored(Column("c", "int8"), values)
    assert got[:3] == [0, -128, 127]
    assert got[4] == 1
    assert set(bad) == {3, 5, 6, 7, 8, 9}
    assert bad[3] == "column 'c' holds 128, int8 is needed"
    assert bad[7] == "column 'c' holds NULL, int8 is needed"


def test_bools_are_zero_and_one() -> None:
    got, bad = stored(Column("c", "bool"), [0, 1, 2])
    assert got[:2] == [False, True]
    assert set(bad) == {2}


def test_floats_take_integers_but_no_text() -> None:
    got, bad = stored(Column("c", "float64"), [1, 2.5, "2.5"])
    assert got[:2] == [1.0, 2.5]
    assert set(bad) == {2}


def test_vectors_have_one_length() -> None:
    values = [np.float32([1, 2]).tobytes(), b"1234", "12345678"]
    got, bad = stored(Column("c", "float32", (2,)), values)
    assert got[0] == [1.0, 2.0]
    assert bad[1] == "column 'c' holds a blob of 4 bytes, a blob of 8 bytes (2 x float32) is needed"
    assert set(bad) == {1, 2}


def test_text_is_text() -> None:
    got, bad = stored(Column("c", "text"), ["cat", "", "Größe", 3, None, "\udcff"])
    assert got[:3] == ["cat", "", "Größe"]
    assert set(bad) == {3, 4, 5}


FLOATS = {
    "float16": ([65504, -65504, 2048], [65520.0, -1e5, 2049, 70000]),
    "float32": ([3.4e38, 2**24, -(2**60)], [1e300, -3.5e38, 2**24 + 1, 2**63 - 1]),
    "float64": ([1e308, 2**53, 2**62], [2**53 + 1, 2**63 - 1]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", FLOATS)
def test_no_float_becomes_infinite_and_no_integer_is_rounded(dtype: str) -> None:
    for is_good, values in zip((True, False), FLOATS[dtype], strict=True):
        for value in values:
            given = Values.of([value])
            target = np.zeros(1, dtype)
            bad = store(Column("c", dtype), given, target)
            assert (not bad) == is_good, value
            if is_good:
                assert target[0] == np.dtype(dtype).type(value)
            else:
                assert f"holds {value!r}, {dtype} is needed" in bad[0]


def test_infinity_and_nan_and_rounded_floats_are_floats() -> None:
    values = [math.inf, -math.inf, math.nan, 0.1]
    target = np.zeros(4, np.float32)
    assert store(Column("c", "float32"), Values.of(values), target) == {}
    np.testing.assert_array_equal(target, np.float32(values))


def test_a_float_that_overflows_is_told_of_a_type_that_holds_it() -> None:
    bad = store(Column("c", "float32"), Values.of([1e300]), np.zeros(1, np.float32))
    assert bad[0].endswith('float32 is needed; name a type that holds it, e.g. "c:float64"')


def test_an_array_with_a_number_that_overflows_is_refused_as_a_whole() -> None:
    target = np.zeros((2, 2), np.float32)
    arrays = np.array([[1.0, 2.0], [1.0, 1e300]])
    given = Values(np.full(2, ARRAY, np.uint8), arrays, np.zeros((2, 2), np.intp))
    bad = store(Column("c", "float32", (2,)), given, target)
    assert set(bad) == {1}

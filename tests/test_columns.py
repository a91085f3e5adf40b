"""Values of the database become columns of a batch, or are reported as not fitting."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader.checks.kinds import NUMBERS
from fastloader.errors import ConfigError
from fastloader.fields import _kernel
from fastloader.fields.blobs import blob_column
from fastloader.fields.casts import cast
from fastloader.fields.columns import Column
from fastloader.fields.ragged_rows import RaggedRows
from fastloader.fields.scalars import decoded_texts
from fastloader.fields.value import Value
from fastloader.fields.values import INTEGER, REAL, Values
from fastloader.options.labels import split_label

from .pg_arrays import pg_arrays


def store(column: Column, values: Values, target: Any) -> dict[int, str]:
    return Value(column.name).store(column, values, target, 0)


def stored(column: Column, values: list[Any]) -> tuple[list[Any], dict[int, str]]:
    if column.is_text:
        rows, offsets = RaggedRows(column, np.zeros(0, np.uint8), len(values)), np.zeros(99, int)
        bad = store(column, Values.of(values), rows)
        items = rows.finish(np.arange(len(values)), offsets)
        assert items is not None
        return decoded_texts(items, offsets[: len(values) + 1]).tolist(), bad
    target = np.zeros((len(values), *column.fixed_shape), column.dtype)
    bad = store(column, Values.of(values), target)
    return target.tolist(), bad


def delivered(dtype: str | None, size: int) -> Column:
    (column,) = Value("c", dtype=dtype).delivered("c", blob_column("c", b"", size))
    return column


def test_blobs_are_arrays_of_bytes_or_of_the_type_that_is_asked_for() -> None:
    assert delivered(None, 8) == Column("c", "uint8", (8,), "raw")
    assert delivered("float32", 8) == Column("c", "float32", (2,), "raw")


@pytest.mark.parametrize("size", [0, 7])
def test_a_blob_that_is_no_array_of_the_type_is_refused(size: int) -> None:
    words = f'{size} bytes, which is not an array of float32: .* label="c:float32"'
    with pytest.raises(ConfigError, match=words):
        delivered("float32", size)


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
    got, bad = stored(Column("c", "float32", (2,), "raw"), values)
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


EDGES = [2**n + d for n in (0, 7, 8, 11, 15, 16, 24, 31, 32, 53, 62) for d in (-2, -1, 0, 1, 2)]
INTEGERS = st.sampled_from([*EDGES, *(-its for its in EDGES), 2**63 - 1, -(2**63)])
REALS = st.sampled_from(
    [math.inf, math.nan, -0.0, 2.0**63, 2.0**64, 2.0**-25, 65519.99, 65520.0, 3.4028235677973366e38]
)


@pytest.mark.parametrize("dtype", NUMBERS)
@given(
    values=st.lists(
        INTEGERS
        | INTEGERS.map(float)
        | REALS
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats()
        | st.floats(width=16)
        | st.none()
    )
)
def test_numbers_are_stored_as_numpy_stores_those_that_fit(dtype: str, values: list[Any]) -> None:
    given_values = Values.of(values)
    target, wanted = np.ones(len(values), dtype), np.zeros(len(values), dtype)
    fits, bad = _kernel.store_numbers(given_values.kinds, given_values.numbers, target)
    expected = np.zeros(len(values), np.bool_)
    numbers = given_values.numbers
    for kind, its in ((INTEGER, numbers), (REAL, numbers.view(np.float64))):
        rows = given_values.kinds == kind
        some = wanted[rows]
        expected[rows], wanted[rows] = cast(its[rows], some), some
    assert fits.tolist() == expected.tolist()
    assert bad == len(values) - expected.sum()
    np.testing.assert_array_equal(target[fits], wanted[fits])
    if dtype.startswith("float"):
        assert np.signbit(target[fits]).tolist() == np.signbit(wanted[fits]).tolist()


def test_every_float16_is_stored_and_what_lies_between_two_is_rounded_to_even() -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    exact = halves.astype(np.float64)
    finite = np.sort(exact[np.isfinite(exact)])
    between = (finite[1:] + finite[:-1]) / 2
    for values in (exact, between, np.nextafter(between, -math.inf), np.nextafter(between, 1e9)):
        kinds, target = np.full(len(values), REAL, np.uint8), np.zeros(len(values), np.float16)
        fits, bad = _kernel.store_numbers(kinds, values.view(np.int64), target)
        assert bad == 0
        assert fits.all()
        np.testing.assert_array_equal(target, values.astype(np.float16))


def test_the_place_for_numbers_is_checked() -> None:
    kinds, numbers = np.zeros(3, np.uint8), np.zeros(3, np.int64)
    for target in (np.zeros(2), np.zeros((3, 1)), np.zeros(3, ">i4"), np.zeros(3, "longdouble")):
        with pytest.raises(ValueError, match="no place for 3 numbers"):
            _kernel.store_numbers(kinds, numbers, target)
    with pytest.raises(ValueError, match="no place for 3 numbers"):
        _kernel.store_numbers(kinds, numbers[:2], np.zeros(3))
    with pytest.raises(ValueError, match="contiguous"):
        _kernel.store_numbers(kinds, numbers, np.zeros(6)[::2])


def test_the_types_that_can_be_asked_for_are_those_that_can_be_stored() -> None:
    assert set(NUMBERS) == set(_kernel.NUMBERS)


def test_infinity_and_nan_and_rounded_floats_are_floats() -> None:
    values = [math.inf, -math.inf, math.nan, 0.1]
    target = np.zeros(4, np.float32)
    assert store(Column("c", "float32"), Values.of(values), target) == {}
    np.testing.assert_array_equal(target, np.float32(values))


def test_a_float_that_overflows_is_told_of_a_type_that_holds_it() -> None:
    bad = store(Column("c", "float32"), Values.of([1e300]), np.zeros(1, np.float32))
    assert bad[0].endswith('float32 is needed; name a type that holds it, e.g. "c:float64"')


# ---- arrays in the form of a database ------------------------------------------------------------


ELEMENTS = {
    "bool": [True, False],
    "int16": [-(2**15), 258],
    "int32": [-(2**31), 16_909_060],
    "int64": [-(2**63), 2**53 + 1],
    "float32": [float("inf"), 2.0**-149],
    "float64": [1e300, 5e-324],
}


@pytest.mark.parametrize("dtype", ELEMENTS)
@pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 1, 1, 1, 1, 1)])
def test_arrays_of_every_element_are_decoded_into_the_batch(
    dtype: str, shape: tuple[int, ...]
) -> None:
    array = np.array(ELEMENTS[dtype], dtype).reshape(shape)
    target = np.zeros((5, *shape), dtype)
    assert store(Column("c", dtype, shape), pg_arrays([array] * 3, dtype), target[1:]) == {}
    for row in range(5):
        assert target[row].tolist() == (array if 0 < row < 4 else np.zeros_like(array)).tolist()


def test_a_bool_is_never_anything_but_0_or_1() -> None:
    given = pg_arrays([[True]], "bool")
    blob = bytearray(given.value(0))
    blob[-1] = 2
    given = dataclasses.replace(Values.of([bytes(blob)]), form=given.form)
    target = np.zeros((1, 1), np.bool_)
    assert store(Column("c", "bool", (1,)), given, target) == {}
    assert target.view(np.uint8).tolist() == [[1]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("dtype", "wanted", "good", "bad"),
    [
        ("float64", "float32", [0.1, 3.4e38], [1.0, 1e300]),
        ("int64", "float32", [1, 2**24], [1, 2**24 + 1]),
        ("int32", "uint8", [0, 255], [0, -1]),
        ("float32", "int8", [-128, 5], [0.5, 5]),
        ("int16", "bool", [1, 0], [1, 2]),
        ("bool", "float16", [True, False], None),
    ],
)
def test_arrays_of_another_type_keep_their_values_or_are_refused_as_a_whole(
    dtype: str, wanted: str, good: list[Any], bad: list[Any] | None
) -> None:
    rows = [good, bad or good] * 40_000  # in several blocks
    target = np.zeros((80_000, 2), wanted)
    reasons = store(Column("c", wanted, (2,)), pg_arrays(rows, dtype), target)
    assert (target[::2] == np.array(good).astype(wanted)).all()
    assert list(reasons) == ([] if bad is None else list(range(1, 80_000, 2)))
    if bad is not None:
        held = np.array(bad, dtype).tolist()
        assert reasons[1] == f"column 'c' holds {held}, an array of 2 x {wanted} is needed"


def test_the_place_for_arrays_is_checked() -> None:
    given = pg_arrays([[1, 2]], "int32")
    wanted = np.ones(1, np.bool_)
    for target in (np.zeros((0, 2), "i4"), np.zeros((1, 2), "c16"), np.zeros((1,) * 8, "i4")):
        with pytest.raises(ValueError, match="no place for 1 arrays|no arrays of the shape"):
            _kernel.arrays(given.blobs, wanted, "pg_array", 1, target)
    with pytest.raises(ValueError, match="a flag for each row"):
        _kernel.arrays(given.blobs, wanted[:0], "pg_array", 1, np.zeros((1, 2), "i4"))

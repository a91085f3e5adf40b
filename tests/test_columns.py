"""Values of the database become columns of a batch, or are reported as not fitting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastloader.errors import ConfigError
from fastloader.fields.columns import Column, blob_column, store
from fastloader.options.labels import split_label


def stored(column: Column, values: list[Any]) -> tuple[list[Any], dict[int, str]]:
    dtype = object if column.is_text else column.dtype
    target = np.zeros((len(values), *column.shape), dtype)
    bad = store(column, values, target)
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
    assert got == [False, True, False]
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

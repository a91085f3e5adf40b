"""Label types come from the declared type and from many values, by table and by query alike."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import ConfigError, FastLoader
from fastloader.fields.columns import Column
from fastloader.source.sqlite.types import affinity, label_column

from .support import jpeg, table

IMAGE = jpeg(8, 8)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ("INT", "INTEGER"), ("BIGINT UNSIGNED", "INTEGER"), ("VARCHAR(20)", "TEXT"),
        ("BLOB", "BLOB"), ("", "BLOB"), ("DOUBLE PRECISION", "REAL"), ("float", "REAL"),
        ("DECIMAL(10,2)", "NUMERIC"), ("BOOLEAN", "NUMERIC"), ("DATETIME", "NUMERIC"),
        ("FLOATING POINT", "INTEGER"),
    ],
)  # fmt: skip
def test_affinities_are_sqlites_own(declared: str, expected: str) -> None:
    assert affinity(declared) == expected


@pytest.mark.parametrize(
    ("declared", "values", "column"),
    [
        ("INTEGER", [3], Column("c", "int64")),
        ("INTEGER", [3, 2.5], Column("c", "float64")),
        ("BOOLEAN", [1], Column("c", "bool")),
        ("REAL", [3.5], Column("c", "float64")),
        ("TEXT", ["cat"], Column("c", "text")),
        ("DECIMAL(5,2)", [3], Column("c", "float64")),
        ("NUMERIC", [None, 3], Column("c", "float64")),
        ("NUMERIC", ["n/a", 3], Column("c", "float64")),
        ("DATETIME", [1700000000], Column("c", "int64")),
        ("DATETIME", ["2024-01-01"], Column("c", "text")),
        ("", [3, 4], Column("c", "int64")),
        ("", [3, 2.5], Column("c", "float64")),
        ("", ["cat", "dog", 3], Column("c", "text")),
        ("STRING", ["cat", "dog", 7], Column("c", "text")),
        ("INTEGER", ["n/a", 7, 8], Column("c", "int64")),
        ("DECIMAL(10)", [3], Column("c", "int64")),
        ("NUMERIC(10, 0)", [3], Column("c", "int64")),
        ("POINT", [b"12345678"], Column("c", "uint8", (8,), "raw")),
        ("BLOB", [b"12345678"], Column("c", "uint8", (8,), "raw")),
        ("FLOAT[2]", [b"12345678"], Column("c", "uint8", (8,), "raw")),
    ],
)
def test_a_type_follows_from_declaration_and_values(
    declared: str, values: list[Any], column: Column
) -> None:
    assert label_column("c", None, declared, values) == column


@pytest.mark.parametrize(
    ("dtype", "values", "column"),
    [
        ("float32", [b"12345678"], Column("c", "uint8", (8,), "raw")),
        ("int32", [3], Column("c", "int32")),
        ("int64", [None], Column("c", "int64")),
        ("text", [b"cat"], Column("c", "text")),
    ],
)
@pytest.mark.parametrize("declared", ["", "POINT", "INTEGER"])
def test_a_type_that_is_asked_for_is_given(
    declared: str, dtype: str, values: list[Any], column: Column
) -> None:
    assert label_column("c", dtype, declared, values) == column


def test_an_integer_that_a_float_cannot_hold_is_a_bad_row(tmp_path: Path) -> None:
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label NUMERIC"
    path = table(tmp_path / "t.db", [(1, IMAGE, 2**53 + 1), (2, IMAGE, 2**53)], columns=columns)
    with FastLoader(path, size=(8, 8), workers=0, on_error="skip") as loader:
        assert [labels.tolist() for _, labels in loader] == [[2.0**53]]
        assert loader.bad_rows[0][1] == "column 'label' holds 9007199254740993, float64 is needed"
    assert loaded(path, label="label:int64").tolist() == [2**53 + 1, 2**53]


def loaded(path: str, **options: Any) -> Any:
    with FastLoader(path, size=(8, 8), batch_size=8, workers=0, **options) as loader:
        labels = [labels for _, labels in loader]
        assert loader.bad_rows == []
        return np.concatenate(labels)


@pytest.mark.parametrize("options", [{}, {"query": "SELECT id, image_data, label FROM images"}])
@pytest.mark.parametrize(
    ("declared", "values", "dtype"),
    [
        ("DECIMAL(5,2)", [3.0] * 30 + [2.5] * 90, "float64"),
        ("NUMERIC", [3] * 119 + [2.5], "float64"),
        ("BOOLEAN", [0, 1] * 60, "bool"),
        ("INTEGER", [7] * 120, "int64"),
        ("REAL", [7] * 120, "float64"),
        ("", [7] * 110 + [0.5] * 10, "float64"),
    ],
)
def test_no_row_is_lost_to_a_type_and_queries_are_as_tables(
    tmp_path: Path, declared: str, values: list[Any], dtype: str, options: dict[str, Any]
) -> None:
    columns = f"id INTEGER PRIMARY KEY, image_data BLOB, label {declared}"
    rows = [(i, IMAGE, value) for i, value in enumerate(values)]
    labels = loaded(table(tmp_path / "t.db", rows, columns=columns), on_error="skip", **options)
    assert labels.dtype == dtype
    assert labels.tolist() == values


def test_a_type_that_turns_out_wrong_is_named_with_the_remedy(tmp_path: Path) -> None:
    rows = [(i, IMAGE, 2.5 if i == 1001 else 3) for i in range(1, 1200)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label"
    path = table(tmp_path / "t.db", rows, columns=columns)
    with FastLoader(path, size=(8, 8), workers=0, on_error="skip") as loader:
        list(loader)
        ((key, reason),) = loader.bad_rows
    assert key == 1001
    assert reason == (
        "column 'label' holds 2.5, int64 is needed; name a type that holds it, e.g. "
        '"label:float64"'
    )
    assert loaded(path, label="label:float64").tolist() == [row[2] for row in rows]


@pytest.mark.parametrize("dtype", ["", ":int64"])
@pytest.mark.parametrize("role", ["label", "sample_weight"])
@pytest.mark.parametrize(
    ("declared", "value"), [("INTEGER", np.int64(3)), ("REAL", np.float32(0.5))]
)
def test_numpy_numbers_that_were_stored_as_bytes_are_refused_with_the_remedy(
    tmp_path: Path, declared: str, value: Any, role: str, dtype: str
) -> None:
    """Python's sqlite3 stores them as blobs, because they have a buffer."""
    columns = f"id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER, n {declared}"
    path = table(tmp_path / "t.db", [(1, IMAGE, 0, value)], columns=columns)
    database = sqlite3.connect(path)
    assert database.execute("SELECT typeof(n) FROM images").fetchone() == ("blob",)
    database.close()
    words = rf"declared {declared} and holds blobs of {value.itemsize} bytes.*register_adapter"
    with pytest.raises(ConfigError, match=words):
        FastLoader(path, workers=0, **{role: f"n{dtype}"})


def test_a_small_array_in_a_blob_column_stays_an_array(tmp_path: Path) -> None:
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label BLOB"
    path = table(tmp_path / "t.db", [(1, IMAGE, np.float32([0.5, 2]).tobytes())], columns=columns)
    assert loaded(path, label="label:float32").tolist() == [[0.5, 2.0]]


def test_an_image_in_a_text_column_can_be_read_as_the_error_says(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", [(1, IMAGE, 5)])
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE images SET image_data = CAST(image_data AS TEXT)")
    database.close()
    with FastLoader(path, size=(8, 8), workers=0, on_error="skip") as loader:
        list(loader)
        ((_, reason),) = loader.bad_rows
    assert "CAST(image_data AS BLOB) AS image_data" in reason
    query = "SELECT id, CAST(image_data AS BLOB) AS image_data, label FROM images"
    assert loaded(path, query=query).tolist() == [5]

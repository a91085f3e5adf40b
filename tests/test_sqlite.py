"""What is particular to SQLite."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from fastloader.errors import FastloaderWarning, PlanError, SourceError
from fastloader.fields.columns import Column
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.source.protocol import Source
from fastloader.source.sqlite import file as sqlitefile

from .support import all_keys, bad_rows, simple_rows, table


def opened(path: str | os.PathLike[str], **options: Any) -> Source:
    return open_source(make_config({"url": path, **options}, {}))


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        opened(tmp_path / "no.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder"):
        opened(tmp_path)
    other = tmp_path / "other.db"
    other.write_text("this is no database at all, but it is long enough to be looked at")
    with pytest.raises(SourceError, match="cannot open it as a SQLite database: file is not a"):
        opened(other)


def test_missing_tables_and_columns_are_named_with_those_that_there_are(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(1))
    with pytest.raises(SourceError, match="no table 'pictures'; there are: images"):
        opened(path, table="pictures")
    with pytest.raises(SourceError, match="no column 'class'; there are id, image_data, label"):
        opened(path, label="class")
    with pytest.raises(SourceError, match="no column 'jpeg'"):
        opened(path, image="jpeg")
    with pytest.raises(SourceError, match="no column 'key'"):
        opened(path, key="key")
    with pytest.raises(SourceError, match='t.db, query: cannot run the query: near "SELEKT"'):
        opened(path, query="SELEKT 1")
    with pytest.raises(SourceError, match="cannot run the query: incomplete input"):
        opened(path, query="SELECT * FROM")
    with pytest.raises(SourceError, match='cannot run the query: near ";"'):
        opened(path, query="SELECT * FROM images; DROP TABLE images")


def test_a_query_may_end_in_a_semicolon_or_a_comment_and_may_have_ctes(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(9))
    for query in (
        "SELECT * FROM images WHERE id > 4 ;\n",
        "SELECT * FROM images WHERE id > 4 -- the later ones",
        "WITH late AS (SELECT * FROM images WHERE id > 4) SELECT * FROM late",
    ):
        source = opened(path, query=query)
        assert all_keys(source).tolist() == [5, 6, 7, 8, 9]
        source.close()


def test_names_are_quoted(tmp_path: Path) -> None:
    columns = '"the ""key""" INTEGER PRIMARY KEY, "select" BLOB, "größe" INTEGER'
    path = table(tmp_path / "t.db", simple_rows(3), columns=columns, name="my table")
    source = opened(path, table="my table", key='the "key"', image="select", label="größe")
    assert all_keys(source).tolist() == [1, 2, 3]
    assert [c.keys.tolist() for c in source.read([(2, 3)], ())] == [[2, 3]]
    source.close()


def test_bad_keys_are_refused_with_advice(tmp_path: Path) -> None:
    columns = "id INT, image_data BLOB, label INT"
    index = pytest.warns(FastloaderWarning, match="CREATE UNIQUE INDEX")
    path = table(tmp_path / "a.db", [(1, b"", 0), (None, b"", 0)], columns=columns)
    source = opened(path)
    with index, pytest.raises(PlanError, match="'id' is NULL in 1 row;.*rowid"):
        all_keys(source)
    source.close()
    path = table(tmp_path / "b.db", [(1, b"", 0), ("x", b"", 0)], columns=columns)
    source = opened(path)
    with index, pytest.raises(PlanError, match="'id' holds 1 and 'x'; keys must be.*rowid"):
        all_keys(source)
    source.close()
    source = opened(path, key="rowid")
    assert all_keys(source).tolist() == [1, 2]
    source.close()


def test_a_key_without_an_index_is_warned_of_with_the_remedy(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(3), columns="id INT, image_data BLOB, label INT")
    source = opened(path)
    with pytest.warns(FastloaderWarning, match="no index serves") as caught:
        all_keys(source)
    source.close()
    remedy = str(caught[0].message).split("Run: ")[1]
    connection = sqlite3.connect(path)
    connection.execute(remedy)
    connection.close()
    source = opened(path)
    all_keys(source)  # a warning would be an error here
    source.close()


def test_a_label_that_starts_with_nulls_takes_its_type_from_the_first_value(
    tmp_path: Path,
) -> None:
    rows = [(i, b"", None if i < 5 else 0.5) for i in range(1, 9)]
    source = opened(
        table(tmp_path / "t.db", rows, columns="id INTEGER PRIMARY KEY, image_data, label")
    )
    assert source.label_columns(all_keys(source)) == (Column("label", "float64"),)
    source.close()
    rows = [(i, b"", None) for i in range(1, 9)]
    source = opened(table(tmp_path / "n.db", rows))
    with pytest.raises(SourceError, match='NULL in every row.*example label="label:int64"'):
        source.label_columns(all_keys(source))
    source.close()


def test_an_image_that_is_no_blob_is_named_with_its_column(tmp_path: Path) -> None:
    rows = [(1, b"l", b"r"), (2, b"l", "text"), (3, 7, b"r")]
    path = table(tmp_path / "t.db", rows, columns="id INTEGER PRIMARY KEY, l BLOB, r BLOB")
    source = opened(path, image=["l", "r"], label=None)
    (chunk,) = source.read([(1, 3)], ())
    bad = bad_rows(chunk, "l", "r")
    assert bad[1].startswith("column 'r' is text, not a blob;")
    assert bad[2] == "column 'l' is int, not a blob"
    source.close()


def test_a_locked_file_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlitefile, "BUSY_TIMEOUT_S", 0.1)
    path = table(tmp_path / "t.db", simple_rows(3))
    source = opened(path)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SourceError, match="cannot read keys 1 to 3: database is locked"):
        list(source.read([(1, 3)], ()))
    writer.close()
    source.close()


def test_a_file_in_wal_mode_is_read_beside_its_writer(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(3))
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    source = opened(path)
    assert all_keys(source).tolist() == [1, 2, 3]
    writer.execute("DELETE FROM images WHERE id = 2")
    assert all_keys(source).tolist() == [1, 3]
    source.close()
    writer.close()

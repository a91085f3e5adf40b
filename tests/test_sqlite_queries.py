"""Queries and views that return other rows each time are refused, and no advice is wrong."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader
from fastloader.errors import FastloaderWarning, PlanError, RowError, SourceError
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.source.protocol import Source
from fastloader.source.sqlite.file import connect
from fastloader.source.sqlite.keys import TableKeys
from fastloader.source.sqlite.table import SQLiteTable

from .support import all_keys, simple_rows, table


def opened(path: str, **options: Any) -> Source:
    return open_source(make_config({"url": path, **options}, {}))


def changed(path: str, *statements: str) -> None:
    database = sqlite3.connect(path)
    with database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM images ORDER BY random() LIMIT 20",
        "SELECT * FROM images WHERE abs(RANDOM() % 10) < 8",
        "SELECT row_number() OVER (ORDER BY random()) AS id, image_data, label FROM images",
        "SELECT *, hex(randomblob(4)) AS token FROM images",
        "SELECT * FROM sample",
    ],
)
def test_a_query_that_calls_random_is_refused_with_what_to_do(
    tmp_path: Path, query: str, workers: int
) -> None:
    path = table(tmp_path / "t.db", simple_rows(40))
    changed(path, "CREATE VIEW sample AS SELECT * FROM images WHERE random() % 2")
    words = r"(?i)calls random(blob)?\(\), so it returns other rows each time. Pass shuffle=True"
    with pytest.raises(SourceError, match=words):
        FastLoader(path, query=query, workers=workers)


def test_a_view_that_calls_random_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(40))
    changed(path, "CREATE VIEW sample AS SELECT * FROM images WHERE random() % 2")
    with pytest.raises(SourceError, match=r"calls random\(\)"):
        opened(path, table="sample")


@pytest.mark.filterwarnings("ignore:.*no index serves")
@pytest.mark.parametrize("options", [{"query": "SELECT * FROM images LIMIT 10"}, {"table": "ten"}])
def test_rows_that_depend_on_how_they_are_read_are_refused(
    tmp_path: Path, options: dict[str, str]
) -> None:
    """SQLite takes the first ten keys of the smaller index, but the first ten rows of the table."""
    path = table(tmp_path / "t.db", [(i, b"", 100 - i) for i in range(1, 101)])
    changed(
        path,
        "CREATE INDEX by_label ON images (label)",
        "CREATE VIEW ten AS SELECT * FROM images LIMIT 10",
    )
    source = opened(path, **options)
    with pytest.raises(PlanError, match="must return the same rows each time: with LIMIT"):
        all_keys(source)
    source.close()
    source = opened(path, query="SELECT * FROM images ORDER BY id LIMIT 10")
    assert all_keys(source).tolist() == [*range(1, 11)]
    source.close()


@pytest.mark.filterwarnings("ignore:.*no index serves")
def test_a_deterministic_window_function_is_fine(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(20, gap=7))
    query = "SELECT row_number() OVER (ORDER BY id) AS n, image_data, label FROM images"
    with FastLoader(path, query=query, key="n", size=(8, 8), batch_size=8, workers=0) as loader:
        assert [n for _, labels in loader for n in labels.tolist()] == [*range(0, 200, 10)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"query": "SELECT * FROM images"}, "the row is gone.*query may not return the same rows"),
        ({}, "the row is gone: it was there when the keys were read[.] Repair"),
    ],
)
def test_a_row_that_a_query_has_lost_may_be_the_querys_fault(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    path = table(tmp_path / "t.db", simple_rows(20))
    with FastLoader(path, size=(8, 8), batch_size=8, workers=0, **options) as loader:
        changed(path, "DELETE FROM images WHERE id = 3")
        with pytest.raises(RowError, match=expected):
            list(loader)


WRITER = """
import sqlite3, sys, time
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
n = 0
while True:
    database.execute("UPDATE images SET label = (label + 1) % 10 WHERE id = 1 + ? % 5000", (n,))
    n += 7
    time.sleep(0.001)
"""


@pytest.mark.filterwarnings("ignore:.*no index serves")
def test_a_view_of_a_table_that_is_written_to_is_not_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", [(i, b"", i % 10) for i in range(1, 5001)])
    changed(
        path,
        "PRAGMA journal_mode = WAL",
        "CREATE VIEW some AS SELECT DISTINCT * FROM images WHERE label < 8",
    )
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path])
    try:
        for _ in range(20):
            source = opened(path, table="some")
            assert 3000 < len(all_keys(source)) < 5000
            source.close()
    finally:
        writer.kill()
        writer.wait()


@pytest.mark.parametrize("query", ["SELECT * FROM images", "SELECT * FROM fl_query WHERE id > 1"])
def test_a_plain_query_is_read_once(tmp_path: Path, query: str) -> None:
    path = table(tmp_path / "t.db", simple_rows(9))
    changed(path, "CREATE VIEW fl_query AS SELECT id, image_data, label FROM images")
    with contextlib.closing(connect(path).database) as database:
        config = make_config({"url": path, "query": query}, {})
        assert not TableKeys(SQLiteTable(config, database, "t")).depends_on_the_plan()
    source = opened(path, query=query)
    assert len(all_keys(source)) == 9 - ("WHERE" in query)
    source.close()


# ---- the rowid -----------------------------------------------------------------------------------

WITHOUT_ROWID = "CREATE TABLE pairs (a INTEGER, b INTEGER, image_data BLOB, PRIMARY KEY (a, b))"


@pytest.fixture
def rowless(tmp_path: Path) -> str:
    path = table(tmp_path / "t.db", simple_rows(3))
    changed(
        path,
        f"{WITHOUT_ROWID} WITHOUT ROWID",
        "INSERT INTO pairs VALUES (1, 1, x'', 0), (1, 2, x'', 0)".replace(", 0)", ")"),
        "CREATE VIEW seen AS SELECT id, image_data, label FROM images",
    )
    return path


@pytest.mark.parametrize("name", ["pairs", "seen"])
@pytest.mark.parametrize("column", ["key", "label"])
def test_what_has_no_rowid_has_no_such_column(rowless: str, name: str, column: str) -> None:
    options = {"key": "a" if name == "pairs" else "id", "label": None, column: "rowid"}
    with pytest.raises(SourceError, match="no column 'rowid'; there are "):
        opened(rowless, table=name, **options)


def test_a_view_is_not_to_be_indexed(rowless: str) -> None:
    changed(rowless, "CREATE VIEW sums AS SELECT id + label AS id, image_data, label FROM images")
    source = opened(rowless, table="sums")
    with pytest.warns(FastloaderWarning, match="Select a key that is indexed in its table"):
        all_keys(source)
    source.close()

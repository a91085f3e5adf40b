"""Keys of all kinds in SQLite, and advice for those that cannot be keys, which is followed here."""

from __future__ import annotations

import ast
import contextlib
import re
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader import FastLoader
from fastloader.errors import FastloaderError, FastloaderWarning, PlanError
from fastloader.fields.columns import Column
from fastloader.options.config import make_config
from fastloader.plan.keys import key_values
from fastloader.source.opening import open_source
from fastloader.source.protocol import Source

from .support import all_keys, jpeg, table
from .tiers import few

IMAGE = jpeg(8, 8)
UUIDS = [uuid.UUID(int=n * 0x1234567_89AB_CDEF_0123_4567_89AB_CDEF % 2**128) for n in range(40)]
WORDS = ["", "a", "A", "ä", "Z", "zebra", "a b", "'", '"', "\\x", "1", "01", "日本", "x" * 1024]


def opened(path: str, **options: Any) -> Source:
    return open_source(make_config({"url": path, **options}, {}))


def changed(path: str, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def delivered(path: str, **options: Any) -> dict[Any, int]:
    """Return the label of each key, with the checks that each comes once, and in order too."""
    found: dict[Any, int] = {}
    for shuffle in (True, False):
        loader = FastLoader(
            path, size=(8, 8), batch_size=3, with_keys=True, shuffle=shuffle, **options
        )
        with loader:
            rows = []
            for x, labels in loader:
                keys = x[options.get("key", "id")].tolist()
                rows += zip(keys, labels.tolist(), strict=True)
        assert len(dict(rows)) == len(rows)
        assert not found or dict(rows) == found
        found = dict(rows)
    return found


KINDS: dict[str, tuple[str, list[Any], list[Any]]] = {
    "integers": ("INTEGER", [5, -3, 2**63 - 1, -(2**63)], [5, -3, 2**63 - 1, -(2**63)]),
    "text": ("TEXT", WORDS, WORDS),
    "text in a column of numbers": ("INT", ["a", "b-1", "c"], ["a", "b-1", "c"]),
    "untyped": ("", ["b", "a", "1"], ["b", "a", "1"]),
    "uuid as text": ("UUID", [str(key) for key in UUIDS], [str(key) for key in UUIDS]),
    "uuid as blob": ("UUID", [key.bytes for key in UUIDS], [str(key) for key in UUIDS]),
    "blobs": ("BLOB", [b"\0", b"\0\0", b"", b"a\xff", b"x" * 16], ["\\x00", "\\x0000", "\\x",
                                                              "\\x61ff", "\\x" + "78" * 16]),
    "numbers as text": ("TEXT", ["10", "9", "1"], ["10", "9", "1"]),
}  # fmt: skip


@few(3)
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("rowid", ["", " WITHOUT ROWID"])
@pytest.mark.parametrize("kind", KINDS)
def test_keys_of_each_kind_deliver_every_row(
    tmp_path: Path, kind: str, rowid: str, workers: int
) -> None:
    declared, keys, shown = KINDS[kind]
    path = str(tmp_path / "t.db")
    sql = f"CREATE TABLE images (id {declared} PRIMARY KEY, image_data BLOB, label INTEGER){rowid}"
    changed(path, sql)
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = [(key, IMAGE, i) for i, key in enumerate(keys)]
        database.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
    assert delivered(path, workers=workers) == {key: i for i, key in enumerate(shown)}


@pytest.mark.parametrize("collation", ["BINARY", "NOCASE", "RTRIM"])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_text_keys_come_in_the_order_of_their_collation(
    tmp_path: Path, collation: str, encoding: str
) -> None:
    path = str(tmp_path / "t.db")
    words = ["b", "A", "Ab", "a a", "ac", "Z", "é", "c ", "\U0001f600", "\uffee"]
    columns = f"id TEXT COLLATE {collation} PRIMARY KEY, image_data BLOB, label INTEGER"
    changed(path, f"PRAGMA encoding = '{encoding}'", f"CREATE TABLE images ({columns})")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = [(word, IMAGE, i) for i, word in enumerate(words)]
        database.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
        order = [word for (word,) in database.execute("SELECT id FROM images ORDER BY id")]
    source = opened(path, fetch_bytes=1)
    assert key_values(all_keys(source)) == order
    chunks = list(source.read([(order[2], order[-1])], ()))
    assert [key for chunk in chunks for key in key_values(chunk.keys)] == order[2:]
    source.close()
    assert len(delivered(path, workers=0)) == len(words)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(
    lambda text: not text.endswith("\0")
)


@given(
    keys=st.one_of(
        st.sets(TEXTS, min_size=1, max_size=20),
        st.sets(st.binary(max_size=6), min_size=1, max_size=20),
        st.sets(st.binary(min_size=16, max_size=16), min_size=1, max_size=5),
        st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20),
    ),
    fetch_bytes=st.sampled_from([1, 60, 1 << 20]),
)
def test_any_keys_come_back_from_their_ranges(
    tmp_path_factory: pytest.TempPathFactory, keys: set[Any], fetch_bytes: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "keys.db"
    path.unlink(missing_ok=True)
    rows = [(key, b"", i) for i, key in enumerate(sorted(keys))]
    table(path, rows, columns="id PRIMARY KEY, image_data BLOB, label INTEGER")
    source = opened(str(path), fetch_bytes=fetch_bytes)
    stored = all_keys(source)
    shown = key_values(stored)
    order = np.random.default_rng(0).permutation(len(shown)).tolist()
    ranges = [(shown[i], shown[i]) for i in order] + [(shown[0], shown[-1])]
    chunks = list(source.read(ranges, (Column("label", "int64"),)))
    assert [key for chunk in chunks for key in key_values(chunk.keys)] == [
        *(shown[i] for i in order),
        *shown,
    ]
    labels = np.concatenate([chunk.columns["label"].numbers for chunk in chunks])
    assert labels.tolist() == [*order, *range(len(shown))]
    assert {chunk.keys.dtype.kind for chunk in chunks} == {stored.dtype.kind}
    source.close()


def test_bytes_of_a_key_that_are_not_utf8_are_kept(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", [("a", IMAGE, 1)], columns="id PRIMARY KEY, image_data, label")
    changed(path, "INSERT INTO images VALUES (CAST(x'61ff' AS TEXT), x'', 2)")
    source = opened(path)
    assert key_values(all_keys(source)) == ["a", "a\udcff"]
    (chunk,) = source.read([("a\udcff", "a\udcff")], ())
    assert key_values(chunk.keys) == ["a\udcff"]
    source.close()


def test_a_view_has_the_keys_that_it_names(tmp_path: Path) -> None:
    columns = "name TEXT PRIMARY KEY, image_data BLOB, label INTEGER"
    path = table(tmp_path / "t.db", [(w, IMAGE, i) for i, w in enumerate("dbca")], columns=columns)
    changed(path, "CREATE VIEW seen AS SELECT name AS n, image_data, label FROM images")
    expected = {"d": 0, "b": 1, "c": 2, "a": 3}
    assert delivered(path, table="seen", key="n", workers=0) == expected
    query = "SELECT upper(name) AS n, image_data, label FROM images LIMIT 9"
    with pytest.warns(FastloaderWarning, match="no index serves"):
        found = delivered(path, query=query, key="n", workers=0)
    assert found == {key.upper(): label for key, label in expected.items()}


def test_labels_of_text_keys_are_looked_at(tmp_path: Path) -> None:
    rows = [(f"k{i:04}", IMAGE, 0.5 if i == 999 else 3) for i in range(1000)]
    path = table(tmp_path / "t.db", rows, columns="id TEXT PRIMARY KEY, image_data, label")
    source = opened(path)
    assert source.label_columns(all_keys(source)) == (Column("label", "float64"),)
    source.close()


def test_a_plan_is_explained_for_text_keys(tmp_path: Path) -> None:
    rows = [(key.bytes, IMAGE, 0) for key in UUIDS]
    path = table(tmp_path / "t.db", rows, columns="id BLOB PRIMARY KEY, image_data, label")
    source = opened(path)
    name, plan = source.explain([(str(UUIDS[0]), str(UUIDS[1]))])
    assert name == f"SQLite {sqlite3.sqlite_version}"
    assert re.search(r"SEARCH images USING INDEX \w+ \(id>\? AND id<\?\)", plan)
    source.close()


# ---- what cannot be a key ------------------------------------------------------------------------

MIXED = "holds 1 and 'x'; keys must be integers, or all text, or all blobs"
BAD: dict[str, tuple[list[Any], str]] = {
    "mixed": ([1, "x"], MIXED),
    "mixed text and blobs": (["x", b"x"], r"holds 'x' and b'x'; keys must be"),
    "numbers with fractions": ([1, 2.5], "holds 1 and 2.5; keys must be"),
    "only fractions": ([0.5, 2.5], "holds 0.5; keys must be"),
    "a NUL at the end": (["x\0", "y"], r"holds 'x\\x00', which ends in a NUL"),
    "NULL": ([None, 1, 2], "is NULL in 1 row; every row needs a key"),
}
TABLES = {
    "table": "CREATE TABLE images (id, image_data BLOB, label INTEGER)",
    "without rowid": "CREATE TABLE images (id, image_data BLOB, label INTEGER, "
    "n INTEGER PRIMARY KEY) WITHOUT ROWID",
    "view": "CREATE VIEW images AS SELECT id, image_data, label FROM stored",
    "named rowid": "CREATE TABLE images (id, image_data BLOB, label INTEGER, rowid TEXT)",
}


def refused(path: str, **options: Any) -> str:
    source = opened(path, **options)
    try:
        with pytest.raises(PlanError) as caught:
            all_keys(source)
    finally:
        source.close()
    return str(caught.value)


def follow(path: str, words: str) -> dict[str, Any]:
    """Do what a message says, and return the options that it names."""
    index = re.search(r"CREATE UNIQUE INDEX .*", words)
    if index:
        changed(path, index[0])
    if 'key="rowid"' in words:
        return {"key": "rowid"}
    query = re.search(r"""query=('.*'|".*?")(,|$)""", words)
    assert query, words
    return {"query": ast.literal_eval(query[1])}


@pytest.mark.filterwarnings("ignore:.*no index serves")
@pytest.mark.parametrize("made", TABLES)
@pytest.mark.parametrize("keys", BAD)
def test_the_advice_for_bad_keys_works(tmp_path: Path, keys: str, made: str) -> None:
    values, words = BAD[keys]
    path = str(tmp_path / "t.db")
    if made == "view":
        changed(path, "CREATE TABLE stored (id, image_data BLOB, label INTEGER)")
    changed(path, TABLES[made])
    rows = [(key, IMAGE, i) for i, key in enumerate(values)]
    marks = "?, ?, ?" + {"without rowid": ", ?3", "named rowid": ", 'x'"}.get(made, "")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        name = "stored" if made == "view" else "images"
        database.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
    message = refused(path)
    assert re.search(words, message)
    assert ("rowid" in message) == (made == "table")
    options = follow(path, message)
    labels = set(delivered(path, workers=0, **options).values())
    assert labels == {1, 2} if keys == "NULL" and made != "table" else set(range(len(values)))


def test_an_index_that_is_advised_is_used(tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    changed(
        path, TABLES["without rowid"], "INSERT INTO images VALUES (1, x'', 0, 1), ('x', x'', 0, 2)"
    )
    with pytest.warns(FastloaderWarning, match="no index serves"):
        message = refused(path)
    source = opened(path, **follow(path, message))
    assert key_values(all_keys(source)) == ["'x'", "1"]  # a warning would be an error here
    source.close()


@pytest.mark.filterwarnings("ignore:.*no index serves")
@pytest.mark.parametrize("collation", ["NOCASE", "RTRIM"])
@pytest.mark.parametrize("made", ["table", "without rowid", "view"])
def test_keys_that_are_equal_to_sqlite_are_refused(
    tmp_path: Path, collation: str, made: str
) -> None:
    path = str(tmp_path / "t.db")
    keys = {"NOCASE": ["b", "a", "A"], "RTRIM": ["b", "a ", "a"]}[collation]
    if made == "view":
        changed(path, f"CREATE TABLE stored (id TEXT COLLATE {collation}, image_data, label)")
    changed(path, TABLES[made].replace("(id,", f"(id TEXT COLLATE {collation},"))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        name = "stored" if made == "view" else "images"
        marks = "?, ?, ?" + (", ?3" if made == "without rowid" else "")
        rows = [(key, IMAGE, i) for i, key in enumerate(keys)]
        database.executemany(f"INSERT INTO {name} VALUES ({marks})", rows)
    message = refused(path)
    assert re.search("holds 'A' and 'a', which are|holds 'a' and 'a ', which are", message)
    options = follow(path, message)
    assert set(delivered(path, workers=0, **options).values()) == {0, 1, 2}


def test_keys_that_differ_in_case_are_fine_where_sqlite_tells_them_apart(tmp_path: Path) -> None:
    rows = [(key, IMAGE, i) for i, key in enumerate(["a", "A", "a ", "A "])]
    path = table(tmp_path / "t.db", rows, columns="id TEXT PRIMARY KEY, image_data, label INTEGER")
    assert delivered(path, workers=0) == {"a": 0, "A": 1, "a ": 2, "A ": 3}


@pytest.mark.parametrize("key", ["x" * 1025, b"x" * 512])
def test_a_key_that_is_too_long_is_refused(tmp_path: Path, key: Any) -> None:
    columns = "id PRIMARY KEY, image_data BLOB, label INTEGER"
    path = table(tmp_path / "t.db", [(key, IMAGE, 0), (key[:8], IMAGE, 1)], columns=columns)
    message = refused(path)
    assert re.search(r"holds a key of 102[56] bytes.*up to 1024 bytes are.*key=\"rowid\"", message)
    assert len(delivered(path, workers=0, **follow(path, message))) == 2


def test_a_key_of_another_type_that_comes_later_is_an_error(tmp_path: Path) -> None:
    rows = [(key, IMAGE, 0) for key in (1, 2, 3)]
    path = table(tmp_path / "t.db", rows, columns="id NUMERIC PRIMARY KEY, image_data, label")
    with FastLoader(path, size=(8, 8), workers=0) as loader:
        changed(path, "INSERT INTO images VALUES (1.5, x'', 0)")
        with pytest.raises(FastloaderError, match="a key has another type than all had"):
            list(loader)


@pytest.mark.filterwarnings("ignore:.*no index serves")
def test_the_same_key_twice_is_refused(tmp_path: Path) -> None:
    rows = [(key, IMAGE, 0) for key in ("a", "b", "b")]
    path = table(tmp_path / "t.db", rows, columns="id TEXT, image_data, label")
    with pytest.raises(PlanError, match="2 rows have the key b; keys must be unique"):
        FastLoader(path, size=(8, 8), workers=0)

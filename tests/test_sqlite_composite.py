"""Keys of several columns in SQLite: one row each, in the database's order, by its index."""

from __future__ import annotations

import ast
import contextlib
import json
import re
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader import FastLoader, FastloaderWarning, PlanError, RowError, SourceError
from fastloader.options.config import make_config
from fastloader.plan.keys import key_values
from fastloader.source.opening import open_source
from fastloader.source.protocol import Source

from .support import all_keys, jpeg
from .tiers import few

IMAGE = jpeg(8, 8)
OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 4, "with_keys": True, "fetch_bytes": 1}
UUIDS = [uuid.UUID(int=n << 120) for n in (1, 2, 200)]

KINDS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    # name: columns; the keys in their order
    "int, text": (
        "a INTEGER, b TEXT",
        [(a, b) for a in (-3, 7, 8) for b in ("", "A", "B'\\", "a,{}", "long " * 20)],
    ),
    "text, int": ("a TEXT, b INT", [(a, b) for a in ("x", "y") for b in (-(2**63), 0, 2**63 - 1)]),
    "int, int": ("a INTEGER, b INTEGER", [(a, b) for a in (-1, 0, 9) for b in (-5, 5, 6)]),
    "uuid, int": ("a BLOB, b INTEGER", [(a.bytes, b) for a in UUIDS for b in (-1, 0, 5)]),
    "blob, text, int": (
        "a BLOB, b TEXT, c INTEGER",
        [(a, b, c) for a in (b"\x00", b"x\xff") for b in ("1", "é") for c in (1, 2)],
    ),
    "untyped": ("a, b", [(a, b) for a in (1, 2) for b in ("10", "9")]),
    "any case": (
        "a TEXT COLLATE NOCASE, b TEXT",
        [(a, b) for a in ("a", "B", "c") for b in ("A", "a")],
    ),
}


def changed(path: str, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def prepared(
    folder: Path, kind: str = "int, text", *, key: bool = True, end: str = " WITHOUT ROWID"
) -> str:
    """Create a table with these keys in another order, and labels that are their numbers."""
    columns, keys = KINDS[kind]
    rows = [(*its, IMAGE, n) for n, its in enumerate(keys)]
    np.random.default_rng(1).shuffle(rows)  # type: ignore[arg-type]
    primary = f", PRIMARY KEY ({', '.join(names(kind))})" if key else ""
    path = str(folder / "t.db")
    sql = f"CREATE TABLE images ({columns}, image_data BLOB, label INTEGER{primary})"
    changed(path, sql + (end if key else ""))
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        marks = ", ".join("?" * len(rows[0]))
        database.executemany(f"INSERT INTO images VALUES ({marks})", rows)
    return path


def names(kind: str) -> list[str]:
    return [column.split()[0] for column in KINDS[kind][0].split(", ")]


def shown(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a key as it is delivered."""
    return tuple(
        (str(uuid.UUID(bytes=it)) if len(it) == 16 else "\\x" + it.hex())
        if isinstance(it, bytes)
        else it
        for it in key
    )


def opened(path: str, **options: Any) -> Source:
    return open_source(make_config({"url": path, **options}, {}))


def rows_of(loader: FastLoader, key: list[str]) -> list[tuple[Any, ...]]:
    """Return (key, label) of one epoch."""
    return [
        (row, label)
        for x, labels in loader
        for row, label in zip(
            zip(*(x[name].tolist() for name in key), strict=True), labels.tolist(), strict=True
        )
    ]


@few(3)
@pytest.mark.parametrize("end", [" WITHOUT ROWID", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_once_and_in_the_order_of_their_keys(tmp_path: Path, kind: str, end: str) -> None:
    path = prepared(tmp_path, kind, end=end)
    key, rows = names(kind), [(shown(key), n) for n, key in enumerate(KINDS[kind][1])]
    options = {**OPTIONS, "key": key}
    with FastLoader(path, workers=0, **options) as loader:  # warns if no index serves
        assert [column.name for column in loader.key_columns] == key
        assert rows_of(loader, key) == rows
        assert rows_of(loader, key) == rows
    with FastLoader(path, workers=2, shuffle=True, **options) as loader:
        one, two = rows_of(loader, key), rows_of(loader, key)
        assert sorted(one, key=lambda row: row[1]) == sorted(two, key=lambda row: row[1]) == rows
        assert one != two


@pytest.mark.parametrize("end", [" WITHOUT ROWID", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_both_bounds_of_a_range_are_conditions_of_the_index(
    tmp_path: Path, kind: str, end: str
) -> None:
    path, columns = prepared(tmp_path, kind, end=end), ",".join(names(kind))
    marks = ",".join("?" * len(names(kind)))
    with contextlib.closing(opened(path, key=names(kind))) as source:
        keys = key_values(all_keys(source))
        said = source.explain([(keys[0], keys[-1])])[1]
    assert f"(({columns})>({marks}) AND ({columns})<({marks}))" in said
    assert "TEMP B-TREE" not in said  # the rows come in the index's order


def test_a_range_is_read_from_any_key_to_any_other(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    keys: list[Any] = KINDS["int, text"][1]
    for first in range(len(keys)):
        for fetch_bytes in (1, 200, None):
            with contextlib.closing(
                opened(path, key=["a", "b"], fetch_bytes=fetch_bytes)
            ) as source:
                ranges = [(keys[first], keys[-2]), (keys[0], keys[first])]
                chunks = [*source.read(ranges, ())]
            found = [key for chunk in chunks for key in key_values(chunk.keys)]
            assert found == keys[first:-1] + keys[: first + 1]
            numbers = np.concatenate([chunk.ranges for chunk in chunks]).tolist()
            assert numbers == sorted(numbers)


@given(
    st.sets(st.tuples(st.integers(-3, 3), st.text("abAé '", max_size=3)), min_size=2, max_size=25),
    st.data(),
)
def test_whatever_the_keys_are_a_range_has_those_between(
    tmp_path_factory: pytest.TempPathFactory, keys: set[tuple[int, str]], data: st.DataObject
) -> None:
    path = str(tmp_path_factory.mktemp("any") / "t.db")
    changed(path, "CREATE TABLE images (a INTEGER, b TEXT, PRIMARY KEY (a, b)) WITHOUT ROWID")
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO images VALUES (?, ?)", list(keys))
    ordered = sorted(keys, key=lambda key: (key[0], key[1].encode()))
    low = data.draw(st.integers(0, len(keys) - 1))
    high = data.draw(st.integers(low, len(keys) - 1))
    options = {"key": ["a", "b"], "image": None, "label": "a", "fetch_bytes": 1}
    with contextlib.closing(opened(path, **options)) as source:
        assert key_values(all_keys(source)) == ordered
        chunks = source.read([(ordered[low], ordered[high])], ())
        found = [key for chunk in chunks for key in key_values(chunk.keys)]
    assert found == ordered[low : high + 1]


def test_a_state_survives_json_and_resumes(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    options = {**OPTIONS, "key": ["a", "b"], "workers": 1, "shuffle": True}
    with FastLoader(path, **options) as loader:
        expected = rows_of(loader, ["a", "b"])
    with FastLoader(path, **options) as loader:
        next(iter(loader))
        state = json.loads(json.dumps(loader.state_dict()))
    with FastLoader(path, **options) as loader:
        loader.load_state_dict(state)
        assert rows_of(loader, ["a", "b"]) == expected[4:]


def test_a_bad_row_is_named_by_all_columns_of_its_key(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    changed(path, "UPDATE images SET image_data = 'x' WHERE a = 7 AND b = 'A'")
    for workers in (0, 1):
        options = {**OPTIONS, "key": ["a", "b"], "workers": workers}
        with FastLoader(path, on_error="skip", **options) as loader:
            assert len(rows_of(loader, ["a", "b"])) == 14
            ((key, _),) = loader.bad_rows
            assert key == (7, "A")
        with FastLoader(path, **options) as loader:
            with pytest.raises(RowError, match=r"row with key \(7, 'A'\)") as caught:
                list(loader)
            assert caught.value.key == (7, "A")


def test_rows_that_come_and_go_are_noticed(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    options = {**OPTIONS, "key": ["a", "b"], "workers": 0}
    with FastLoader(path, on_error="skip", **options) as loader:
        changed(
            path,
            "DELETE FROM images WHERE a = 7 AND b = 'A'",
            "INSERT INTO images SELECT 7, 'A new, longer one', image_data, 0 FROM images LIMIT 1",
        )
        assert len(rows_of(loader, ["a", "b"])) == 14
        assert [key for key, _ in loader.bad_rows] == [(7, "A")]
        assert loader.stats().passed_over == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_conditions_splits_and_caches_work_with_them(tmp_path: Path, workers: int) -> None:
    path = prepared(tmp_path)
    keys = KINDS["int, text"][1]
    options = {**OPTIONS, "key": ["a", "b"], "workers": workers, "cache": "ram"}
    with FastLoader(path, where="a > $1 AND b <> $2", params=[0, "A"], **options) as loader:
        for _ in range(2):
            found = [key for key, _ in rows_of(loader, ["a", "b"])]
            assert found == [(a, b) for a, b in keys if a > 0 and b != "A"]
    parts = []
    for split in (":0.4", "0.4:"):
        with FastLoader(path, split=split, split_by="b", **options) as loader:
            parts.append([key for key, _ in rows_of(loader, ["a", "b"])])
            assert loader.stats().passed_over == 0
    assert sorted(parts[0] + parts[1]) == sorted(keys)
    assert not {b for _, b in parts[0]} & {b for _, b in parts[1]}


def test_views_and_queries_may_have_them(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    changed(path, "CREATE VIEW seen AS SELECT a, b, image_data, label FROM images")
    options = {**OPTIONS, "key": ["b", "a"], "workers": 0}
    with (
        pytest.warns(FastloaderWarning, match="no index serves the key columns 'b', 'a'"),
        FastLoader(path, table="seen", **options) as loader,
    ):
        found = [(b.encode(), a) for (b, a), _ in rows_of(loader, ["b", "a"])]
    assert found == sorted((b.encode(), a) for a, b in KINDS["int, text"][1])
    query = "SELECT * FROM images WHERE a > 0 ORDER BY a, b LIMIT 7"
    with (
        pytest.warns(FastloaderWarning, match="no index"),
        FastLoader(path, query=query, **{**options, "key": ["a", "b"]}) as loader,
    ):
        found = [key for key, _ in rows_of(loader, ["a", "b"])]
    assert found == KINDS["int, text"][1][5:12]


# ---- keys that cannot be used --------------------------------------------------------------------


def test_null_in_any_column_is_refused(tmp_path: Path) -> None:
    path = prepared(tmp_path, key=False)
    changed(path, "UPDATE images SET b = NULL WHERE a = -3 AND b <> 'A'")
    with pytest.raises(PlanError, match="the key column 'b' is NULL in 4 rows"):
        FastLoader(path, key=["a", "b"], workers=0)


@pytest.mark.filterwarnings("ignore:.*no index serves")
def test_keys_that_are_not_unique_are_refused(tmp_path: Path) -> None:
    path = prepared(tmp_path, key=False)
    changed(path, "INSERT INTO images SELECT * FROM images WHERE a = 8 AND b = 'A'")
    with pytest.raises(PlanError, match=r"2 rows have the key \(8, 'A'\)"):
        FastLoader(path, key=["a", "b"], workers=0)
    with pytest.raises(PlanError, match="5 rows have the key -3"):
        FastLoader(path, key="a", workers=0)


@pytest.mark.filterwarnings("ignore:.*no index serves")
def test_keys_that_only_differ_in_case_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    changed(
        path,
        "CREATE TABLE images (a INTEGER, b TEXT COLLATE NOCASE, image_data BLOB, label INTEGER)",
        "INSERT INTO images VALUES (1, 'x', x'00', 0), (1, 'X', x'00', 0), (2, 'x', x'00', 0)",
    )
    with pytest.raises(PlanError, match="'b' holds 'X' and 'x', which are equal to SQLite"):
        FastLoader(path, key=["a", "b"], workers=0)


def test_a_missing_index_is_warned_of_with_the_remedy(tmp_path: Path) -> None:
    path = prepared(tmp_path, key=False)
    changed(path, "CREATE INDEX by_a ON images (a)")  # with it a range would scan all of an a
    options = {**OPTIONS, "key": ["a", "b"], "workers": 0}
    with (
        pytest.warns(FastloaderWarning, match="no index serves the key columns 'a', 'b'") as caught,
        FastLoader(path, **options),
    ):
        pass
    changed(path, str(caught[0].message).split("Run: ")[1])
    with FastLoader(path, **options) as loader:
        assert len(rows_of(loader, ["a", "b"])) == 15


def test_a_column_of_mixed_types_is_made_a_key_as_the_error_says(tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    changed(
        path,
        "CREATE TABLE images (a INTEGER, b, image_data BLOB, label INTEGER, PRIMARY KEY (a, b)) "
        "WITHOUT ROWID",
    )
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = [(1, 2, IMAGE, 0), (1, "x", IMAGE, 1), (2, 2, IMAGE, 2)]
        database.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", rows)
    options = {**OPTIONS, "key": ["a", "b"], "workers": 0}
    with pytest.raises(PlanError, match="'b' holds 2 and 'x'") as caught:
        FastLoader(path, **options)
    match = re.search(r"or key=(\[.*?\]) after (.*), with an index: (.*)", str(caught.value))
    assert match is not None
    changed(path, match[2], match[3])
    key = ast.literal_eval(match[1])
    options["key"] = key
    with FastLoader(path, **options) as loader:  # warns if no index serves
        assert rows_of(loader, key) == [((1, "'x'"), 1), ((1, "2"), 0), ((2, "2"), 2)]
    with FastLoader(path, where="label < $1", params=[2], **options) as loader:
        assert rows_of(loader, key) == [((1, "'x'"), 1), ((1, "2"), 0)]


def test_a_column_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = prepared(tmp_path)
    with pytest.raises(SourceError, match="no column 'c'"):
        FastLoader(path, key=["a", "c"], workers=0)

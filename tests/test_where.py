"""Rows of a table are chosen by a condition whose values are bound, in both databases."""

from __future__ import annotations

import ast
import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
import pytest

from fastloader import (
    ConfigError,
    FastLoader,
    FastloaderWarning,
    PlanError,
    SourceError,
    StateError,
)
from fastloader.cli import main
from fastloader.options.config import make_config
from fastloader.source.opening import open_source

from .conftest import Either
from .servers.postgres import Database
from .support import all_keys, jpeg, simple_rows, table, unpacked

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "with_keys": True, "slots": 2}


def execute(url: str, *statements: str) -> None:
    if not url.startswith("postgresql"):
        changed(url, *statements)
        return
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        for statement in statements:
            connection.cursor().execute(statement)


def changed(path: str, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        for statement in statements:
            database.execute(statement)


def rows_of(loader: FastLoader) -> list[tuple[int, int]]:
    """Return (key, label) of one epoch."""
    return [
        pair
        for _, labels, keys in unpacked(loader)
        for pair in zip(keys.tolist(), labels.tolist(), strict=True)
    ]


def fails(url: str, where: str, message: str, **options: Any) -> str:
    with pytest.raises(SourceError, match=message) as caught:
        FastLoader(url, where=where, **{**OPTIONS, "workers": 0, **options})
    assert f"cannot use where={where!r}" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_rows_that_meet_the_condition_come_once_each(
    either: Either, workers: int, shuffle: bool
) -> None:
    url = either.table(simple_rows(60, gap=3))
    options = {**OPTIONS, "workers": workers, "shuffle": shuffle, "fetch_bytes": 3000}
    where = "label >= $1 AND (label < $2 OR label = $2) AND label % 20 = 0"
    with FastLoader(url, where=where, params=[100, 400], **options) as loader:
        for _ in range(2):
            found = rows_of(loader)
            assert sorted(found) == [(30 + n * 6 + 3, 100 + n * 20) for n in range(16)]
            assert (found == sorted(found)) != shuffle
        assert loader.stats().passed_over == 0  # no other row was read


def test_the_database_gets_values_of_every_type_apart_from_the_sql(either: Either) -> None:
    columns = (
        "id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER, word TEXT, real REAL, raw BLOB"
    )
    if either.url.startswith("postgresql"):
        columns = (
            "id int8 PRIMARY KEY, image_data bytea, label int8, word text, real float8, raw bytea"
        )
    words = ["it's", "'; DROP TABLE images; --", "$1", "?", "\\", "日本", "", "%s {x} :id"]
    rows = [(n, jpeg(), n, word, n / 4, bytes([n, 0, 255])) for n, word in enumerate(words)]
    url = either.table([*rows, (8, jpeg(), 8, None, None, None)], columns=columns)
    options = {**OPTIONS, "workers": 0}
    for n, word in enumerate(words):
        with FastLoader(url, where="word = $1", params=[word], **options) as loader:
            assert rows_of(loader) == [(n, n)]
    for where, params, keys in (
        ("real = $1", [0.75], [3]),
        ("real < $1 AND label >= $2", [np.float32(1), np.int64(2)], [2, 3]),
        ("raw = $1", [b"\x05\x00\xff"], [5]),
        ("label = $1 OR $2", [4, False], [4]),
        ("label > $1", [-(2**63)], list(range(9))),
        ("word IS NOT DISTINCT FROM $1" if "postgres" in url else "word IS $1", [None], [8]),
        ("word <> $1", ["x"], list(range(8))),  # NULL is not true
        ("word = $1", [None], []),
    ):
        if not keys:
            with pytest.raises(PlanError, match="no row meets where="):
                FastLoader(url, where=where, params=params, **options)
            continue
        with FastLoader(url, where=where, params=params, **options) as loader:
            assert [key for key, _ in rows_of(loader)] == keys, where


@pytest.mark.parametrize(
    "where",
    [
        "1 = 1) ; DROP TABLE images; --",
        "1 = 1; DROP TABLE images",
        "1 = 1);",
        "1 = 1) OR (1 = 1",
        "1 = 1) UNION SELECT 1 FROM images WHERE (1 = 1",
        "1 = 1 UNION SELECT 1",
        "1 = 1 ORDER BY id LIMIT 3",
        "1 = 1 GROUP BY id",
        "1 = 1 /*",
        "(1 = 1",
        "SELECT 1",
        "id, label",
        "label = 'x",
    ],
)
def test_what_is_not_one_condition_is_refused(either: Either, where: str) -> None:
    url = either.table(simple_rows(9))
    fails(
        url,
        where,
        "syntax error|untermin|incomplete input|unrecognized|one statement|multiple|UNION",
    )
    with FastLoader(url, where="id < 4 -- a comment", workers=0, **OPTIONS) as loader:
        assert len(rows_of(loader)) == 3  # the table is still there


def test_errors_in_the_sql_name_the_option(either: Either) -> None:
    url = either.table(simple_rows(9))
    fails(url, "lable < 3", "lable")
    fails(url, "fl.lo < 3", "fl")
    fails(url, "count(*) > 3", "aggregate")
    for params in ([], [1]):
        fails(url, "label = $2", r"\$2|2", params=params)
    fails(url, "label = $1", r"params has 2 values, and \$2 is not used", params=[1, 2])
    fails(url, "label = $1", r"\$2", params=[1, "two"])
    if either.url.startswith("postgresql"):
        fails(url, "label = $1", "integer|bigint", params=["two"])
    else:
        for mark in ("?", "?1", ":one", "@one"):
            fails(url, f"label = {mark}", r"\$1, \$2, ... in where= stand for", params=[1])


def test_a_condition_that_calls_random_is_refused(either: Either) -> None:
    url = either.table(simple_rows(9))
    options = {**OPTIONS, "workers": 0}
    with pytest.raises(SourceError, match=r"random\(\).* each time"):
        FastLoader(url, where="random() < 0.5", **options)


def test_where_goes_with_a_table_and_params_with_where() -> None:
    with pytest.raises(ConfigError, match="where and query exclude each other"):
        make_config({"url": "x.db", "query": "SELECT 1", "where": "id < 3"}, {})
    with pytest.raises(ConfigError, match="where and query exclude each other"):
        make_config({"url": "x.db", "query": "SELECT 1"}, {"FASTLOADER_WHERE": "id < 3"})
    with pytest.raises(ConfigError, match="params are values for where="):
        make_config({"url": "x.db", "params": [1]}, {})
    for params, message in (
        ("abc", "must be a list"),
        ([2**63], "64 bits"),
        (["a\0"], "NUL"),
        (["\ud800"], "Unicode"),
        ([[1]], "list is none: write it as text"),
        ({"a": 1}, "must be a list"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_config({"url": "x.db", "where": "id = $1", "params": params}, {})
    for where in ("", " ", "a\0", "\udc80"):
        with pytest.raises(ConfigError, match="where="):
            make_config({"url": "x.db", "where": where}, {})


def test_the_variables_are_text_and_a_list_in_json(either: Either) -> None:
    url = either.table(simple_rows(9))
    variables = {"FASTLOADER_WHERE": "label < $1", "FASTLOADER_PARAMS": "[30]"}
    config = make_config({"url": url}, variables)
    assert (config.where, config.params) == ("label < $1", (30,))
    with contextlib.closing(open_source(config)) as source:
        assert all_keys(source).tolist() == [1, 2, 3]
    with pytest.raises(ConfigError, match=r"FASTLOADER_PARAMS='30' must be .*: write \[30\]"):
        make_config({"url": url}, {**variables, "FASTLOADER_PARAMS": "30"})


# ---- what holds for a table ----------------------------------------------------------------------


def test_a_view_and_the_rowid_can_be_filtered(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(40))
    changed(path, "CREATE VIEW even AS SELECT * FROM images WHERE id % 2 = 0")
    with FastLoader(
        path, table="even", where="id > $1", params=[30], workers=1, **OPTIONS
    ) as loader:
        assert [key for key, _ in rows_of(loader)] == [32, 34, 36, 38, 40]
    options = {**OPTIONS, "workers": 1, "key": "rowid", "with_keys": False}
    with FastLoader(path, where="rowid % 10 = 0", **options) as loader:
        assert [label for _, labels in loader for label in labels.tolist()] == [90, 190, 290, 390]


def test_the_condition_can_name_the_table(either: Either) -> None:
    url = either.table(simple_rows(9))
    where = "EXISTS (SELECT 1 FROM images AS other WHERE other.id = images.id + 5)"
    with FastLoader(url, where=where, workers=0, **OPTIONS) as loader:
        assert [key for key, _ in rows_of(loader)] == [1, 2, 3, 4]


@pytest.mark.parametrize("workers", [0, 2])
def test_caches_of_two_conditions_do_not_mix(either: Either, tmp_path: Path, workers: int) -> None:
    url = either.table(simple_rows(40))
    options = {**OPTIONS, "workers": workers, "cache": tmp_path / "cache", "where": "label < $1"}
    for least, cached in ((100, 0), (200, 0), (100, 20)):
        with FastLoader(url, params=[least], **options) as loader:
            for _ in range(2):
                assert [label for _, label in rows_of(loader)] == list(range(0, least, 10))
            assert loader.stats().cached_rows >= cached


def test_a_state_belongs_to_its_condition(either: Either) -> None:
    url = either.table(simple_rows(40))
    options = {**OPTIONS, "workers": 1, "shuffle": True, "where": "label < $1"}
    with FastLoader(url, params=[300], **options) as loader:
        expected = rows_of(loader)
    with FastLoader(url, params=[300], **options) as loader:
        next(iter(loader))
        state = loader.state_dict()
    with FastLoader(url, params=[300], **options) as loader:
        loader.load_state_dict(state)
        assert rows_of(loader) == expected[8:]
    with (
        FastLoader(url, params=[310], **options) as loader,
        pytest.raises(StateError, match="where="),
    ):
        loader.load_state_dict(state)


def test_a_row_that_meets_the_condition_no_longer_is_gone(either: Either) -> None:
    url = either.table(simple_rows(9))
    options = {**OPTIONS, "workers": 0, "consistency": "latest"}
    with FastLoader(url, where="label < 50", on_error="skip", **options) as loader:
        execute(url, "UPDATE images SET label = 99 WHERE id = 2")
        assert [key for key, _ in rows_of(loader)] == [1, 3, 4, 5]
        assert loader.bad_rows == [
            (2, "the row is gone or no longer meets where=: it was there when the keys were read")
        ]


@pytest.mark.parametrize("consistency", ["snapshot", "latest"])
def test_a_lost_connection_is_made_again(database: Database, consistency: str) -> None:
    url = database.table(simple_rows(60))
    options = {"url": url, "where": "label >= $1", "params": [100], "consistency": consistency}
    config = make_config({**options, "fetch_bytes": 1}, {})
    with contextlib.closing(open_source(config)) as source:
        found = []
        for chunk in source.read([(1, 60)], ()):
            found += chunk.keys.tolist()
            source._transactions.disconnect()  # type: ignore[attr-defined]
    assert found == list(range(11, 61))


def test_a_condition_with_an_index_of_its_own_is_read_by_the_keys_index(either: Either) -> None:
    """Otherwise each key range would look at all rows that meet the condition."""
    url = either.table([(n, b"", n * 10) for n in range(5000)])
    execute(url, "CREATE INDEX by_label ON images (label)", "ANALYZE")
    config = make_config({"url": url, "where": "label = $1", "params": [50]}, {})
    with contextlib.closing(open_source(config)) as source:
        all_keys(source)
        explained = source.explain([(1, 5)])[1]
    assert "by_label" not in explained
    assert "images_pkey" in explained or "PRIMARY KEY" in explained


def test_a_missing_index_is_one_of_the_table(either: Either) -> None:
    is_postgres = either.url.startswith("postgresql")
    columns = "id int8, image_data bytea, label int8" if is_postgres else "id, image_data, label"
    url = either.table(simple_rows(9), columns=columns)
    options = {**OPTIONS, "workers": 0, "where": "label < $1", "params": [50]}
    with (
        pytest.warns(FastloaderWarning, match="no index serves the key column 'id'") as caught,
        FastLoader(url, **options),
    ):
        pass
    execute(url, str(caught[0].message).split("Run: ")[1])
    with FastLoader(url, **options) as loader:
        assert len(rows_of(loader)) == 5


# ---- advice --------------------------------------------------------------------------------------


def test_rows_without_a_key_are_left_out_as_the_error_says(tmp_path: Path) -> None:
    columns = "id INTEGER UNIQUE, image_data BLOB, label INTEGER"
    rows = [*simple_rows(9), (None, jpeg(), 20)]
    path = table(tmp_path / "t.db", rows, columns=columns)
    options = {**OPTIONS, "workers": 0, "params": [50]}
    with pytest.raises(PlanError, match="'id' is NULL in 1 row") as caught:
        FastLoader(path, where="label < $1 -- few", **options)
    where = ast.literal_eval(str(caught.value).split("or where=")[1])
    with FastLoader(path, where=where, **options) as loader:
        assert [key for key, _ in rows_of(loader)] == [1, 2, 3, 4, 5]
    with FastLoader(path, where="id IS NOT NULL", **{**options, "params": None}) as loader:
        assert len(rows_of(loader)) == 9


def test_keys_of_two_kinds_are_made_one_as_the_error_says(tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    changed(
        path, "CREATE TABLE images (id PRIMARY KEY, image_data BLOB, label INTEGER) WITHOUT ROWID"
    )
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        rows = [(1, jpeg(), 0), ("a", jpeg(), 10), ("b", jpeg(), 20)]
        database.executemany("INSERT INTO images VALUES (?, ?, ?)", rows)
    options = {**OPTIONS, "workers": 0, "where": "label < $1", "params": [20]}
    with pytest.raises(PlanError, match="'id' holds 1 and 'a'") as caught:
        FastLoader(path, **options)
    words = str(caught.value)
    match = re.search(r"key='(\w+)' and table='(\w+)' after (.*), with an index: (.*)", words)
    assert match is not None, words
    changed(path, match[3], match[4])
    with FastLoader(path, table=match[2], key=match[1], **options) as loader:
        found = [(k, y) for x, ys in loader for k, y in zip(x[match[1]], ys.tolist(), strict=True)]
    assert found == [("'a'", 10), ("1", 0)]


def test_a_column_is_cast_in_a_view_as_the_error_says(database: Database) -> None:
    columns = "id int8 PRIMARY KEY, image_data bytea, label int8, more interval"
    url = database.table([(n, jpeg(), n, f"{n} days") for n in range(1, 6)], columns=columns)
    options = {**OPTIONS, "workers": 0, "where": "label < $1", "params": [3]}
    with pytest.raises(SourceError, match="column 'more' has the type interval") as caught:
        FastLoader(url, label="more", **options)
    match = re.search(r"its column '(\w+)' with table='(\w+)': (.*)", str(caught.value))
    assert match is not None
    database.execute(match[3])
    with FastLoader(url, label=match[1], table=match[2], **options) as loader:
        assert len(rows_of(loader)) == 2


def test_the_command_line_takes_the_condition(either: Either, capsys: Any) -> None:
    url = either.table(simple_rows(9))
    code = main(["plan", url, "--where", "label < $1", "--params", "[30]", "--workers", "0"])
    assert code == 0
    assert "rows      3" in capsys.readouterr().out

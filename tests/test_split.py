"""A split is a part of the rows that depends on nothing but one value of each row."""

from __future__ import annotations

import ast
import contextlib
import sqlite3
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader import ConfigError, FastLoader, PlanError, SourceError, StateError
from fastloader.cli import main
from fastloader.options.config import make_config
from fastloader.options.split import split_limits
from fastloader.plan.plan import key_ranges
from fastloader.plan.split import chosen, follows_in, numbers_of, with_numbers, without_numbers

from .conftest import Either
from .servers.postgres import Database
from .support import jpeg, simple_rows, table, unpacked
from .tiers import few

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "with_keys": True, "slots": 2}
IMAGE = jpeg(8, 8)
PATIENTS = ["p1", "p17", "日本", "", "a'b", "p2", "p3", "p4", "x y", "\\"]


def number(value: object) -> int:
    """As the documentation says it."""
    return int.from_bytes(blake2b(str(value).encode(), digest_size=8).digest(), "little")


def share(value: object) -> float:
    return number(value) / 2**64


def keys_in(url: str, **options: Any) -> list[Any]:
    with FastLoader(url, **{**OPTIONS, "workers": 0, **options}) as loader:
        key = options.get("key", "id")
        return [k for *_, part in unpacked(loader, key) for k in part.tolist()]


# ---- which rows ----------------------------------------------------------------------------------


def test_the_number_of_a_value_never_changes() -> None:
    """Rows would move from one split to another."""
    assert numbers_of(np.array([17, -1, 2**63 - 1])).tolist() == [
        13005073621571156256, 16573399945805584159, 4152807693991598274,
    ]  # fmt: skip
    assert numbers_of(np.array([b"p17", b"17", b""])).tolist() == [
        14002426425029286964, 13005073621571156256, 13020603013274838756,
    ]  # fmt: skip
    ids = np.frombuffer(uuid.UUID(int=17).bytes, "V16")
    assert numbers_of(ids).tolist() == [number("00000000-0000-0000-0000-000000000011")]


def test_a_user_can_compute_the_number() -> None:
    values = [0, 1, -5, 2**63 - 1, -(2**63), *range(100, 300)]
    assert numbers_of(np.array(values)).tolist() == [number(value) for value in values]
    several = np.array([(1, b"a"), (1, b"b")], "i8,S2")
    assert numbers_of(several).tolist() == [number("1\0a"), number("1\0b")]


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 2**32))
def test_parts_that_share_a_limit_divide_the_rows(low: int, size: int, seed: int) -> None:
    numbers = np.random.default_rng(seed).integers(0, 2**64, 50, np.uint64)
    limits = split_limits(f"{low / 2001}:{(low + size) / 2001}")
    numbers[:4] = [0, 2**64 - 1, limits[0], limits[1] - 1]
    a, b = low / 2001, (low + size) / 2001
    parts = [f":{a}", f"{a}:{b}", f"{b}:"][1 if a == 0 else 0 :]
    together = np.concatenate([chosen(numbers, part) for part in parts])
    assert sorted(together.tolist()) == [*range(50)]


def test_a_split_is_start_and_end() -> None:
    assert split_limits(":0.5") == (0, 2**63)
    assert split_limits("0.5:") == split_limits(" 1/2 : 1 ") == (2**63, 2**64)
    assert split_limits(":") == (0, 2**64)
    for wrong in (
        "0.9",
        "",
        "train:0.9",
        "0.9:0.1",
        "0.5:0.5",
        ":2",
        "-1:",
        ":0.1:",
        "1/0:",
        ":nan",
    ):
        with pytest.raises(ConfigError, match=r"split=.* must be START:END.*:0.9.*0.9:"):
            make_config({"url": "x.db", "split": wrong}, {})
    with pytest.raises(ConfigError, match="split_by is for split=: say which part"):
        make_config({"url": "x.db", "split_by": "a"}, {})


@few(3)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
def test_splits_are_disjoint_and_cover_the_table(
    either: Either, workers: int, shuffle: bool
) -> None:
    url = either.table(simple_rows(150, gap=7))
    everything = []
    for split, low, high in ((":0.7", 0, 0.7), ("0.7:0.8", 0.7, 0.8), ("0.8:", 0.8, 1)):
        options = {**OPTIONS, "workers": workers, "shuffle": shuffle, "split": split}
        expected = [key for key in range(7, 1051, 7) if low <= share(key) < high]
        with FastLoader(url, fetch_bytes=3000, **options) as loader:
            for _ in range(2):
                found = [key for *_, keys in unpacked(loader) for key in keys.tolist()]
                assert sorted(found) == expected
                assert (found == expected) != shuffle
            assert loader.stats().passed_over == 0  # the rows between them were not read
        everything += expected
    assert sorted(everything) == [*range(7, 1051, 7)]


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_with_one_value_stay_together_and_alike_in_both_databases(
    either: Either, workers: int
) -> None:
    rows = [(n, IMAGE, n, PATIENTS[n % len(PATIENTS)]) for n in range(60)]
    if either.url.startswith("postgresql"):
        columns = "id int8 PRIMARY KEY, image_data bytea, label int8, patient text"
    else:
        columns = "id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER, patient TEXT"
    url = either.table(rows, columns=columns)
    for split, low, high in ((":0.6", 0, 0.6), ("0.6:", 0.6, 1)):
        found = keys_in(url, split=split, split_by="patient", workers=workers)
        assert found == [n for n, *_, patient in rows if low <= share(patient) < high]
        assert 0 < len(found) < 60


VALUES: dict[str, tuple[str, str, list[Any], list[str]]] = {
    # name: type in PostgreSQL and in SQLite, values, their texts
    "integers": ("int4", "INTEGER", [*range(-20, 20)], [str(n) for n in range(-20, 20)]),
    "text of numbers": ("text", "TEXT", [str(n) for n in range(40)], [str(n) for n in range(40)]),
    "uuid": ("uuid", "TEXT", [str(uuid.UUID(int=n)) for n in range(40)],
             [str(uuid.UUID(int=n)) for n in range(40)]),
    "date": ("date", "TEXT", [f"2020-01-{n:02}" for n in range(1, 31)],
             [f"2020-01-{n:02}" for n in range(1, 31)]),
    "bytes": ("bytea", "BLOB", [bytes([n, 255]) for n in range(40)],
              [f"\\x{n:02x}ff" for n in range(40)]),
    "numeric(9, 0)": ("numeric(9, 0)", "NUMERIC(9)", [*range(40)], [str(n) for n in range(40)]),
}  # fmt: skip


@few(3)
@pytest.mark.parametrize("kind", VALUES)
def test_a_value_is_in_the_same_part_in_both_databases(either: Either, kind: str) -> None:
    postgres, sqlite, values, texts = VALUES[kind]
    is_postgres = either.url.startswith("postgresql")
    columns = f"id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER, g {sqlite}"
    if is_postgres:
        columns = f"id int8 PRIMARY KEY, image_data bytea, label int8, g {postgres}"
    url = either.table([(n, IMAGE, n, value) for n, value in enumerate(values)], columns=columns)
    expected = [n for n, text in enumerate(texts) if share(text) < 0.5]
    assert keys_in(url, split=":1/2", split_by="g") == expected


def test_a_blob_of_16_bytes_is_a_uuid_whatever_other_rows_there_are(tmp_path: Path) -> None:
    ids = [uuid.UUID(int=n << 64) for n in range(40)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER, g"
    rows = [(n, IMAGE, n, its.bytes) for n, its in enumerate(ids)]
    expected = [n for n, its in enumerate(ids) if share(its) < 0.5]
    path = table(tmp_path / "t.db", rows, columns=columns)
    assert keys_in(path, split=":0.5", split_by="g") == expected
    more = [(100, IMAGE, 0, b"x"), (101, IMAGE, 0, 17), (102, IMAGE, 0, "17")]
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO images VALUES (?, ?, ?, ?)", more)
    expected += [100] * (share("\\x78") < 0.5) + [101, 102] * (share(17) < 0.5)
    assert keys_in(path, split=":0.5", split_by="g") == expected
    columns = "id BLOB PRIMARY KEY, image_data BLOB, label INTEGER"
    rows = [(its.bytes, IMAGE, n) for n, its in enumerate(ids)]
    path = table(tmp_path / "keys.db", rows, columns=columns)
    assert keys_in(path, split=":0.5") == [str(its) for its in ids if share(its) < 0.5]


def test_new_rows_leave_the_others_where_they_are(either: Either) -> None:
    rows = simple_rows(60, gap=10)
    url = either.table(rows[::2])
    before = {split: keys_in(url, split=split) for split in (":0.5", "0.5:")}
    execute(url, *(f"INSERT INTO images SELECT id + 10, image_data, label FROM images WHERE id={n}"
                   for n, *_ in rows[::2]))  # fmt: skip
    old = {key for key, *_ in rows[::2]}
    for split, keys in before.items():
        assert [key for key in keys_in(url, split=split) if key in old] == keys


# ---- with the other options ----------------------------------------------------------------------


def test_a_condition_and_a_split_go_together(either: Either) -> None:
    url = either.table(simple_rows(60))
    options = {"where": "label >= $1", "params": [200], "split": ":0.5"}
    expected = [key for key in range(21, 61) if share(key) < 0.5]
    assert keys_in(url, **options) == expected
    assert keys_in(url, **options, split_by="label") == [
        key for key in range(21, 61) if share(key * 10 - 10) < 0.5
    ]


@pytest.mark.filterwarnings("ignore:.*no index serves")
def test_queries_and_views_are_split(either: Either) -> None:
    url = either.table(simple_rows(60))
    expected = [key for key in range(1, 61) if share(key * 10 - 10) < 0.5]
    execute(url, "CREATE VIEW seen AS SELECT id, image_data, label, label AS g FROM images")
    assert keys_in(url, table="seen", split=":0.5", split_by="g") == expected
    query = "SELECT id, image_data, label, label AS g FROM images ORDER BY id LIMIT 40"
    found = keys_in(url, query=query, split=":0.5", split_by="g")
    assert found == [key for key in expected if key <= 40]


def test_shards_divide_a_split(either: Either) -> None:
    url = either.table(simple_rows(60))
    expected = [key for key in range(1, 61) if share(key) < 0.8]
    parts = [keys_in(url, split=":0.8", shard=(n, 3), shuffle=True) for n in range(3)]
    assert sorted(key for part in parts for key in part) == expected


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cache_keeps_the_rows_of_a_split(either: Either, tmp_path: Path, workers: int) -> None:
    url = either.table(simple_rows(60))
    options = {"cache": tmp_path / "cache", "workers": workers, "size": (8, 8), "with_keys": True}
    for split in (":0.5", "0.5:", ":0.5"):
        with FastLoader(url, split=split, **options) as loader:
            for _ in range(2):
                found = {k: y for _, ys, ks in unpacked(loader)
                         for k, y in zip(ks.tolist(), ys.tolist(), strict=True)}  # fmt: skip
                assert found == {
                    key: key * 10 - 10
                    for key in range(1, 61)
                    if (share(key) < 0.5) == (split == ":0.5")
                }
    assert loader.stats().cached_rows == 2 * len(found)


def test_a_state_belongs_to_its_split(either: Either) -> None:
    url = either.table(simple_rows(60))
    options = {**OPTIONS, "workers": 1, "shuffle": True}
    expected = keys_in(url, split=":0.6", shuffle=True)
    with FastLoader(url, split=":0.6", **options) as loader:
        next(iter(loader))
        state = loader.state_dict()
    with FastLoader(url, split=":0.6", **options) as loader:
        loader.load_state_dict(state)
        assert [k for *_, part in unpacked(loader) for k in part.tolist()] == expected[8:]
    with (
        FastLoader(url, split="0.6:", **options) as loader,
        pytest.raises(StateError, match="split="),
    ):
        loader.load_state_dict(state)


def test_keys_of_several_columns_are_split(database: Database) -> None:
    columns = "a int4, b text, image_data bytea, label int8, PRIMARY KEY (a, b)"
    rows = [(n // 4, "abcd"[n % 4], IMAGE, n) for n in range(40)]
    url = database.table(rows, columns=columns)
    for by, text in ((None, "{0}\0{1}"), ("a", "{0}"), ("b", "{1}")):
        options = {**OPTIONS, "key": ["a", "b"], "split": ":0.5", "split_by": by, "workers": 0}
        expected = [n for a, b, _, n in rows if share(text.format(a, b)) < 0.5]
        with FastLoader(url, **options) as loader:
            assert [y for _, ys in loader for y in ys.tolist()] == expected


def test_the_variables_and_the_command_line_take_it(either: Either, capsys: Any) -> None:
    url = either.table(simple_rows(60))
    variables = {"FASTLOADER_SPLIT": ":0.5", "FASTLOADER_SPLIT_BY": "label"}
    config = make_config({"url": url}, variables)
    assert (config.split, config.split_by) == (":0.5", "label")
    code = main(["plan", url, "--split", "0.5:", "--split-by", "label", "--workers", "0"])
    expected = sum(share(key * 10 - 10) >= 0.5 for key in range(1, 61))
    assert code == 0
    assert f"rows      {expected}" in capsys.readouterr().out


# ---- what cannot be split ------------------------------------------------------------------------


def test_a_split_without_rows_is_an_error(either: Either) -> None:
    url = either.table(simple_rows(9))
    with pytest.raises(PlanError, match="split='0:0.000001' has none of 9 rows"):
        keys_in(url, split="0:0.000001")


@pytest.mark.parametrize("by", [None, "label"])
def test_a_table_without_rows_is_one_with_a_split_too(either: Either, by: str | None) -> None:
    url = either.table([])
    with pytest.raises(PlanError, match="there are no rows to load"):
        keys_in(url, split=":0.5", split_by=by)
    with pytest.raises(PlanError, match="no row meets where='id < 0'"):
        keys_in(url, split=":0.5", split_by=by, where="id < 0")


def test_keys_that_are_not_unique_are_noticed_in_other_splits_too(either: Either) -> None:
    is_postgres = either.url.startswith("postgresql")
    columns = "id int8, image_data bytea, label int8" if is_postgres else "id, image_data, label"
    url = either.table([(1, IMAGE, n) for n in range(10)], columns=columns)
    for split in (":0.5", "0.5:"):
        with pytest.raises(PlanError, match="10 rows have the key 1"):
            keys_in(url, split=split, split_by="label")


def test_values_that_are_null_are_left_out_as_the_error_says(either: Either) -> None:
    url = either.table(simple_rows(60))
    execute(url, "UPDATE images SET label = NULL WHERE id > 50")
    options = {"split": ":0.5", "split_by": "label", "params": [100]}
    with pytest.raises(PlanError, match="'label' of split_by= is NULL in") as caught:
        keys_in(url, where="id > 3 AND id < $1 -- some", **options)
    where = ast.literal_eval(str(caught.value).split("or where=")[1])
    expected = [key for key in range(4, 51) if share(key * 10 - 10) < 0.5]
    assert keys_in(url, where=where, **options) == expected
    with pytest.raises(PlanError, match=r"where='\"label\" IS NOT NULL'"):
        keys_in(url, split=":0.5", split_by="label")


def test_a_column_that_does_not_exist_is_named(either: Either) -> None:
    url = either.table(simple_rows(9))
    with pytest.raises(SourceError, match="no column 'patient'.*split_by= names the column"):
        keys_in(url, split=":0.5", split_by="patient")


def test_fractions_cannot_decide(either: Either) -> None:
    """The same number may be written in several ways."""
    is_postgres = either.url.startswith("postgresql")
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label REAL"
    if is_postgres:
        columns = "id int8 PRIMARY KEY, image_data bytea, label numeric"
    url = either.table([(1, IMAGE, 1.5)], columns=columns)
    message = "equal values of that type may differ" if is_postgres else "with a fraction in 1 row"
    with pytest.raises((PlanError, SourceError), match=message) as caught:
        keys_in(url, split=":0.5", split_by="label")
    if is_postgres:
        query = ast.literal_eval(str(caught.value).split("query=")[1])
        part = ":0.5" if share("1.5") < 0.5 else "0.5:"
        options = {"query": query, "split": part, "split_by": "label", "label": None}
        assert keys_in(url, **options) == [1]


# ---- the parts of it -----------------------------------------------------------------------------


def test_ranges_end_where_rows_of_other_splits_are_between() -> None:
    positions = np.array([0, 1, 4, 5, 6, 9])
    keys, following = positions * 10, follows_in(positions)
    assert following.tolist() == [False, True, False, True, True, False]
    ranges = key_ranges(keys, np.arange(6), following)
    assert ranges == [(0, 10), (40, 60), (90, 90)]
    assert key_ranges(keys, np.array([3, 4, 0, 1, 2]), following) == [(50, 60), (0, 10), (40, 40)]


def test_numbers_travel_with_keys_of_every_kind() -> None:
    numbers = np.array([0, 2**64 - 1], np.uint64)
    for keys in (
        np.array([1, 2]),
        np.array([b"a", b"bc"]),
        np.array([(1, b"a"), (2, b"b")], "i8,S1"),
    ):
        back, again = without_numbers(with_numbers(keys, numbers))
        assert back.tolist() == keys.tolist()
        assert back.dtype == keys.dtype
        assert again.tolist() == numbers.tolist()


def execute(url: str, *statements: str) -> None:
    if url.startswith("postgresql"):
        with contextlib.closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            for statement in statements:
                connection.cursor().execute(statement)
        return
    with contextlib.closing(sqlite3.connect(url)) as database, database:
        for statement in statements:
            database.execute(statement)

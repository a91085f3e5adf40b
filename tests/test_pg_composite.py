"""Keys of several columns in PostgreSQL: one row each, in the database's order, by its index."""

from __future__ import annotations

import contextlib
import json
import uuid
from typing import Any

import numpy as np
import pytest

from fastloader import FastLoader, FastloaderWarning, PlanError, RowError, SourceError
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.source.postgres.source import PostgresSource

from .servers.postgres import Database
from .support import all_keys, jpeg
from .tiers import few

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 4, "with_keys": True, "fetch_bytes": 1}
U = [str(uuid.UUID(int=n << 120)) for n in (1, 2, 200)]

KINDS: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    # name: columns; the keys in their order
    "int, text": (
        "a int4, b text",
        [(a, b) for a in (-3, 7, 8) for b in ("", "A", "B'\\", "a,{}", "long " * 20)],
    ),
    "text, int": ("a text, b int8", [(a, b) for a in ("x", "y") for b in (-(2**63), 0, 2**63 - 1)]),
    "uuid, int2": ("a uuid, b int2", [(a, b) for a in U for b in (-1, 0, 5)]),
    "date, numeric, name": (
        "a date, b numeric, c name",
        [
            (a, b, c)
            for a in ("2000-01-01", "2001-01-01")
            for b in ("1.5", "20")
            for c in ("x", "y")
        ],
    ),
}


def prepared(database: Database, kind: str = "int, text", *, key: bool = True) -> str:
    """Create a table with these keys in another order, and labels that are their numbers."""
    columns, keys = KINDS[kind]
    rows = [(*key, jpeg(seed=n % 3), n) for n, key in enumerate(keys)]
    np.random.default_rng(1).shuffle(rows)  # type: ignore[arg-type]
    primary = f", PRIMARY KEY ({', '.join(names(kind))})" if key else ""
    return database.table(rows, columns=f"{columns}, image_data bytea, label int8{primary}")


def names(kind: str) -> list[str]:
    return [column.split()[0] for column in KINDS[kind][0].split(", ")]


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
@pytest.mark.parametrize("consistency", ["snapshot", "latest"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_once_and_in_the_order_of_their_keys(
    database: Database, kind: str, consistency: str
) -> None:
    url = prepared(database, kind)
    key, rows = names(kind), [(key, n) for n, key in enumerate(KINDS[kind][1])]
    options = {**OPTIONS, "key": key, "consistency": consistency}
    with FastLoader(url, workers=0, **options) as loader:  # warns if no index serves
        assert [column.name for column in loader.key_columns] == key
        assert rows_of(loader, key) == rows
        assert rows_of(loader, key) == rows
    with FastLoader(url, workers=2, shuffle=True, **options) as loader:
        one, two = rows_of(loader, key), rows_of(loader, key)
        assert sorted(one, key=lambda row: row[1]) == sorted(two, key=lambda row: row[1]) == rows
        assert one != two


@pytest.mark.parametrize("kind", KINDS)
def test_both_bounds_of_a_range_are_conditions_of_the_index(database: Database, kind: str) -> None:
    url = prepared(database, kind)
    config = make_config({"url": url, "key": names(kind)}, {})
    with contextlib.closing(PostgresSource(config, None, who="test")) as source:
        all_keys(source)
        keys = KINDS[kind][1]
        lines = source.explain([(keys[0], keys[1]), (keys[3], keys[-1])])[1]
    condition = next(line for line in lines.splitlines() if "Index Cond" in line)
    assert ">= ROW(fl.lo, fl.lo1" in condition
    assert "<= ROW(fl.hi, fl.hi1" in condition


def test_a_read_resumes_inside_of_a_range(database: Database) -> None:
    url = prepared(database)
    keys = KINDS["int, text"][1]
    config = make_config({"url": url, "key": ["a", "b"], "fetch_bytes": 1}, {})
    with contextlib.closing(open_source(config)) as source:
        source._fetch_rows = 2  # type: ignore[attr-defined]
        found = []
        for chunk in source.read([(keys[1], keys[9]), (keys[12], keys[13])], ()):
            found += [(int(a), b.decode()) for a, b in chunk.keys.tolist()]
            source._transactions.disconnect()  # type: ignore[attr-defined]
    assert found == [*keys[1:10], *keys[12:14]]


def test_a_state_survives_json_and_resumes(database: Database) -> None:
    url = prepared(database)
    options = {**OPTIONS, "key": ["a", "b"], "workers": 1, "shuffle": True}
    with FastLoader(url, **options) as loader:
        expected = rows_of(loader, ["a", "b"])
    with FastLoader(url, **options) as loader:
        next(iter(loader))
        state = json.loads(json.dumps(loader.state_dict()))
    with FastLoader(url, **options) as loader:
        loader.load_state_dict(state)
        assert rows_of(loader, ["a", "b"]) == expected[4:]


def test_a_bad_row_is_named_by_all_columns_of_its_key(database: Database) -> None:
    url = prepared(database)
    database.execute("UPDATE images SET image_data = 'x' WHERE a = 7 AND b = 'A'")
    for workers in (0, 1):
        options = {**OPTIONS, "key": ["a", "b"], "workers": workers}
        with FastLoader(url, on_error="skip", **options) as loader:
            assert len(rows_of(loader, ["a", "b"])) == 14
            ((key, _),) = loader.bad_rows
            assert key == (7, "A")
        with FastLoader(url, **options) as loader:
            with pytest.raises(RowError, match=r"row with key \(7, 'A'\)") as caught:
                list(loader)
            assert caught.value.key == (7, "A")


def test_rows_that_come_and_go_are_noticed(database: Database) -> None:
    url = prepared(database)
    options = {**OPTIONS, "key": ["a", "b"], "workers": 0, "consistency": "latest"}
    with FastLoader(url, on_error="skip", **options) as loader:
        database.execute("DELETE FROM images WHERE a = 7 AND b = 'A'")
        database.execute("INSERT INTO images VALUES (7, 'A new, longer one', %s, 0)", (jpeg(),))
        assert len(rows_of(loader, ["a", "b"])) == 14
        assert [key for key, _ in loader.bad_rows] == [(7, "A")]
        assert loader.stats().passed_over == 1


# ---- keys that cannot be used --------------------------------------------------------------------


def test_null_in_any_column_is_refused(database: Database) -> None:
    url = prepared(database, key=False)
    database.execute("UPDATE images SET b = NULL WHERE a = -3 AND b <> 'A'")
    with pytest.raises(PlanError, match="the key column 'b' is NULL in 4 rows"):
        FastLoader(url, key=["a", "b"], workers=0)


def test_keys_that_are_not_unique_are_refused(database: Database) -> None:
    url = prepared(database, key=False)
    database.execute("INSERT INTO images SELECT * FROM images WHERE a = 8 AND b = 'A'")
    with pytest.raises(PlanError, match=r"2 rows have the key \(8, 'A'\)"):
        FastLoader(url, key=["a", "b"], workers=0)
    with pytest.raises(PlanError, match="5 rows have the key -3"):
        FastLoader(url, key="a", workers=0)


def test_keys_that_are_equal_in_their_types_only_are_refused(database: Database) -> None:
    rows = [(1, "1.0", jpeg(), 0), (1, "1.00", jpeg(), 0), (2, "1.0", jpeg(), 0)]
    url = database.table(rows, columns="a int4, b numeric, image_data bytea, label int8")
    words = r"the keys \(1, '1.00?'\) and \(1, '1.00?'\) are equal to PostgreSQL"
    with pytest.raises(PlanError, match=words):
        FastLoader(url, key=["a", "b"], workers=0)


def test_a_missing_index_is_warned_of_with_the_remedy(database: Database) -> None:
    url = prepared(database, key=False)
    options = {**OPTIONS, "key": ["a", "b"], "workers": 0}
    with (
        pytest.warns(FastloaderWarning, match="no index serves the key columns 'a', 'b'") as caught,
        FastLoader(url, **options),
    ):
        pass
    remedy = str(caught[0].message).split("Run: ")[1]
    assert remedy == 'CREATE UNIQUE INDEX ON "images" ("a", "b")'
    database.execute(remedy)
    with FastLoader(url, **options) as loader:
        assert len(rows_of(loader, ["a", "b"])) == 15


def test_a_column_that_cannot_be_a_key_is_refused_with_a_cast(database: Database) -> None:
    columns = "a int4, b interval, image_data bytea, label int8"
    url = database.table([(1, "1 day", jpeg(), 3)], columns=columns)
    with pytest.raises(SourceError, match="column 'b' has the type interval") as caught:
        FastLoader(url, key=["a", "b"], workers=0)
    assert 'ON "images" ("a", (extract(epoch FROM "b")::float8))' in str(caught.value)
    query = str(caught.value).split("query='")[1].split("'. Index")[0]
    database.execute(str(caught.value).split("the same expression: ")[1])
    with FastLoader(url, query=query, key=["a", "b"], workers=0, **OPTIONS) as loader:
        assert rows_of(loader, ["a", "b"]) == [((1, "86400"), 3)]


def test_the_variable_has_commas() -> None:
    assert make_config({"url": "x.db"}, {"FASTLOADER_KEY": "shard, name"}).keys == ("shard", "name")
    assert make_config({"url": "x.db", "key": "id"}, {}).keys == ("id",)

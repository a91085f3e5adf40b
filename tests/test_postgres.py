"""What is particular to PostgreSQL: types, keys, large objects, names, advice."""

from __future__ import annotations

import ast
import base64
import contextlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from fastloader import FastLoader, FastloaderWarning, PlanError, RowError, SourceError
from fastloader.fields.columns import Column
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.source.postgres.source import PostgresSource
from fastloader.source.protocol import Source

from .servers.postgres import Database
from .support import all_keys, blobs_of, decoded, jpeg, resized, simple_rows, unpacked
from .tiers import few, full

SMALL = {"size": (8, 8), "batch_size": 4, "workers": 1}


@contextmanager
def opened(url: str, **options: Any) -> Iterator[Source]:
    source = open_source(make_config({"url": url, **options}, {}))
    try:
        yield source
    finally:
        source.close()


# ---- labels --------------------------------------------------------------------------------------

TYPES = {
    # type: (values, dtype and shape that they get, what they become)
    "int2": ([-32768, 0, 32767], Column("v", "int64"), None),
    "int4": ([-(2**31), 0, 2**31 - 1], Column("v", "int64"), None),
    "int8": ([-(2**63), 0, 2**63 - 1], Column("v", "int64"), None),
    "float4": ([-1.5, 0.0, float("inf")], Column("v", "float64"), None),
    "oid": ([0, 1, 2**32 - 1], Column("v", "int64"), None),
    "float8": ([-1e300, 0.1, float("-inf")], Column("v", "float64"), None),
    "bool": ([True, False, True], Column("v", "bool"), None),
    "text": (["", "näme", "a'b\\c"], Column("v", "text"), None),
    "varchar(9)": (["", "näme", "x"], Column("v", "text"), None),
    "char(3)": (["abc", "a", "ab"], Column("v", "text"), ["abc", "a  ", "ab "]),
    "date": (
        ["1970-01-01", "2000-01-01", "1969-12-31"],
        Column("v", "int64"),
        [0, 946_684_800_000_000, -86_400_000_000],
    ),
    "timestamp": (
        ["1970-01-01 00:00:01", "2024-02-29 12:00:00.000001", "0001-01-01 00:00:00"],
        Column("v", "int64"),
        [1_000_000, 1_709_208_000_000_001, -62_135_596_800_000_000],
    ),
    "timestamptz": (
        ["1970-01-01 00:00:01+00", "1970-01-01 01:00:00+01", "2000-01-01 00:00:00+00"],
        Column("v", "int64"),
        [1_000_000, 0, 946_684_800_000_000],
    ),
    "int2[]": ([[1, -2], [3, 4], [5, 6]], Column("v", "int16", (2,)), None),
    "int4[]": ([[1], [-2], [3]], Column("v", "int32", (1,)), None),
    "int8[]": ([[2**40, 2], [3, -(2**60)], [5, 6]], Column("v", "int64", (2,)), None),
    "float4[]": ([[0.5, 2], [3, 4], [5, -6]], Column("v", "float32", (2,)), None),
    "float8[]": ([[0.1, 2], [3, 4], [5, 6]], Column("v", "float64", (2,)), None),
    "bool[]": ([[True, False], [False] * 2, [True] * 2], Column("v", "bool", (2,)), None),
    "float4[][]": (
        [[[1.0, 2], [3, 4]], [[5, 6], [7, 8]], [[0, 0], [0, 1]]],
        Column("v", "float32", (2, 2)),
        None,
    ),
    "int2[][][]": (
        [[[[1, 2], [3, 4], [5, 6]]], [[[0, 0]] * 3], [[[7, -8]] * 3]],
        Column("v", "int16", (1, 3, 2)),
        None,
    ),
    "bytea": (
        [b"abc", b"\0\1\2", b"\\x4"],
        Column("v", "uint8", (3,), "raw"),
        [[97, 98, 99], [0, 1, 2], [92, 120, 52]],
    ),
}  # fmt: skip


@few(6)
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", TYPES)
def test_labels_of_every_type(database: Database, kind: str, workers: int) -> None:
    values, column, expected = TYPES[kind]
    rows = [(i, jpeg(), value) for i, value in enumerate(values)]
    url = database.table(rows, columns=f"id int4 PRIMARY KEY, image_data bytea, v {kind}")
    with FastLoader(url, label="v", **{**SMALL, "workers": workers}) as loader:
        assert loader.columns == (column,)
        ((_, labels),) = loader
        assert labels.dtype == (object if column.is_text else column.dtype)
        assert labels.shape == (3, *column.shape)
        assert labels.tolist() == (values if expected is None else expected)


VECTORS = {
    "vector": ([[0.5, 2, -1], [3, 4, 5], [6, 7, 8]], Column("v", "float32", (3,))),
    "vector(3)": ([[0.5, 2, -1], [3, 4, 5], [6, 7, 8]], Column("v", "float32", (3,))),
    "halfvec": ([[0.5, 2], [3, 4], [6, -65504]], Column("v", "float16", (2,))),
    "halfvec(2)": ([[0.5, 2], [3, 4], [6, -65504]], Column("v", "float16", (2,))),
}


def with_vectors(database: Database) -> Database:
    """Install pgvector outside of the search path, or skip the test."""
    if not database.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("this server has no pgvector")
    database.execute("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext")
    return database


@pytest.mark.parametrize("kind", VECTORS)
def test_vectors_of_pgvector_need_no_cast(database: Database, kind: str) -> None:
    values, column = VECTORS[kind]
    rows = [(i, jpeg(), str(value)) for i, value in enumerate(values)]
    columns = f"id int4 PRIMARY KEY, image_data bytea, v ext.{kind}"
    url = with_vectors(database).table(rows, columns=columns)
    with FastLoader(url, label="v", **SMALL) as loader:
        assert loader.columns == (column,)
        ((_, labels),) = loader
        assert (labels.dtype, labels.tolist()) == (column.dtype, values)
    with FastLoader(url, label="v:float64", **SMALL) as loader:
        ((_, labels),) = loader
        assert (labels.dtype, labels.tolist()) == (np.float64, values)
    database.execute("UPDATE images SET v = NULL WHERE id = 1")
    with FastLoader(url, label="v", on_error="skip", **SMALL) as loader:
        ((_, labels),) = loader
        assert labels.tolist() == [values[0], values[2]]
        wanted = f"an array of {len(values[0])} x {column.dtype} is needed"
        assert loader.bad_rows == [(1, f"column 'v' holds NULL, {wanted}")]


def test_a_type_of_the_users_with_the_name_of_a_vector_is_none(database: Database) -> None:
    database.execute("CREATE TYPE vector AS (x float4, y float4)")
    rows = [(1, jpeg(), "(1,2)")]
    url = database.table(rows, columns="id int4 PRIMARY KEY, image_data bytea, v vector")
    with pytest.raises(SourceError, match="has the type vector; it cannot be a label"):
        FastLoader(url, label="v", **SMALL)


OR_ANOTHER = 'name a type that holds it, e.g. "f:float64"'


def test_a_label_that_asks_for_a_type_gets_it_where_it_fits(database: Database) -> None:
    url = database.table(
        [
            (1, jpeg(), 3, 2.0, [1, 2]),
            (2, jpeg(), 300, 2.0, [3, 4]),
            (3, jpeg(), 3, 2.5, [3, 4]),
            (4, jpeg(), -1, 2.0, [3, 4]),
        ],
        columns="id int4 PRIMARY KEY, image_data bytea, i int8, f float8, v int8[]",
    )
    with FastLoader(url, label=["i:int16", "f:float32", "v:float32"], **SMALL) as loader:
        ((_, labels),) = loader
        assert [value.dtype.name for value in labels.values()] == ["int16", "float32", "float32"]
        assert labels["v"].tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]
    with FastLoader(url, label=["i:uint8", "f:int32"], on_error="skip", **SMALL) as loader:
        ((_, labels),) = loader
        assert (labels["i"].tolist(), labels["f"].tolist()) == ([3], [2])
        assert loader.bad_rows == [
            (2, "column 'i' holds 300, uint8 is needed"),
            (3, f"column 'f' holds 2.5, int32 is needed; {OR_ANOTHER}"),
            (4, "column 'i' holds -1, uint8 is needed"),
        ]


def test_labels_that_cannot_be_delivered_are_bad_rows_with_a_reason(database: Database) -> None:
    rows = [
        (1, jpeg(), 1, [1.0, 2.0], "2000-01-01", "a"),
        (2, jpeg(), None, [1.0, 2.0], "2000-01-01", "a"),
        (3, jpeg(), 1, [1.0], "2000-01-01", "a"),
        (4, jpeg(), 1, [1.0, None], "2000-01-01", "a"),
        (5, jpeg(), 1, None, "2000-01-01", "a"),
        (6, jpeg(), 1, [1.0, 2.0], "infinity", "a"),
        (7, jpeg(), 1, [1.0, 2.0], "2000-01-01", None),
    ]
    columns = "id int4 PRIMARY KEY, image_data bytea, i int4, v float4[], d date, t text"
    url = database.table(rows, columns=columns)
    with FastLoader(url, label=["i", "v", "d", "t"], on_error="skip", **SMALL) as loader:
        ((_, labels),) = loader
        assert len(labels["i"]) == 1
        assert loader.bad_rows == [
            (2, "column 'i' holds NULL, int64 is needed"),
            (3, "column 'v' holds an array of 1, an array of 2 x float32 is needed"),
            (4, "column 'v' holds an array with a NULL in it, an array of 2 x float32 is needed"),
            (5, "column 'v' holds NULL, an array of 2 x float32 is needed"),
            (6, "column 'd' holds infinity or a time too far away, int64 is needed"),
            (7, "column 't' holds NULL, text is needed"),
        ]


@pytest.mark.parametrize(
    ("kind", "values", "microseconds"),
    [
        (
            "date",
            ["4714-11-24 BC", "294247-01-10", "294247-01-11", "5874897-12-31"],
            [-210_866_803_200_000_000, 9_223_372_022_400_000_000],
        ),
        (
            "timestamp",
            ["4714-11-24 00:00:00 BC", "294247-01-10 04:00:54.775807", "294276-12-31 23:59:59"],
            [-210_866_803_200_000_000, 2**63 - 1],
        ),
    ],
)
def test_a_time_that_int64_does_not_hold_is_a_bad_row(
    database: Database, kind: str, values: list[str], microseconds: list[int]
) -> None:
    rows = [(n, jpeg(), value) for n, value in enumerate(values)]
    url = database.table(rows, columns=f"id int4 PRIMARY KEY, image_data bytea, v {kind}")
    with FastLoader(url, label="v", on_error="skip", **SMALL) as loader:
        ((_, labels),) = loader
        assert labels.tolist() == microseconds
        assert [key for key, _ in loader.bad_rows] == list(range(2, len(values)))


def test_an_array_of_another_shape_is_a_bad_row(database: Database) -> None:
    tall, wide = [[1.0, 2.0]] * 5, [[1.0] * 5] * 2
    url = database.table(
        [(1, jpeg(), tall), (2, jpeg(), wide), (3, jpeg(), [1.0] * 10), (4, jpeg(), [])],
        columns="id int4 PRIMARY KEY, image_data bytea, v float4[][]",
    )
    with FastLoader(url, label="v", on_error="skip", **SMALL) as loader:
        assert loader.columns == (Column("v", "float32", (5, 2)),)
        ((_, labels),) = loader
        assert labels.tolist() == [tall]
        assert loader.bad_rows == [
            (row, f"column 'v' holds an array of {shape}, an array of 5 x 2 x float32 is needed")
            for row, shape in ((2, "2 x 5"), (3, "10"), (4, "0"))
        ]
    with FastLoader(url, label="v:uint8", on_error="skip", **SMALL) as loader:
        ((_, labels),) = loader
        assert (labels.dtype, labels.tolist()) == (np.uint8, [tall])
    database.execute("UPDATE images SET v[2][2] = 2.5 WHERE id = 1")
    with FastLoader(url, label="v:uint8", on_error="skip", **SMALL) as loader:
        list(loader)
        key, reason = loader.bad_rows[0]
        assert (key, reason[-23:]) == (1, "5 x 2 x uint8 is needed")


# ---- keys ----------------------------------------------------------------------------------------

UUIDS = sorted(
    str(uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128)) for n in range(9)
)
TEXTS = ["", "A", "B", "a", "a b", "a'b", 'a"b', "a,b", "a\\b", "b", "z{}", "é", "日本", "x" * 300]


@few(6)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("consistency", ["snapshot", "latest"])
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("int2", [-5, 0, 7, 32767]),
        ("int4", [-5, 0, 7, 2**31 - 1]),
        ("int8", [-(2**63), 0, 7, 2**63 - 1]),
        ("uuid", UUIDS),
        ("text", TEXTS),
        ("varchar", TEXTS),
        ('text COLLATE "C"', TEXTS),
    ],
)
def test_keys_of_every_type_come_once_in_the_databases_order(
    database: Database, kind: str, keys: list[Any], consistency: str, workers: int
) -> None:
    rows = [(key, jpeg(seed=i % 3), i) for i, key in enumerate(keys)]
    np.random.default_rng(0).shuffle(rows)  # type: ignore[arg-type]
    url = database.table(rows, columns=f"id {kind} PRIMARY KEY, image_data bytea, label int4")
    order = [row[0] for row in database.execute("SELECT id FROM images ORDER BY id")]
    label = {key: i for i, key in enumerate(keys)}
    options = {**SMALL, "workers": workers, "batch_size": 3, "fetch_bytes": 1}
    with FastLoader(url, with_keys=True, consistency=consistency, **options) as loader:
        for _ in range(2):
            parts = list(unpacked(loader))
            found = [key for part in parts for key in part[2].tolist()]
            assert found == order
            assert [i for part in parts for i in part[1].tolist()] == [label[key] for key in order]
            kinds = {part[2].dtype for part in parts}
            assert kinds == {np.dtype(object if isinstance(keys[0], str) else np.int64)}


def test_text_keys_come_in_the_order_of_their_collation(database: Database) -> None:
    found = database.execute(
        "SELECT collname FROM pg_collation WHERE collname IN ('en-x-icu', 'C')"
    )
    for (collation,) in found:
        database.execute("DROP TABLE IF EXISTS images")
        words = ["b", "A", "a", "B", "á", "Z", "z"]
        url = database.table(
            [(word, jpeg(), 0) for word in words],
            columns=f'id text COLLATE "{collation}" PRIMARY KEY, image_data bytea, label int4',
        )
        order = [row[0] for row in database.execute("SELECT id FROM images ORDER BY id")]
        with FastLoader(url, with_keys=True, **{**SMALL, "batch_size": 2}) as loader:
            assert [key for *_, keys in unpacked(loader) for key in keys.tolist()] == order


@pytest.mark.parametrize("kind", ["uuid", "text"])
def test_rows_with_such_keys_may_come_and_go(database: Database, kind: str) -> None:
    keys = UUIDS
    url = database.table(
        [(key, jpeg(), i) for i, key in enumerate(keys)],
        columns=f"id {kind} PRIMARY KEY, image_data bytea, label int4",
    )
    options = {**SMALL, "on_error": "skip", "consistency": "latest", "with_keys": True}
    with FastLoader(url, **options) as loader:
        gone = [keys[0], keys[5], keys[8]]
        database.execute("DELETE FROM images WHERE id::text = ANY(%s)", (gone,))
        new = [key[:-1] + ("0" if key[-1] != "0" else "1") for key in (keys[1], keys[4], keys[6])]
        for key in new:
            database.execute("INSERT INTO images VALUES (%s, %s, 0)", (key, jpeg()))
        found = [key for *_, part in unpacked(loader) for key in part.tolist()]
        assert found == [key for key in keys if key not in gone]
        assert [key for key, _ in loader.bad_rows] == gone
        assert all("the row is gone" in reason for _, reason in loader.bad_rows)
        assert loader.stats().passed_over > 0


def test_a_bad_row_is_named_by_its_key(database: Database) -> None:
    url = database.table(
        [(UUIDS[0], b"no image", 1)], columns="id uuid PRIMARY KEY, image_data bytea, label int4"
    )
    with FastLoader(url, **SMALL) as loader, pytest.raises(RowError) as caught:
        list(loader)
    assert caught.value.key == UUIDS[0]


def test_keys_that_cannot_be_planned_are_refused(database: Database) -> None:
    url = database.table(
        [(1, jpeg(), 0), (1, jpeg(), 0)], columns="id int4, image_data bytea, label int4"
    )
    with pytest.raises(PlanError, match="2 rows have the key 1; keys must be unique"):
        FastLoader(url, **SMALL)
    query = "SELECT repeat('x', 2000) || id AS id, image_data, label FROM images"
    with pytest.raises(PlanError, match="a key has 2001 bytes"):
        FastLoader(url, query=query, **SMALL)


# ---- images --------------------------------------------------------------------------------------


def test_pixels_are_those_of_the_reference(database: Database) -> None:
    rows = simple_rows(20)
    url = database.table(rows)
    with FastLoader(url, **SMALL) as loader:
        images = np.concatenate([images for images, _ in loader])
    for image, (_, blob, _) in zip(images, rows, strict=True):
        assert np.abs(image - resized(decoded(blob), 8, 8)).max() <= 1


def test_large_objects(database: Database) -> None:
    url = database.table([], columns="id int4 PRIMARY KEY, image_data oid, label int4")
    database.execute(
        "INSERT INTO images SELECT n, lo_from_bytea(0, %s), n FROM generate_series(1, 9) n",
        (jpeg(),),
    )
    database.execute("UPDATE images SET image_data = NULL WHERE id = 3")
    database.execute("SELECT lo_unlink(image_data) FROM images WHERE id = 5")
    options = {**SMALL, "on_error": "skip", "with_keys": True}
    with FastLoader(url, **options) as loader:
        assert [key for *_, part in unpacked(loader) for key in part.tolist()] == [
            1,
            2,
            4,
            6,
            7,
            8,
            9,
        ]
        assert [key for key, _ in loader.bad_rows] == [3, 5]
        assert "the oid of a large object that does not exist" in loader.bad_rows[1][1]
    with (
        FastLoader(url, max_blob_bytes=100, **SMALL) as loader,
        pytest.raises(RowError, match="holds more than 100 bytes; the limit is 100"),
    ):
        list(loader)


@pytest.mark.parametrize("form", ["base64", "lines", "hex", "bytea", "url", "json"])
def test_an_image_of_another_type_is_refused_with_a_cast(database: Database, form: str) -> None:
    blob = jpeg()
    value = {
        "base64": base64.b64encode(blob).decode(),
        "lines": base64.encodebytes(blob).decode(),
        "hex": blob.hex(),
        "bytea": "\\x" + blob.hex().upper(),
        "url": "data:image/jpeg;base64," + base64.b64encode(blob).decode(),
        "json": None,
    }[form]
    kind = "json" if form == "json" else "text"
    url = database.table(
        [(1, value, 0)], columns=f"id int4 PRIMARY KEY, image_data {kind}, label int4"
    )
    with pytest.raises(SourceError, match=f"'image_data' has the type {kind}; images") as caught:
        FastLoader(url, **SMALL)
    if value is None:
        return
    query = ast.literal_eval(str(caught.value).split("query=")[1])
    with FastLoader(url, query=query, **SMALL) as loader:
        ((images, _),) = loader
        assert np.abs(images[0] - resized(decoded(blob), 8, 8)).max() <= 1


@full
def test_a_blob_of_200_mb_is_over_the_limit_or_is_fetched(database: Database) -> None:
    url = database.table([(1, jpeg(), 1), (3, jpeg(), 3)])
    database.execute(
        "ALTER TABLE images ALTER image_data SET STORAGE EXTERNAL; INSERT INTO images "
        "SELECT 2, decode(repeat('00', 200 * 1024 * 1024), 'hex'), 2"
    )
    with FastLoader(url, on_error="skip", with_keys=True, **SMALL) as loader:
        ((_, _, keys),) = unpacked(loader)
        assert keys.tolist() == [1, 3]
        ((_, reason),) = loader.bad_rows
        assert "holds 209715200 bytes; the limit is 67108864; raise max_blob_bytes" in reason
    with FastLoader(url, on_error="skip", max_blob_bytes=1 << 28, **SMALL) as loader:
        list(loader)
        ((_, reason),) = loader.bad_rows
        assert "unknown image format" in reason or "not a JPEG" in reason


# ---- tables, views, queries ----------------------------------------------------------------------


def test_a_table_may_be_in_a_schema_be_a_view_or_be_partitioned(database: Database) -> None:
    url = database.table(simple_rows(6))
    database.execute("CREATE SCHEMA s")
    database.execute("CREATE TABLE s.t AS SELECT * FROM images")
    database.execute("ALTER TABLE s.t ADD PRIMARY KEY (id)")
    database.execute("CREATE VIEW late AS SELECT * FROM images WHERE id > 3")
    database.execute("CREATE TABLE parts (LIKE images, PRIMARY KEY (id)) PARTITION BY RANGE (id)")
    for low, high in ((0, 3), (3, 100)):
        database.execute(
            f"CREATE TABLE parts_{low} PARTITION OF parts FOR VALUES FROM ({low}) TO ({high})"
        )
    database.execute("INSERT INTO parts SELECT * FROM images")
    for name, keys in (("s.t", range(1, 7)), ("late", range(4, 7)), ("parts", range(1, 7))):
        with FastLoader(url, table=name, with_keys=True, **SMALL) as loader:
            assert [key for *_, part in unpacked(loader) for key in part.tolist()] == list(keys)
    with pytest.raises(SourceError, match=r"no table 's\.nothing'; there are: images, late, parts"):
        FastLoader(url, table="s.nothing", **SMALL)
    with pytest.raises(SourceError, match="no table 'x.nothing'"):
        FastLoader(url, table="x.nothing", **SMALL)


def test_a_query_may_join(database: Database) -> None:
    url = database.table(simple_rows(6))
    database.table(
        [(n * 10, f"class {n}") for n in range(6)], name="names", columns="n int8, t text"
    )
    query = "SELECT i.id, i.image_data, n.t FROM images i JOIN names n ON n.n = i.label -- names"
    with FastLoader(url, query=query, label="t", **SMALL) as loader:
        assert [t for _, part in loader for t in part.tolist()] == [f"class {n}" for n in range(6)]


# ---- advice --------------------------------------------------------------------------------------


def test_a_missing_index_is_warned_of_with_the_remedy(database: Database) -> None:
    url = database.table(simple_rows(5), columns="id int4, image_data bytea, label int4")
    with pytest.warns(FastloaderWarning, match="every key range scans the whole") as caught:
        FastLoader(url, **SMALL).close()
    assert len(caught) == 1
    database.execute(str(caught[0].message).split("Run: ")[1])
    FastLoader(url, **SMALL).close()  # a warning would be an error here


def test_a_table_is_read_through_its_index_whatever_the_planner_thinks(
    database: Database,
) -> None:
    url = database.table(simple_rows(1))
    database.execute("INSERT INTO images SELECT n, '', 0 FROM generate_series(2, 9999) n; ANALYZE")
    database.execute(f"ALTER DATABASE {database.name} SET random_page_cost = 1000")
    source = PostgresSource(make_config({"url": url}, {}), None, who="test")
    with contextlib.closing(source):
        assert len(all_keys(source)) == 9999  # with the warning as an error
    source = PostgresSource(make_config({"url": url}, {}), None, who="test")
    with contextlib.closing(source):
        ranges = [(n, n + 63) for n in range(9000, 0, -640)]
        chunks = list(source.read(ranges, (Column("label", "int64"),)))
        assert sum(len(chunk.keys) for chunk in chunks) == 64 * len(ranges)
        _, plan = source.explain(ranges)  # in the transaction of the read
        assert "fl.lo" in plan[plan.index("Index Cond") :]
        assert "Seq Scan" not in plan


def test_compressed_images_are_advised_against_with_the_remedy(database: Database) -> None:
    image = jpeg(300, 300, quality=30) + b"\0" * 100_000
    url = database.table([(n, image, n) for n in range(5)])
    with pytest.warns(FastloaderWarning, match="has compressed the column") as caught:
        FastLoader(url, **SMALL).close()
    for statement in str(caught[0].message).split("Run: ")[1].split("; and write the rows again: "):
        database.execute(statement)
    with FastLoader(url, **SMALL) as loader:
        assert sum(len(images) for images, _ in loader) == 5


def test_blobs_are_lent_by_the_result_that_the_chunk_owns(database: Database) -> None:
    url = database.table(simple_rows(100))
    with opened(url, fetch_bytes=1000) as source:
        chunks = list(source.read([(1, 100)], (Column("label", "int64"),)))
    assert [blob for chunk in chunks for blob in blobs_of(chunk)] == [
        blob for _, blob, _ in simple_rows(100)
    ]


def test_the_server_writes_no_temporary_file_for_a_fetch(database: Database) -> None:
    """It collects the rows of a FETCH in its ``work_mem`` of 4 MB, or in a file."""

    def written() -> int:
        deadline = time.monotonic() + 30
        others = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'fastloader%'"
        while database.execute(others) != [(0,)]:  # a connection is counted when it ends
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ((found,),) = database.execute(
            "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()"
        )
        return int(found)

    database.execute("CREATE TABLE texts (id int PRIMARY KEY, v text NOT NULL)")
    database.execute(
        "INSERT INTO texts SELECT n, repeat('x', 1500) FROM generate_series(1, 9000) n"
    )
    database.execute("ANALYZE texts")  # or the server might sort the rows, in a file
    before = written()
    with opened(database.url(), table="texts", image=None, label=["v"]) as source:
        columns = source.label_columns(all_keys(source))
        assert sum(len(chunk.keys) for chunk in source.read([(1, 9000)], columns)) == 9000
    assert written() == before

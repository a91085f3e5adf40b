"""Queries that PostgreSQL may answer differently each time: each row comes once, or an error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader, SourceError
from fastloader.source.postgres.connection import Connection
from fastloader.source.postgres.explain import calls

from .servers.cluster import cluster
from .servers.postgres import Database, all_servers
from .support import jpeg, simple_rows, unpacked, wait_until
from .tiers import full

OPTIONS = {"size": (8, 8), "batch_size": 8, "workers": 1, "with_keys": True}
workers = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def url(database: Database) -> str:
    return database.table(simple_rows(60))


def fails(url: str, message: str, query: str | None = None, **options: object) -> str:
    with pytest.raises(SourceError, match=message) as caught:
        FastLoader(url, query=query, **{**OPTIONS, **options})  # type: ignore[arg-type]
    return str(caught.value)


# ---- chance --------------------------------------------------------------------------------------

BY_CHANCE = {
    r"random\(\)": [
        "SELECT * FROM images ORDER BY random() LIMIT 20",
        "SELECT * FROM images WHERE random() < 0.8",
        "SELECT row_number() OVER (ORDER BY random()) AS id, image_data, label FROM images",
        "WITH part AS (SELECT id FROM images ORDER BY random() LIMIT 9) "
        "SELECT * FROM images JOIN part USING (id)",
        "SELECT * FROM images WHERE id IN (SELECT (random() * 60)::int FROM generate_series(1, 9))",
        "SELECT id, image_data, coalesce(label, (random() * 5)::int8) AS label FROM images",
        "SELECT * FROM (SELECT *, random() AS r FROM images) i WHERE r < 0.5",
        "SELECT * FROM images WHERE id % 2 = 0 UNION ALL "
        "SELECT * FROM images WHERE id % 2 = 1 AND random() < 0.5",
    ],
    r"clock_timestamp\(\)": [
        "SELECT * FROM images WHERE id % 3 = extract(second FROM clock_timestamp())::int % 3"
    ],
    "gen_random_uuid": ["SELECT gen_random_uuid() AS id, image_data, label FROM images"],
    "nextval": ["SELECT nextval('numbers') AS id, image_data, label FROM images"],
    "TABLESAMPLE": [
        "SELECT * FROM images TABLESAMPLE bernoulli (50)",
        "SELECT i.* FROM images i "
        "JOIN (SELECT id FROM images TABLESAMPLE system (50)) s USING (id)",
    ],
}


def test_queries_of_chance_are_refused(database: Database, url: str) -> None:
    database.execute("CREATE SEQUENCE numbers")
    for words, queries in BY_CHANCE.items():
        for query in queries:
            if words == "gen_random_uuid" and database.cluster.version < 13:
                continue
            said = fails(url, words, query, workers=0)
            assert "each time" in said, query


def test_a_view_of_chance_is_refused(database: Database, url: str) -> None:
    database.execute("CREATE VIEW part AS SELECT * FROM images WHERE random() < 0.8")
    database.execute("CREATE VIEW more AS SELECT id, image_data, label FROM part WHERE id < 50")
    fails(url, r"random\(\) is volatile", table="more")


@pytest.mark.filterwarnings("ignore:.*no index serves the key")
def test_a_volatile_function_of_the_users_is_refused_with_the_remedy(
    database: Database, url: str
) -> None:
    database.execute('CREATE SCHEMA "My schema"')
    database.execute(
        'CREATE FUNCTION "My schema"."F, 1"(n int8, text) RETURNS int8 LANGUAGE plpgsql '
        "AS 'BEGIN RETURN n; END'"
    )
    query = """SELECT "My schema"."F, 1"(id, 'a''b "(c') AS id, image_data, label FROM images"""
    said = fails(url, "is volatile", query)
    database.execute(said.split("tell PostgreSQL so: ")[1])
    with FastLoader(url, query=query, **OPTIONS) as loader:
        assert sum(len(keys) for *_, keys in unpacked(loader)) == 60


@full
@pytest.mark.filterwarnings("ignore:.*no index serves the key")
def test_what_is_the_same_each_time_is_read(database: Database, url: str) -> None:
    """Also where words look like calls of random()."""
    database.execute("CREATE FUNCTION lower(int8) RETURNS int8 LANGUAGE sql AS 'SELECT $1'")
    database.execute('ALTER TABLE images ADD "random()" int8 DEFAULT 1')
    for query, rows in (
        ("SELECT * FROM images TABLESAMPLE bernoulli (50) REPEATABLE (7)", None),
        ("SELECT * FROM images WHERE abs(hashint8(id) % 10) < 8", None),
        ("SELECT * FROM images WHERE now() > '2000-01-01' AND current_user IS NOT NULL", 60),
        ("SELECT *, 'random()' AS r FROM images WHERE lower('nextval(1)''(') <> ''", 60),
        ('SELECT * FROM images WHERE "random()" = 1', 60),
        ("SELECT images.* FROM images, pg_sleep(0)", 60),
        ("SELECT * FROM images ORDER BY id LIMIT 20", 20),
        ("SELECT DISTINCT ON (id) * FROM images ORDER BY id", 60),
    ):
        with FastLoader(url, query=query, **OPTIONS) as loader:
            keys = [key for *_, part in unpacked(loader) for key in part.tolist()]
            assert len(keys) == (rows or len(keys)) > 10
            assert keys == sorted(set(keys))


@full
@pytest.mark.filterwarnings("ignore:.*no index serves the key")
def test_rows_are_copied_where_a_plan_begins_at_any_row(
    database: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Elsewhere, and with images or parameters, a cursor reads on where it was."""
    sent: list[str] = []
    query = Connection.query

    def spied(self: Connection, sql: str, *args: Any, **kwargs: Any) -> Any:
        sent.append(sql)
        return query(self, sql, *args, **kwargs)

    monkeypatch.setattr(Connection, "query", spied)
    database.execute("CREATE VIEW plain AS SELECT id, label + 1 AS label FROM images")
    database.execute("CREATE TABLE names AS SELECT id, id::text AS name FROM images")
    database.execute("CREATE TABLE parts (id int8 PRIMARY KEY, label int8) PARTITION BY RANGE (id)")
    for start in (0, 30):
        database.execute(
            f"CREATE TABLE part_{start} PARTITION OF parts FOR VALUES FROM ({start}) "
            f"TO ({start + 30 + start // 30})"
        )
    database.execute("INSERT INTO parts SELECT id, label FROM images")
    for given, is_copied in (
        ({"table": "images"}, True),
        ({"table": "images", "where": "id < 50"}, True),
        ({"table": "images", "consistency": "latest"}, True),
        ({"table": "plain"}, True),
        ({"table": "parts"}, True),
        ({"query": "SELECT id, label FROM images"}, True),
        ({"table": "names", "label": ["name"]}, False),  # without an index
        ({"table": "images", "where": "id < $1", "params": [50]}, False),
        ({"table": "images", "image": "image_data"}, False),
        ({"query": "SELECT id, label FROM images JOIN names USING (id)"}, False),
        ({"query": "SELECT row_number() OVER () AS id, label FROM images"}, False),
        ({"query": "SELECT DISTINCT ON (id) id, label FROM images ORDER BY id"}, False),
    ):
        sent.clear()
        options: dict[str, Any] = {**OPTIONS, "image": None, "label": ["label"], "workers": 0}
        options |= given
        if options["image"] is None:
            del options["size"]
        with FastLoader(url, **options) as loader:
            assert sum(len(inputs["id"]) for inputs, _ in loader) >= 49
        assert any("COPY (" in sql for sql in sent) == is_copied, given
        assert any("DECLARE fl_rows" in sql for sql in sent) != is_copied, given


def test_calls_are_found_where_they_are() -> None:
    plan = {
        "Output": ['s."F ""o"(t.id, \'x(\')', "COALESCE(a, lower('it''s (x)'::text))"],
        "Filter": "(x('a') < y.z(1))",
        "Plans": [{"Function Call": "g(1)"}],
    }
    assert calls(plan) == {("s", 'F "o'), ("", "lower"), ("", "x"), ("y", "z"), ("", "g")}


# ---- order ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=all_servers())
def small_server(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Yield a server with few shared buffers.

    A scan of a table that is larger than a quarter of them starts where another scan is or was.
    """
    bindir: Path = request.param
    with cluster(bindir, shared_buffers="1MB") as server:
        yield Database(server)


@workers
@pytest.mark.parametrize("consistency", ["snapshot", "latest"])
@pytest.mark.filterwarnings("ignore:.*no index serves the key")
def test_row_numbers_are_the_same_in_each_read(
    small_server: Database, workers: int, consistency: str
) -> None:
    images = [jpeg(32, 24, seed=seed) for seed in range(4)]
    small_server.execute("DROP TABLE IF EXISTS images")
    url = small_server.table([(n, images[n % 4], n) for n in range(1, 2001)])
    (pages,) = small_server.execute("SELECT pg_relation_size('images') / 8192")
    assert pages[0] > 2 * 32  # of 128 buffers
    query = "SELECT row_number() OVER () AS id, image_data, label FROM images"
    options = {
        **OPTIONS,
        "workers": workers,
        "consistency": consistency,
        "batch_size": 50,
        "slots": 2,
    }
    with FastLoader(url, query=query, fetch_bytes=50_000, **options) as loader:
        for _ in range(2):
            batches = list(unpacked(loader))
            keys = [key for *_, part in batches for key in part.tolist()]
            assert keys == list(range(1, 2001))
            labels = [label for _, part, _ in batches for label in part.tolist()]
            assert sorted(labels) == list(range(1, 2001))


def test_a_limit_without_an_order_is_read_as_its_keys_were_or_refused(database: Database) -> None:
    """The keys come from an index that the images are not in."""
    rows = [(n, b"x" * 1500, n) for n in range(2000, 0, -1)]
    url = database.table(rows)

    def is_visible() -> bool:
        """Otherwise the index alone does not do."""
        database.execute("VACUUM (ANALYZE) images")
        pages = "SELECT relallvisible = relpages FROM pg_class WHERE relname = 'images'"
        return bool(database.execute(pages)[0][0])

    wait_until(is_visible)
    said = fails(url, "other keys when it is read again", "SELECT * FROM images LIMIT 100")
    assert "ORDER BY id LIMIT 100" in said

"""Servers that have no connection to spare, and names that lead to another database."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import psycopg2
import pytest

from fastloader import FastLoader, SourceError
from fastloader.options.config import make_config
from fastloader.source.postgres.source import PostgresSource

from .servers.cluster import Cluster, cluster
from .servers.postgres import Database, standby_of
from .support import all_keys, jpeg, parts_of
from .tiers import full

ROWS = 600
KEYS = list(range(1, ROWS + 1))
OPTIONS = {"size": (8, 8), "batch_size": 8, "with_keys": True, "fetch_bytes": 10_000}
QUICK = {**OPTIONS, "stall_timeout_s": 1.0, "reconnect_timeout_s": 1.0}
FULL = (
    r"(sorry, too many clients already|remaining connection slots)(.|\n)*Tried for"
    r"(.|\n)*SQLSTATE 53300; use fewer workers, or a higher max_connections"
)

workers = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def filled(database: Database) -> Database:
    """600 rows with keys 1, 2, ..."""
    fill(database)
    return database


def fill(database: Database) -> None:
    images = [jpeg(60, 40, seed=seed) for seed in range(4)]
    database.table([(key, images[key % 4], key) for key in KEYS])


def keys_of(batches: Any) -> list[int]:
    return [key for *_, keys in batches for key in keys.tolist()]


# ---- too many connections ------------------------------------------------------------------------


def connections(database: Database) -> list[Any]:
    """As many as the server lets us have."""
    found: list[Any] = []
    with contextlib.suppress(psycopg2.OperationalError):
        while True:
            found.append(database.connect())
    return found


@workers
def test_a_full_table_of_connections_is_waited_for(filled: Database, workers: int) -> None:
    most = int(filled.execute("SHOW max_connections")[0][0])
    with FastLoader(filled.url(), workers=workers, slots=2, **OPTIONS) as loader:
        filled.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'fastloader worker%'"
        )
        others = connections(filled)
        timer = threading.Timer(0.7, lambda: [other.close() for other in others])
        timer.start()
        assert keys_of(loader) == KEYS
        timer.join()
        assert len(others) > most // 2


def test_a_table_of_connections_that_stays_full_is_an_error(filled: Database) -> None:
    with FastLoader(filled.url(), workers=1, **QUICK) as loader:
        others = connections(filled)
        try:
            with pytest.raises(SourceError, match=FULL):
                list(loader)
        finally:
            for other in others:
                other.close()


@workers
def test_the_first_connection_waits_for_one_too(filled: Database, workers: int) -> None:
    others = connections(filled)
    timer = threading.Timer(2.0, lambda: [other.close() for other in others])
    timer.start()
    with FastLoader(filled.url(), workers=workers, **OPTIONS) as loader:
        assert keys_of(loader) == KEYS
    timer.join()


@workers
def test_a_first_connection_that_is_never_had_is_an_error(filled: Database, workers: int) -> None:
    others = connections(filled)
    try:
        with pytest.raises(SourceError, match=FULL):
            FastLoader(filled.url(), workers=workers, **QUICK)
    finally:
        for other in others:
            other.close()


def test_the_limit_of_a_role_is_told_too(filled: Database) -> None:
    filled.execute("DROP ROLE IF EXISTS one; CREATE ROLE one LOGIN CONNECTION LIMIT 0")
    url = filled.url().replace("postgres@", "one@")
    with pytest.raises(
        SourceError, match=r'too many connections for role "one"(.|\n)*fewer workers'
    ):
        FastLoader(url, workers=1, **QUICK)


# ---- another database ----------------------------------------------------------------------------


def test_a_database_is_known_to_everybody(filled: Database) -> None:
    """And is the same under each name of the server."""
    filled.execute("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN")
    filled.execute("GRANT SELECT ON images TO plain")
    found = set()
    for url in (
        filled.url(),
        filled.url(host="127.0.0.1"),
        filled.url().replace("postgres@", "plain@"),
    ):
        source = PostgresSource(make_config({"url": url}, {}), None, who="test")
        with contextlib.closing(source):
            found.add(source.identity())
    (one,) = found
    system, oid = one.split()
    assert filled.execute("SELECT system_identifier FROM pg_control_system()") == [(int(system),)]
    assert filled.execute("SELECT oid FROM pg_database WHERE datname = current_database()") == [
        (int(oid),)
    ]


def test_where_a_database_cannot_be_known_it_is_not_compared(filled: Database) -> None:
    filled.execute("DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN")
    filled.execute("GRANT SELECT ON images TO plain")
    filled.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM public")
    url = filled.url().replace("postgres@", "plain@")
    source = PostgresSource(make_config({"url": url}, {}), None, who="test", identity="1 2")
    with contextlib.closing(source):
        assert all_keys(source).tolist() == KEYS
    unknown = PostgresSource(make_config({"url": url}, {}), None, who="test")
    with contextlib.closing(unknown):
        assert unknown.identity() == ""


@pytest.mark.parametrize("consistency", ["snapshot", "latest"])
def test_a_source_of_another_database_is_refused(filled: Database, consistency: str) -> None:
    other = Database(filled.cluster)
    try:
        fill(other)
        config = make_config({"url": filled.url(), "consistency": consistency}, {})
        with contextlib.closing(PostgresSource(config, None, who="test")) as source:
            here = source.identity()
        config = make_config({"url": other.url(), "consistency": consistency}, {})
        source = PostgresSource(config, None, who="test", identity=here)
        with (
            contextlib.closing(source),
            pytest.raises(SourceError, match="cannot read keys 1 to 9: this is another database"),
        ):
            list(source.read([(1, 9)], ()))
    finally:
        other.drop()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failover_to_another_cluster_is_an_error(server: Cluster, workers: int) -> None:
    """The URL names two servers; the second has a table that looks the same."""
    with cluster(server.bindir) as first, cluster(server.bindir) as second:
        for one in (first, second):
            database = Database(one)
            database.name = "postgres"
            fill(database)
        hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
        url = f"postgresql://postgres@{hosts}/postgres"
        options = {**OPTIONS, "slots": 2, "consistency": "latest", "reconnect_timeout_s": 5.0}
        with FastLoader(url, workers=workers, **options) as loader:
            iterator = iter(loader)
            next(iterator)
            first.stop(immediate=True)
            with pytest.raises(SourceError, match="another database than the one whose keys"):
                list(iterator)


@full
def test_a_failover_to_a_replica_is_survived(server: Cluster) -> None:
    with cluster(server.bindir) as first:
        database = Database(first)
        database.name = "postgres"
        fill(database)
        with standby_of(first) as second:
            hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
            url = f"postgresql://postgres@{hosts}/postgres"
            options = {**OPTIONS, "slots": 2, "consistency": "latest"}
            with FastLoader(url, workers=2, **options) as loader:
                iterator = iter(loader)
                keys = parts_of(next(iterator))[-1].tolist()
                first.stop(immediate=True)
                assert keys + keys_of(iterator) == KEYS
                assert loader.stats().reconnects > 0

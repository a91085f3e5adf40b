"""What the rows are while others write: a snapshot, or the latest, and every row once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fastloader import FastLoader, SourceError

from .servers.cluster import Cluster
from .servers.postgres import Database
from .support import jpeg, survey_processes, unpacked, wait_until, worker_processes
from .tiers import full

ROWS = 900
OPTIONS = {"size": (8, 8), "batch_size": 8, "with_keys": True, "fetch_bytes": 10_000}

IMAGES = [jpeg(60, 40, seed=seed) for seed in range(4)]


@pytest.fixture
def url(database: Database) -> str:
    """900 rows with keys 3, 6, ..., and labels that are the keys."""
    return database.table([(3 * n, IMAGES[n % 4], 3 * n) for n in range(1, ROWS + 1)])


KEYS = list(range(3, 3 * ROWS + 1, 3))


def rows_of(loader: FastLoader) -> tuple[list[int], list[int]]:
    """Keys and labels of an epoch."""
    keys, labels = [], []
    for _, some_labels, some_keys in unpacked(loader):
        keys += some_keys.tolist()
        labels += some_labels.tolist()
    return keys, labels


@contextmanager
def writer(database: Database, seed: int = 0) -> Iterator[list[int]]:
    """Insert, update and delete at full speed, between the planned keys and on them.

    Yields how many statements have run and how many rows have changed.
    """
    rng = random.Random(seed)
    stop = threading.Event()
    done = [0, 0]

    def write() -> None:
        connection = database.connect()
        with connection.cursor() as cursor:
            while not stop.is_set():
                key = rng.randint(1, 3 * ROWS)
                cursor.execute(
                    *rng.choice((
                        ("UPDATE images SET label = -1, image_data = '' WHERE id = %s", (key,)),
                        ("DELETE FROM images WHERE id = %s", (key,)),
                        (
                            "INSERT INTO images VALUES (%s, %s, -2) ON CONFLICT DO NOTHING",
                            (key, IMAGES[0]),
                        ),
                    ))
                )  # fmt: skip
                done[0] += 1
                done[1] += cursor.rowcount
        connection.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_in_a_snapshot_nothing_changes_while_others_write(
    database: Database, url: str, workers: int
) -> None:
    with FastLoader(url, workers=workers, **OPTIONS) as loader, writer(database) as written:
        for _ in range(3):
            assert rows_of(loader) == (KEYS, KEYS)
        wait_until(lambda: written[1] > 200)
        assert rows_of(loader) == (KEYS, KEYS)
        assert loader.stats().passed_over == 0
    assert database.execute("SELECT count(*) FROM images WHERE label < 0") > [(0,)]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_latest_rows_come_once_in_plan_order_and_the_gone_are_counted(
    database: Database, url: str, workers: int
) -> None:
    options = {**OPTIONS, "consistency": "latest", "on_error": "skip"}
    with FastLoader(url, workers=workers, **options) as loader, writer(database):
        for _ in range(3):
            keys, labels = rows_of(loader)
            assert keys == sorted(set(keys))
            bad = {key for key, _ in loader.bad_rows}
            assert set(keys) | bad == set(KEYS)
            assert all(label in (key, -2) for key, label in zip(keys, labels, strict=True))
        reasons = {reason[:15] for _, reason in loader.bad_rows}
        assert reasons == {"the row is gone", "empty image (th"}
        assert loader.stats().passed_over > 0


def test_the_latest_holds_no_transaction_while_the_consumer_pauses(
    database: Database, url: str
) -> None:
    with FastLoader(url, workers=1, consistency="latest", slots=2, **OPTIONS) as loader:
        iterator = iter(loader)
        next(iterator)

        def idle() -> bool:
            states = database.execute(
                "SELECT state FROM pg_stat_activity WHERE application_name LIKE 'fastloader%'"
            )
            return states == [("idle",)]

        wait_until(idle)
        database.execute("ALTER TABLE images ADD extra int")  # needs the table for itself
        assert sum(len(part) for part, *_ in unpacked(iterator)) == ROWS - 8


def kill_workers(database: Database, who: str = "fastloader worker%") -> int:
    """End the connections of workers, and return how many there were."""
    return len(
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s "
            "AND datname = current_database()",
            (who,),
        )
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("consistency", ["snapshot", "latest"])
def test_rows_come_once_in_order_though_connections_are_ended(
    database: Database, url: str, consistency: str, workers: int
) -> None:
    ended = 0
    options = {**OPTIONS, "consistency": consistency, "slots": 2}
    with FastLoader(url, workers=workers, **options) as loader:
        for _ in range(2):
            keys = []
            for i, (_, _, some) in enumerate(unpacked(loader)):
                keys += some.tolist()
                if i % 10 == 5:
                    ended += kill_workers(database)
            assert keys == KEYS
        assert loader.stats().restarts == 0
        assert 5 <= loader.stats().reconnects <= ended


@full
def test_rows_come_once_in_order_though_workers_and_connections_die(
    database: Database, url: str
) -> None:
    """A replaced worker finds the snapshot again, whose holder is another process."""
    rng = random.Random(0)
    with FastLoader(url, workers=2, slots=2, max_restarts=50, **OPTIONS) as loader:
        keys = []
        for i, (_, _, some) in enumerate(unpacked(loader)):
            keys += some.tolist()
            if i % 12 == 3:
                rng.choice(worker_processes()).kill()
            if i % 12 == 9:
                kill_workers(database)
        assert keys == KEYS
        assert loader.stats().restarts > 5


def test_a_restart_of_the_server_is_survived_by_the_latest(server: Cluster, url: str) -> None:
    options = {**OPTIONS, "consistency": "latest", "slots": 2}
    with FastLoader(url, workers=2, **options) as loader:
        keys = []
        for i, (_, _, some) in enumerate(unpacked(loader)):
            keys += some.tolist()
            if i in (20, 60):
                server.restart(immediate=i == 60)
        assert keys == KEYS


@pytest.mark.parametrize("workers", [0, 2])
def test_a_restart_of_the_server_ends_a_snapshot_with_one_clear_error(
    server: Cluster, url: str, workers: int
) -> None:
    with FastLoader(url, workers=workers, slots=2, **OPTIONS) as loader:
        iterator = iter(loader)
        next(iterator)
        server.restart()
        with pytest.raises(SourceError, match='make a new loader; or pass consistency="latest"'):
            list(iterator)
    with FastLoader(url, workers=workers, **OPTIONS) as loader:
        assert rows_of(loader)[0] == KEYS


def test_a_snapshot_without_its_holder_goes_on_until_somebody_needs_it_again(
    database: Database, url: str
) -> None:
    with FastLoader(url, workers=2, slots=2, **OPTIONS) as loader:
        iterator = iter(loader)
        next(iterator)
        next(iterator)
        (holder,) = survey_processes()
        holder.kill()
        assert sum(len(part) for part, *_ in unpacked(iterator)) == ROWS - 16
        kill_workers(database)
        with pytest.raises(
            SourceError, match="The snapshot ended with the connection that held it"
        ):
            list(loader)


def test_the_snapshot_is_held_no_longer_than_the_loader_lives(database: Database, url: str) -> None:
    def held() -> int:
        (row,) = database.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_xmin IS NOT NULL "
            "AND application_name LIKE 'fastloader%'"
        )
        return int(row[0])

    with FastLoader(url, workers=1, **OPTIONS) as loader:
        next(iter(loader))
        assert held() > 0
    wait_until(lambda: held() == 0)
    database.execute("DROP TABLE images")  # an error where it has to wait: see lock_timeout


def test_idle_transactions_are_not_ended_by_the_servers_timeouts(
    database: Database, url: str
) -> None:
    database.execute(
        f"ALTER DATABASE {database.name} SET idle_in_transaction_session_timeout = 200"
    )
    with FastLoader(url, workers=1, slots=2, **OPTIONS) as loader:
        iterator = iter(loader)
        next(iterator)
        time.sleep(1.0)  # longer than the server's patience
        assert sum(len(part) for part, *_ in unpacked(iterator)) == ROWS - 8
        kill_workers(database)  # which need the holder's transaction again
        assert rows_of(loader)[0] == KEYS

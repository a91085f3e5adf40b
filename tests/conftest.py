"""Fixtures: tables, servers, and the promise that a test leaves no process behind."""

from __future__ import annotations

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from .servers.cluster import Cluster, cluster
from .servers.postgres import Database, all_servers, bindirs
from .support import simple_rows, survey_processes, table, wait_until, worker_processes
from .tiers import mark_tiers

# The tests have time limits of their own, and the machines are shared.
hypothesis.settings.register_profile("shared machine", deadline=None)
hypothesis.settings.load_profile("shared machine")

# A shell's background jobs ignore it, and so would the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """100 rows with keys 3, 6, ..., 300 and labels 0, 10, ..., 990."""
    return table(tmp_path / "small.db", simple_rows(100, gap=3))


@pytest.fixture(scope="session")
def servers() -> Iterator[Callable[[Path], Cluster]]:
    """Return a function that starts a server with the programs in a folder, once."""
    with contextlib.ExitStack() as running:
        yield functools.cache(lambda bindir: running.enter_context(cluster(bindir)))


@pytest.fixture(params=all_servers())
def server(request: pytest.FixtureRequest, servers: Callable[[Path], Cluster]) -> Cluster:
    """Each of the PostgreSQL servers that there are."""
    return servers(request.param)


@pytest.fixture
def database(server: Cluster) -> Iterator[Database]:
    """Yield an empty database, which is dropped after the test."""
    database = Database(server)
    yield database
    database.drop()


class Either:
    """An empty database of one kind or the other.

    ``url`` is its URL. ``table`` creates the table ``images`` from rows, with other columns if they
    are given, and returns the URL.
    """

    def __init__(self, url: str, table: Callable[..., str]) -> None:
        self.url, self.table = url, table


@pytest.fixture(params=["sqlite", "postgres"])
def either(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[Path], Cluster]
) -> Iterator[Either]:
    """For what does not depend on the server's version."""
    if request.param == "sqlite":
        path = str(tmp_path / "either.db")
        yield Either(path, lambda rows, **options: table(path, rows, **options))
        return
    bindir = next((found for found in bindirs() if found is not None), None)
    if bindir is None:
        pytest.skip("no PostgreSQL")
    database = Database(servers(bindir))
    yield Either(database.url(), database.table)
    database.drop()


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    try:
        wait_until(lambda: not worker_processes() + survey_processes(), timeout_s=30)
    finally:  # so that one test which leaves some is one failure, and not that of all after it
        for process in worker_processes() + survey_processes():
            process.kill()


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_tiers(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests have recorded as their summary: tables that belong in every output."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, text in report.user_properties:
            if name == "summary":
                terminalreporter.section(report.nodeid.split("::")[-1])
                terminalreporter.write_line(str(text))

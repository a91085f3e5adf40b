"""A loader keeps the locks of its process on a SQLite database: only SQLite opens it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastloader import FastLoader

from .support import jpeg, simple_rows, table

STRESS_S = 4.0

WRITER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
database.execute("PRAGMA synchronous = OFF")
print("ready", flush=True)
version = 1
while True:
    database.execute("UPDATE images SET a = ?, b = ?", (version, version))
    version += 1
"""

COMMIT = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)
try:
    database.execute("UPDATE images SET label = -1")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("committed")
"""


@contextlib.contextmanager
def program(script: str, path: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in another process, which is killed in the end."""
    process = subprocess.Popen([sys.executable, "-c", script, path], stdout=-1, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def locks_of_this_process(path: str) -> list[str]:
    inode, pid = os.stat(path).st_ino, str(os.getpid())
    lines = Path("/proc/locks").read_text().splitlines()
    return [line for line in lines if f":{inode} " in line and line.split()[4] == pid]


@pytest.mark.parametrize("cache", [None, "ram"])
def test_nobody_commits_in_the_middle_of_the_programs_own_transaction(
    tmp_path: Path, cache: str | None
) -> None:
    path = table(tmp_path / "t.db", simple_rows(40))
    ours = sqlite3.connect(path, isolation_level=None)
    with FastLoader(path, size=(8, 8), batch_size=8, workers=0, cache=cache) as loader:
        list(loader)
        ours.execute("BEGIN IMMEDIATE")
        ours.execute("UPDATE images SET label = label + 1000 WHERE id = 1")
        for _ in range(3):
            list(loader)
        with program(COMMIT, path) as other:
            assert other.communicate(timeout=200)[0] == "database is locked\n"
        ours.execute("COMMIT")
        list(loader)  # some of it was read before the commit
        assert max(labels.max() for _, labels in loader) == 1000
    ours.close()


def test_a_reader_of_a_write_ahead_log_keeps_its_lock(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(40))
    ours = sqlite3.connect(path, isolation_level=None)
    ours.execute("PRAGMA journal_mode = WAL")
    ours.execute("UPDATE images SET label = label")
    ours.execute("BEGIN")
    ours.execute("SELECT count(*) FROM images").fetchone()
    before = locks_of_this_process(path) + locks_of_this_process(path + "-shm")
    if not before:
        pytest.skip("/proc/locks does not show the locks of this process")
    with FastLoader(path, size=(8, 8), batch_size=8, workers=0, cache="ram") as loader:
        for _ in range(3):
            list(loader)
    assert len(locks_of_this_process(path) + locks_of_this_process(path + "-shm")) == len(before)
    ours.close()


def test_rows_are_whole_beside_a_foreign_writer(tmp_path: Path) -> None:
    """In every version of a row that was ever committed, a equals b, and the image is intact."""
    columns = "id INTEGER PRIMARY KEY, a INTEGER, image_data BLOB, b INTEGER"
    image = jpeg() + b"\0" * 100_000  # takes longer to read than to decode
    path = table(tmp_path / "t.db", [(i, 0, image, 0) for i in range(1, 201)], columns=columns)
    deadline = time.monotonic() + STRESS_S
    rows = 0
    options = {"size": (8, 8), "batch_size": 50, "label": ["a", "b"], "fetch_bytes": 1 << 30}
    with (
        program(WRITER, path) as writer,
        FastLoader(path, workers=1, cache="ram", slots=2, **options) as loader,  # type: ignore[arg-type]
    ):
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        while time.monotonic() < deadline:
            for _, labels in loader:
                assert labels["a"].tolist() == labels["b"].tolist()
                rows += len(labels["a"])
    assert rows >= 200
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_nothing_of_a_loaders_opens_the_database_but_sqlite(tmp_path: Path, journal: str) -> None:
    """Each open of the file is followed by its close with all locks lost: only SQLite waits."""
    path = table(tmp_path / "t.db", simple_rows(40))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA journal_mode = {journal}")
    script = """
import os, sys
path, opened = sys.argv[1], []
def hook(event, arguments):
    if event == "open" and str(arguments[0]).startswith(path):
        if not arguments[2] & os.O_PATH:
            opened.append(arguments)
sys.addaudithook(hook)
from fastloader import FastLoader
with FastLoader(path, size=(8, 8), batch_size=8, workers=0, cache="ram") as loader:
    for _ in range(3):
        list(loader)
print(opened)
"""
    with program(script, path) as run:
        assert run.communicate(timeout=200)[0] == "[]\n"

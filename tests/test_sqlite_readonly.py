"""SQLite files in folders that may not be written, where a write-ahead log has no -shm file.

Root may write everywhere. So these tests run programs without the right to override permissions, in
a folder of another user, and change the files from here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import simple_rows, table

WITHOUT_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")

BODY = """
import os, sys
import fastloader
assert not os.access(os.path.dirname(sys.argv[1]), os.W_OK)
def say(text):
    print(text, flush=True)
def labels():
    return [label for _, labels in loader for label in labels.tolist()]
try:
    with fastloader.FastLoader(
        sys.argv[1], size=(8, 8), batch_size=8, workers=int(sys.argv[2]), slots=2, fetch_bytes=1
    ) as loader:
        while True:
            say(str(sum(labels())))
            sys.stdin.readline()
except fastloader.FastloaderError as error:
    say(str(error))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    if subprocess.call([*WITHOUT_OVERRIDE, "true"]) != 0:
        pytest.skip("capabilities may not be dropped here")
    folder = tmp_path / "theirs"
    folder.mkdir()
    return folder


def made(folder: Path) -> str:
    path = table(folder / "t.db", simple_rows(100))
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
    return path


@contextlib.contextmanager
def reader(path: str, workers: int) -> Iterator[subprocess.Popen[str]]:
    """Run a program that prints the sum of an epoch's labels for each line that it is sent."""
    folder = Path(path).parent
    for each in (folder, *folder.iterdir()):
        os.chown(each, 65534, 65534)
        each.chmod(0o755 if each == folder else 0o644)
    command = [*WITHOUT_OVERRIDE, sys.executable, "-c", BODY, path, str(workers)]
    process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def epoch(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def another_epoch(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return epoch(process)


SUM = sum(range(0, 1000, 10))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_empty_log_is_none(folder: Path, workers: int) -> None:
    path = made(folder)
    Path(path + "-wal").touch()
    with reader(path, workers) as process:
        assert epoch(process) == str(SUM)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_log_without_its_index_is_explained(folder: Path, workers: int) -> None:
    original = made(folder)
    writer = sqlite3.connect(original, isolation_level=None)
    writer.execute("UPDATE images SET label = 1 WHERE id = 1")
    copy = folder.parent / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(original + suffix, copy / f"t.db{suffix}")
    writer.close()
    with reader(str(copy / "t.db"), workers) as process:
        words = epoch(process)
    assert "in the write-ahead log" in words
    assert "PRAGMA wal_checkpoint(TRUNCATE)" in words


KILLED = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("PRAGMA cache_size = 1")  # so that it writes before it commits
database.execute("BEGIN")
database.execute("UPDATE images SET label = -1")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transaction_that_was_interrupted_is_never_read(folder: Path, workers: int) -> None:
    path = table(folder / "t.db", simple_rows(2000))
    subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert os.path.getsize(path + "-journal") > 0
    with reader(path, workers) as process:
        words = epoch(process)
    assert "A transaction was interrupted" in words
    with contextlib.closing(sqlite3.connect(path)) as database:  # which undoes it
        assert database.execute("SELECT min(label) FROM images").fetchone() == (0,)
    with reader(path, workers) as process:
        assert epoch(process) == str(sum(range(0, 20_000, 10)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_somebody_else_writes_is_opened_anew(folder: Path, workers: int) -> None:
    """It is read without locks, so pages of two states could be mixed, or look malformed."""
    path = made(folder)
    with reader(path, workers) as process:
        assert epoch(process) == str(SUM)
        for change in range(1, 6):
            with contextlib.closing(sqlite3.connect(path)) as writer, writer:
                writer.execute("UPDATE images SET label = label + 1")
                writer.execute("CREATE TABLE IF NOT EXISTS more (data)")
                writer.execute("INSERT INTO more VALUES (zeroblob(100000))")
            with contextlib.closing(sqlite3.connect(path)) as writer:
                writer.execute("VACUUM")
            found = another_epoch(process)  # some of it was read before the change
            assert found.isdigit(), found
            assert another_epoch(process) == str(SUM + 100 * change)

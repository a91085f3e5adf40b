"""Nothing that a command does in a folder drops the locks of its own SQLite connection.

POSIX locks belong to the process: whoever closes a descriptor of a database, of its write-ahead log
or of its index drops the locks of every connection that the process has to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from fastloader import cli
from fastloader.cli.doctor.database import check_database
from fastloader.cli.ingest import run

from .support import jpeg

WRITER = """
import select, sqlite3, sys, time
path, number = sys.argv[1], 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.001)[0]:
    connection = sqlite3.connect(path, timeout=200, isolation_level=None)
    for _ in range(4):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO other VALUES (?, ?)", (number, "x" * 2000))
        connection.execute("COMMIT")
        number += 1
        time.sleep(0.001)  # SQLite is not fair: ingest would hardly get a turn
    connection.close()
print(number, flush=True)
"""
"""A program that writes to another table of the same file, from short-lived connections."""

TRIALS = 10
"""Before ingest kept away from these files, 5 of 10 were damaged, and it still returned 0."""


def test_a_foreign_writer_and_ingest_share_a_file_without_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "BATCH_ROWS", 5)
    blobs = [jpeg(64, 48, seed=seed) for seed in range(40)]
    harmed = []
    for trial in range(TRIALS):
        folder = tmp_path / str(trial)
        (folder / "cat").mkdir(parents=True)
        for i, blob in enumerate(blobs):
            (folder / "cat" / f"{i}.jpg").write_bytes(blob)
        path = folder / "a.db"
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode=wal")
        connection.execute("CREATE TABLE other (n INTEGER PRIMARY KEY, text TEXT)")
        connection.close()
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as writer:  # fmt: skip
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            code = cli.main(["ingest", str(folder), str(path), "--json"])
            written = int(writer.communicate("stop\n", timeout=200)[0] or -1)
        capsys.readouterr()
        if (code, *looked_at(path)) != (0, "ok", written, len(blobs)):
            harmed.append((code, written, looked_at(path)))
    assert harmed == []


def looked_at(path: Path) -> tuple[str, int, int]:
    """Return the answer of integrity_check, and the number of rows of both tables."""
    connection = sqlite3.connect(path)
    try:
        found = [
            connection.execute(sql).fetchone()[0]
            for sql in (
                "PRAGMA integrity_check",
                "SELECT count(*) FROM other",
                "SELECT count(*) FROM images",
            )
        ]
    except sqlite3.DatabaseError as error:
        return str(error), -1, -1
    finally:
        connection.close()
    return str(found[0]), found[1], found[2]


OPENED: list[tuple[int, int]] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    is_open = event == "open" and isinstance(arguments[0], (str, bytes))
    if is_open and not cast(int, arguments[2]) & os.O_PATH:  # which opens no file
        with contextlib.suppress(OSError):
            info = os.stat(arguments[0])
            OPENED.append((info.st_dev, info.st_ino))


@pytest.fixture(scope="module", autouse=True)
def hook() -> None:
    sys.addaudithook(_note)


@pytest.fixture
def opened() -> list[tuple[int, int]]:
    """Return the list that gets device and inode of every file that Python's functions open."""
    OPENED.clear()
    return OPENED


LINKS: list[Callable[[Path, Path], object]] = [
    lambda link, file: link.symlink_to(file),
    lambda link, file: os.link(file, link),
]


@pytest.mark.parametrize("through", ["the file", "a symlink"])
def test_ingest_opens_no_file_of_its_database_whatever_it_is_called(
    through: str, tmp_path: Path, opened: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "0.jpg").write_bytes(jpeg())
    path = folder / "a.db"
    connection = sqlite3.connect(path)  # stays open to keep the log
    connection.execute("PRAGMA journal_mode=wal")
    connection.execute("CREATE TABLE other (n)")
    connection.commit()
    files = [path, *(path.with_name(f"a.db{suffix}") for suffix in ("-wal", "-shm"))]
    its = {(info.st_dev, info.st_ino) for info in map(os.stat, files)}
    for number, file in enumerate(files):
        for kind, link in enumerate(LINKS):
            link(folder / "cat" / f"{kind}{number}.jpg", file)
    url = path
    if through == "a symlink":
        url = tmp_path / "link.db"
        url.symlink_to(path)
    opened.clear()
    code = cli.main(["ingest", str(folder), str(url), "--json"])
    assert its.isdisjoint(opened)
    found = json.loads(capsys.readouterr().out)
    assert (code, found["added"]) == (0, 1)
    assert found["skipped"]["the database itself"]["count"] == 9
    connection.close()


def test_a_database_in_a_list_of_images_is_refused_unopened(
    tmp_path: Path, opened: list[tuple[int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg())
    path = tmp_path / "a.db"
    sqlite3.connect(path).execute("CREATE TABLE other (n)").connection.close()
    (tmp_path / "labels.csv").write_text("file,label\n0.jpg,1\na.db,2\n")
    its = (path.stat().st_dev, path.stat().st_ino)
    opened.clear()
    assert cli.main(["ingest", str(tmp_path), str(path), "--json"]) == 1
    assert its not in opened
    found = json.loads(capsys.readouterr().out)
    assert found["refused"]["the database itself"]["files"] == ["a.db"]
    assert cli.main(["ingest", str(tmp_path), str(path), "--labels", str(path)]) == 2
    assert its not in opened
    assert "belongs to the database" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [("check", "--csv"), ("preview", "-o"), ("bench", "-o"), ("tune", "-o")],
)
def test_a_command_does_not_write_over_its_database(
    command: str, option: str, small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "sheet.png"
    link.symlink_to(small)
    before = Path(small).read_bytes()
    assert cli.main([command, small, option, str(link)]) == 2
    assert "belongs to the database" in capsys.readouterr().err
    assert Path(small).read_bytes() == before


@pytest.mark.parametrize("command", ["plan", "check", "preview", "bench", "tune"])
def test_no_command_opens_the_database_by_hand(
    command: str,
    small: str,
    tmp_path: Path,
    opened: list[tuple[int, int]],
) -> None:
    more = {
        "preview": ["-o", str(tmp_path / "sheet.png")],
        "bench": ["--seconds", "0.1", "--rounds", "1"],
        "tune": ["--seconds", "1", "--slots", "2", "--fetch-bytes", "9999"],
    }
    info = os.stat(small)
    opened.clear()
    arguments = [small, "--size", "8x8", "--workers", "1", *more.get(command, [])]
    assert cli.main([command, *arguments]) == 0
    assert (info.st_dev, info.st_ino) not in opened


def test_doctor_opens_no_database_by_hand(small: str, opened: list[tuple[int, int]]) -> None:
    info = os.stat(small)
    opened.clear()
    ((_, status, _),) = check_database(small)
    assert status == "ok"
    assert (info.st_dev, info.st_ino) not in opened

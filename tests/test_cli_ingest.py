"""A folder becomes a table that FastLoader reads as it is, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader, cli

from .conftest import Either
from .support import jpeg, table


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with 60 images in three subfolders, and with files that are not images."""
    folder = tmp_path / "photos"
    for i in range(60):
        path = folder / ("cat", "dog", "bird/owl")[i % 3] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=i))
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_bytes(jpeg())
    (folder / "cat" / "empty.jpg").touch()
    (folder / "loop").symlink_to(folder)
    return folder


@pytest.fixture
def url(either: Either) -> str:
    return either.url


def ingest(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, dict[str, Any]]:
    code = cli.main(["ingest", *map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def rows_of(url: str) -> dict[str, tuple[int, str, bytes]]:
    """Return (label, label_name, image) by file; fail where a file is there twice."""
    sql = "SELECT file, label, label_name, image_data FROM images"
    if url.startswith("postgres"):
        import psycopg2

        connection = psycopg2.connect(url)
        with connection.cursor() as cursor:
            cursor.execute(sql)
            rows = [(file, label, name, bytes(image)) for file, label, name, image in cursor]
    else:
        connection = sqlite3.connect(url)
        rows = connection.execute(sql).fetchall()
    connection.close()
    found = {file: (label, name, image) for file, label, name, image in rows}
    assert len(found) == len(rows)
    return found


def test_a_loader_with_its_defaults_reads_what_was_stored(
    photos: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = ingest(capsys, photos, url)
    assert code == 1, "one file is empty"
    assert (found["added"], found["unchanged"]) == (60, 0)
    assert found["labels"] == {"bird": 0, "cat": 1, "dog": 2}
    assert found["refused"] == {"empty": {"count": 1, "files": ["cat/empty.jpg"]}}
    assert set(found["skipped"]) == {"hidden", "not an image"}
    rows = rows_of(url)
    for i in range(60):
        name = ("cat", "dog", "bird/owl")[i % 3]
        label = name.partition("/")[0]
        expected = (found["labels"][label], label, (photos / name / f"{i}.jpg").read_bytes())
        assert rows[f"{name}/{i}.jpg"] == expected
    with FastLoader(url, size=(8, 8), workers=1) as loader:
        labels = [label for _, batch in loader for label in batch.tolist()]
    assert sorted(labels) == [0] * 20 + [1] * 20 + [2] * 20


def test_a_second_run_takes_what_is_new_and_numbers_stay(
    photos: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "cat" / "empty.jpg").unlink()
    assert ingest(capsys, photos, url)[0] == 0
    before = rows_of(url)
    (photos / "bee").mkdir()  # in a first run it would be number 0
    shutil.copy(photos / "cat" / "0.jpg", photos / "bee" / "0.jpg")
    code, found = ingest(capsys, photos, url)
    assert (code, found["added"], found["unchanged"]) == (0, 1, 60)
    assert found["labels"] == {"bird": 0, "cat": 1, "dog": 2, "bee": 3}
    assert {**before, "bee/0.jpg": (3, "bee", before["cat/0.jpg"][2])} == rows_of(url)


def test_a_csv_file_has_the_labels(
    photos: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "labels.csv").write_text("file,label\ncat/0.jpg,7\ndog/1.jpg,-2\nnone.jpg,1\n")
    code, found = ingest(capsys, photos, url)
    assert code == 1, "none.jpg is not there"
    assert {file: label for file, (label, *_) in rows_of(url).items()} == {
        "cat/0.jpg": 7,
        "dog/1.jpg": -2,
    }
    assert any("none.jpg" in left["files"] for left in found["refused"].values())


IMPORTS = "from fastloader.cli import main; from fastloader.cli.ingest import run"


def test_a_killed_run_is_taken_up(photos: Path, url: str) -> None:
    """The run is killed after some batches, of five rows instead of 500."""
    script = f"{IMPORTS}; run.BATCH_ROWS = 5; main()"
    arguments = [sys.executable, "-c", script, "ingest", str(photos), url]
    slow = "import time; from fastloader.cli.ingest.run import Run; add = Run.add\n"
    slow += "slowly = lambda *a: (add(*a), print('added', flush=True), time.sleep(9))\n"
    slow += "Run.add = slowly\n"
    with subprocess.Popen(
        [sys.executable, "-c", slow + script.replace("; ", "\n"), *arguments[3:]],
        stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "added\n"
        os.kill(process.pid, signal.SIGKILL)
    assert 0 < len(rows_of(url)) < 60
    subprocess.run(arguments, check=False, stdout=subprocess.DEVNULL, timeout=200)
    assert len(rows_of(url)) == 60


def test_two_at_once_store_every_file_once(photos: Path, url: str) -> None:
    script = f"{IMPORTS}; run.BATCH_ROWS = 3; main()"
    command = [sys.executable, "-c", script, "ingest", str(photos), url]
    threads = [
        threading.Thread(target=subprocess.run, args=(command,), kwargs={"stdout": -3})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(rows_of(url)) == 60


def test_a_table_of_other_columns_is_left_alone(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "t.db", [(1, jpeg(), 2)])
    assert cli.main(["ingest", str(photos), path]) == 3
    message = capsys.readouterr().err
    assert "without the column 'file'" in message
    assert "--table" in message
    assert cli.main(["ingest", str(photos), path, "--table", "others"]) == 1


def test_what_cannot_work_is_one_line_and_leaves_nothing(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "no.db").write_bytes(b"no database at all, but long enough to be looked at" * 9)
    new = str(tmp_path / "new.db")
    server = "host=127.0.0.1 port=1 dbname=x user=u password=sesame"
    cases = [
        ((tmp_path / "none", new), 4, "no folder"),
        ((photos / "notes.txt", new), 2, "is a file; name the folder"),
        ((tmp_path / "empty", new), 1, "there are no images to store in"),
        ((photos, tmp_path / "none" / "x.db"), 4, "no folder"),
        ((photos, tmp_path / "empty"), 3, "is a folder; name the SQLite file"),
        ((photos, tmp_path / "no.db"), 3, "file is not a database"),
        ((photos, server), 3, "cannot connect"),
        ((photos, "mysql://h/d"), 2, "not supported"),
        ((photos, new, "--labels", photos / "cat" / "0.jpg"), 2, "0.jpg"),
    ]
    for argv, code, words in cases:
        assert cli.main(["ingest", *map(str, argv)]) == code, argv
        out, err = capsys.readouterr()
        assert words in err
        assert "sesame" not in out + err
        assert err.count("\n") == 1
    assert not Path(new).exists()


def test_a_fifo_or_a_huge_file_is_refused_without_waiting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    os.mkfifo(folder / "pipe.jpg")
    (folder / "a.jpg").write_bytes(jpeg())
    (folder / "b.jpg").write_bytes(jpeg(200, 200))
    more = ["--one-class", "any", "--max-blob-bytes", 5000]
    code, found = ingest(capsys, folder, tmp_path / "x.db", *more)
    assert (code, found["added"]) == (1, 1)
    assert {name for left in found["refused"].values() for name in left["files"]} == {
        "pipe.jpg",
        "b.jpg",
    }

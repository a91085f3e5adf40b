"""Batches are the same with a cache, whatever happens to its file, the table and processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloader import ConfigError, FastLoader, cli
from fastloader.cache.file import HEADER, SUFFIX, Cache, Place
from fastloader.fields.columns import Column

from .conftest import Either
from .servers.postgres import Database
from .support import jpeg, simple_rows, table, unpacked, worker_processes
from .tiers import few, full

OPTIONS: dict[str, Any] = {
    "size": (16, 24), "batch_size": 8, "workers": 2, "shuffle": True, "seed": 5, "with_keys": True,
    "fetch_bytes": 1,  # or all of the next epoch would be fetched before any row is cached
}  # fmt: skip
ROWS = 100
ROW_BYTES = -(-(HEADER.size + 16 * 24 * 3 + 8) // 64) * 64
NEW_IMAGE = jpeg(seed=99)


def epochs_of(url: str, epochs: int = 3, **options: Any) -> tuple[list[Any], int]:
    """Return the bytes of the batches, and how many rows came out of the cache."""
    found = []
    with FastLoader(url, **{**OPTIONS, **options}) as loader:
        for _ in range(epochs):
            for images, labels, keys in unpacked(loader):
                pixels = [image.tobytes() for image in parts(images)]
                found.append((pixels, [values.tolist() for values in parts(labels)], keys.tolist()))
        return found, loader.stats().cached_rows


def parts(arrays: Any) -> list[Any]:
    return list(arrays.values()) if isinstance(arrays, dict) else [arrays]


def file_in(folder: Path) -> Path:
    (file,) = folder.glob("*" + SUFFIX)
    return file


# ---- the same bytes ------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_are_those_without_a_cache(either: Either, tmp_path: Path, workers: int) -> None:
    url = either.table(simple_rows(ROWS, gap=3))
    expected, none = epochs_of(url)
    assert none == 0
    in_ram, cached = epochs_of(url, workers=workers, cache="ram")
    assert in_ram == expected
    # A worker begins the next epoch before the others have stored their rows of this one.
    assert 1.5 * ROWS < cached < 2.5 * ROWS
    on_disk, _ = epochs_of(url, workers=workers, cache=tmp_path / "kept")
    assert on_disk == expected
    assert epochs_of(url, workers=workers, cache=tmp_path / "kept") == (expected, 3 * ROWS)
    # In another order, with other workers, or a part of it: all rows are cached.
    options = {"shuffle": False, "batch_size": 30, "shard": (1, 2)}
    expected, _ = epochs_of(url, **options)
    assert epochs_of(url, **options, cache=tmp_path / "kept") == (expected, 3 * ROWS // 2)


@full
def test_every_kind_of_column_is_kept(tmp_path: Path) -> None:
    columns = (
        "id INTEGER PRIMARY KEY, one BLOB, two BLOB, n INTEGER, f REAL, t TEXT, b BOOL, v BLOB, "
        "u TEXT, w REAL"
    )
    numbers = np.arange(3, dtype=np.float32)
    rows = [
        (i, jpeg(seed=i), jpeg(seed=i + 1), i, i / 3, f"Größe {i}\n" * (i % 3), i % 2 == 0,
         (numbers + i).tobytes(), "long " * (60 * (i == 7)), i / 7)
        for i in range(20)
    ]  # fmt: skip
    url = table(tmp_path / "kinds.db", rows, columns=columns)
    options: dict[str, Any] = {
        "image": ["one", "two"], "label": ["n:int16", "f", "t", "b", "v:float32", "u"],
        "layout": {"two": "NCHW"}, "size": {"one": (5, 7)}, "workers": 1,
    }  # fmt: skip
    for dtype in ("uint8", "float32", "float16", "bfloat16"):
        options["dtype"] = {"one": dtype}
        expected, _ = epochs_of(url, **options)
        folder = tmp_path / dtype
        assert epochs_of(url, **options, cache=folder)[0] == expected
        assert epochs_of(url, **options, cache=folder) == (expected, 3 * 20)


@full
def test_flips_are_those_without_a_cache(small: str, tmp_path: Path) -> None:
    """To the byte: what is kept is the image before the flip."""
    for options in (
        {"flip": True},
        {"flip": True, "fit": "crop", "filter": "lanczos", "layout": "NCHW"},
        {"flip": True, "fit": "pad", "background": (9, 200, 30), "filter": "bicubic"},
    ):
        expected, _ = epochs_of(small, **options)
        assert epochs_of(small, **options, cache=tmp_path)[0] == expected
        assert epochs_of(small, **options, cache=tmp_path) == (expected, 3 * ROWS)
        assert len({repr(batch[0]) for batch in expected}) == len(expected), "others each epoch"
    # Whatever becomes of it, it is kept once.
    kept = len(list(tmp_path.glob("*" + SUFFIX)))
    options = {"flip": True, "dtype": "float32", "mean": 0.5, "seed": 6}
    assert epochs_of(small, **options, cache=tmp_path)[1] == 3 * ROWS
    assert len(list(tmp_path.glob("*" + SUFFIX))) == kept


@full
@pytest.mark.parametrize("workers", [0, 2])
def test_random_crops_do_not_depend_on_what_is_kept(
    small: str, tmp_path: Path, workers: int
) -> None:
    """The crops of the first epoch are taken from the stored size, too."""
    options: dict[str, Any] = {"fit": "random_crop", "flip": True, "workers": workers}
    found, none = epochs_of(small, 1, **options, cache=tmp_path)
    assert workers or none == 0
    first, _ = epochs_of(small, 3, **options, cache=tmp_path)
    assert first[: len(found)] == found
    for kept in (tmp_path, "ram"):
        assert epochs_of(small, 3, **options, cache=kept)[0] == first
    few, cached = epochs_of(small, 3, **options, cache="ram", cache_bytes=30_000)
    assert few == first
    assert 0 < cached < 2 * ROWS
    larger, _ = epochs_of(small, 3, **options, cache=tmp_path, cache_size=(24, 32))
    assert larger != first


def test_random_crops_are_the_boxes_of_the_original(tmp_path: Path) -> None:
    """Images kept at their own size give the crops that a loader without a cache makes.

    They are equal to the byte, or to a level where the image was turned before the resize and not
    after it. Images kept at half their size give nearly the same, where a wrong box is far off.
    """
    rows = [(i, jpeg(96, 64, seed=i), 0) for i in range(30)]
    turned = Image.Exif()
    turned[0x0112] = 6
    rows += [(i, jpeg(64, 96, seed=i, exif=turned), 0) for i in range(30, 40)]
    url = table(tmp_path / "crops.db", rows)
    options: dict[str, Any] = {
        **OPTIONS, "fit": "random_crop", "flip": True, "workers": 0, "size": (16, 16),
        "scale": (0.3, 1.0), "batch_size": 40, "shuffle": False,
    }  # fmt: skip

    def crops(**more: Any) -> Any:
        with FastLoader(url, **{**options, **more}) as loader:
            ((images, _, _),) = list(unpacked(loader))
        return images.astype(int)

    plain = crops()
    kept = crops(cache="ram", cache_size=(64, 96))
    assert np.array_equal(kept[:30], plain[:30])
    assert np.abs(kept - plain).max() <= 1
    nchw = crops(cache="ram", cache_size=(64, 96), layout="NCHW")
    assert np.array_equal(nchw.transpose(0, 2, 3, 1), kept)
    half = np.abs(crops(cache="ram", cache_size=(32, 48)) - plain).mean(axis=(1, 2, 3))
    other = np.abs(crops(seed=6) - plain).mean(axis=(1, 2, 3))
    assert half.max() < 6 < np.median(other)


@pytest.mark.parametrize("options", [
    {"fit": "random_crop", "size": (28, 28)},  # kept at 32x32
    {"flip": True, "size": (40, 40)},
])  # fmt: skip
def test_limits_are_for_encoded_images_only(small: str, options: dict[str, Any]) -> None:
    """What the cache stores may be larger: the limits are for encoded images."""
    options = {**options, "cache": "ram", "workers": 0}
    limits = {"max_pixels": 32 * 24, "max_scans": 1, "max_chunks": 1}
    assert epochs_of(small, **options, **limits)[0] == epochs_of(small, **options)[0]


@full
def test_bad_and_partial_rows_are_said_each_time(tmp_path: Path) -> None:
    rows = simple_rows(40)
    rows[5] = (6, b"not an image", 50)
    rows[21] = (22, rows[21][1][:-60], 210)
    url = table(tmp_path / "bad.db", rows)
    for on_error, delivered in (("skip", 39), ("fill", 40)):
        expected, _ = epochs_of(url, on_error=on_error)
        folder = tmp_path / on_error
        assert epochs_of(url, on_error=on_error, cache=folder)[0] == expected
        with FastLoader(url, **{**OPTIONS, "on_error": on_error, "cache": folder}) as loader:
            assert sum(len(labels) for _, labels in loader) == delivered
            assert loader.stats().cached_rows == 38
            assert [key for key, _ in loader.bad_rows] == [6]
            assert [key for key, _ in loader.partial_rows] == [22]
    with (
        FastLoader(url, **{**OPTIONS, "cache": tmp_path / "skip"}) as loader,
        pytest.raises(Exception, match="key 6"),
    ):
        list(loader)


def test_a_training_goes_on_in_the_middle_of_an_epoch(small: str, tmp_path: Path) -> None:
    expected, _ = epochs_of(small, 1)
    with FastLoader(small, **OPTIONS, cache=tmp_path) as loader:
        iterator = iter(loader)
        for _ in range(5):
            next(iterator)
        state = loader.state_dict()
    with FastLoader(small, **OPTIONS, cache=tmp_path) as loader:
        loader.load_state_dict(state)
        found = [
            ([i.tobytes()], [labels.tolist()], keys.tolist())
            for i, labels, keys in unpacked(loader)
        ]
    assert found == expected[5:]


@full
def test_a_worker_that_dies_changes_nothing(small: str) -> None:
    expected, _ = epochs_of(small)
    found = []
    with FastLoader(small, **OPTIONS, slots=2, cache="ram") as loader:
        for epoch in range(3):
            for number, (images, labels, keys) in enumerate(unpacked(loader)):
                if number == 3 * epoch:
                    worker_processes()[0].kill()
                found.append(([images.tobytes()], [labels.tolist()], keys.tolist()))
        assert loader.stats().restarts == 3
        assert loader.stats().cached_rows > ROWS
    assert found == expected


# ---- files that are not as they should be --------------------------------------------------------


FILL = """
import sys
from fastloader import FastLoader
url, folder = sys.argv[1:]
options = {"size": (16, 24), "batch_size": 8, "workers": 2, "seed": 5, "with_keys": True}
with FastLoader(url, **options, shuffle=True, cache=folder) as loader:
    print("ready", flush=True)
    for _ in range(50):
        list(loader)
"""


@full
def test_programs_that_are_killed_while_they_fill_it_leave_no_wrong_row(tmp_path: Path) -> None:
    """Kill two processes that fill the same file, and workers, at random moments, four times."""
    url = table(tmp_path / "large.db", simple_rows(400))
    expected, _ = epochs_of(url, 1)
    rng = np.random.default_rng(1)
    held = []
    for _ in range(4):
        folder = tmp_path / "kept"
        programs = [
            subprocess.Popen(
                [sys.executable, "-c", FILL, url, folder], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.1))
        for program in programs:
            for worker in worker_processes(program.pid):
                worker.kill()
            program.kill()
            program.communicate(timeout=60)
        with FastLoader(url, **{**OPTIONS, "cache": folder}) as loader:
            marks = np.fromfile(file_in(folder), np.uint8, 400)
            held.append(int(marks.sum()))
            found = [
                ([i.tobytes()], [n.tolist()], keys.tolist()) for i, n, keys in unpacked(loader)
            ]
        assert found == expected
        file_in(folder).unlink()
    assert any(held), f"none was killed late enough: {held}"


@few(3)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["bytes", "rows", "marks", "cut", "swapped"])
def test_a_damaged_file_is_noticed_and_mended(
    small: str, tmp_path: Path, damage: str, workers: int
) -> None:
    options = {"workers": workers, "cache": tmp_path / "kept"}
    expected, _ = epochs_of(small, **options)
    path = file_in(tmp_path / "kept")
    whole = path.read_bytes()
    row_bytes = ROW_BYTES
    whole += bytes(4096 + ROWS * row_bytes - len(whole))  # the end of the last row
    data = bytearray(whole)
    if damage == "bytes":  # one in every third row, wherever it hits
        for row in range(0, ROWS, 3):
            data[4096 + row * row_bytes + 37 * row % (HEADER.size + 16 * 24 * 3)] ^= 1
    elif damage == "rows":  # as after a power failure: marked, and never written
        data[4096 : 4096 + 40 * row_bytes] = bytes(40 * row_bytes)
    elif damage == "marks":
        data[:ROWS] = bytes(ROWS)
    elif damage == "swapped":  # whole rows in each other's place
        data[4096:] = data[4096 + row_bytes :] + data[4096 : 4096 + row_bytes]
    with open(path, "r+b") as file:  # the same file, not another one
        file.write(data)
        file.truncate(5000 if damage == "cut" else len(data))
    assert epochs_of(small, **options)[0] == expected
    assert epochs_of(small, **options) == (expected, 3 * ROWS)
    assert whole.startswith(path.read_bytes())


def marked(folder: Path, rows: int, marks: bytes, content: bytes) -> None:
    """Leave what a power failure may leave of the file: marks without rows, or garbage."""
    path = file_in(folder)
    size = path.stat().st_size
    first_row = -(-rows // 4096) * 4096
    content = content * ((size - first_row) // len(content) + 1)
    with open(path, "r+b") as file:
        file.write(marks.ljust(first_row, b"\0") + content[: size - first_row])


@full
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("batch_size", [8, 1500])
@pytest.mark.parametrize("which", ["all", "some"])
def test_marks_without_rows_cost_one_decode_a_row(
    tmp_path: Path, workers: int, batch_size: int, which: str
) -> None:
    rows = 1500 if batch_size == 1500 else 300
    url = table(tmp_path / "many.db", simple_rows(rows))
    options: dict[str, Any] = {
        **OPTIONS, "workers": workers, "batch_size": batch_size, "size": (8, 8)
    }  # fmt: skip
    expected, _ = epochs_of(url, 1, **options)
    options["cache"] = tmp_path / "kept"
    epochs_of(url, 1, **options)
    marks = bytes(1 if which == "all" or i % 3 else 0 for i in range(rows))
    marked(tmp_path / "kept", rows, marks, b"\0" if which == "all" else b"garbage")
    with FastLoader(url, **options) as loader:
        found = [
            ([i.tobytes()], [labels.tolist()], keys.tolist())
            for i, labels, keys in unpacked(loader)
        ]
        assert loader.stats().pictures["JPEG"].decoded == rows
    assert found == expected
    assert epochs_of(url, 1, **options) == (expected, rows)


@full
def test_a_disk_that_loses_what_is_written_holds_nothing_up(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = epochs_of(small)
    epochs_of(small, 1, cache=tmp_path)
    marked(tmp_path, ROWS, bytes(i % 2 for i in range(ROWS)), b"\0")
    monkeypatch.setattr(os, "pwritev", lambda _fd, buffers, _at: sum(map(len, buffers)))
    with FastLoader(small, **{**OPTIONS, "workers": 0, "cache": tmp_path}) as loader:
        found = []
        for _ in range(3):
            for images, labels, keys in unpacked(loader):
                found.append(([images.tobytes()], [labels.tolist()], keys.tolist()))
        assert loader.stats().pictures["JPEG"].decoded <= 3 * 3 * ROWS
    assert found == expected


def _become(path: Path, make: Callable[[str], None]) -> None:
    path.unlink()
    make(str(path))


CHANGES: dict[str, Callable[[Path, Path], Any]] = {
    "deleted": lambda path, _: path.unlink(),
    "cut to nothing": lambda path, _: os.truncate(path, 0),
    "cut to a half": lambda path, _: os.truncate(path, path.stat().st_size // 2),
    "another cache's": lambda path, other: os.replace(other, path),
    "written over": lambda path, other: path.write_bytes(other.read_bytes()),
    "a folder": lambda path, _: _become(path, os.mkdir),
    "a pipe": lambda path, _: _become(path, os.mkfifo),
}
"""What may become of the file, which is at a path, while a loader uses it."""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_under_a_loader_is_no_error(
    small: str, tmp_path: Path, change: str, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    """That holds for workers that have it open, and for one that starts then."""
    rows = [(key, NEW_IMAGE, -1) for key, _, _ in simple_rows(ROWS, gap=3)]
    epochs_of(table(tmp_path / "other.db", rows), 1, workers=0, cache=tmp_path / "other")
    expected, _ = epochs_of(small)
    options = {**OPTIONS, "workers": workers, "cache": tmp_path / "kept", "slots": 2}
    found = []
    with FastLoader(small, **options) as loader:
        for epoch in range(3):
            for number, (images, labels, keys) in enumerate(unpacked(loader)):
                if (epoch, number) == (1, 3):
                    CHANGES[change](file_in(tmp_path / "kept"), file_in(tmp_path / "other"))
                    for process in worker_processes()[:1]:
                        process.kill()
                found.append(([images.tobytes()], [labels.tolist()], keys.tolist()))
        assert loader.stats().restarts == bool(workers)
    assert found == expected
    reasons = {
        "deleted": "cannot be opened (No such file or directory)",
        "a folder": "cannot be opened (Is a directory)",
        "a pipe": "cannot be opened (not a regular file)",
    }
    said = [text for text in caplog.messages if "the cache file" in text]
    assert len(said) == (workers > 0 and change in reasons)
    assert all(reasons[change] in text for text in said)


def test_a_cache_that_cannot_be_opened_holds_nothing_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("nothing", "No such file or directory"),
        ("folder", "Is a directory"),
        ("pipe", "not a regular file"),
    ):
        path = str(tmp_path / name)
        cache = Cache(Place(path, "name", 10, 10, (Column("image", "uint8", (4, 4, 3)),), ""))
        assert not cache.holds(np.arange(10)).any()
        cache.store(3, cache.rows({"image": np.zeros((1, 4, 4, 3), np.uint8)}), {}, 0)
        assert cache.notes == [
            f"the cache file {path} cannot be opened ({reason}). Its rows are decoded instead"
        ]
        cache.close()


def test_a_mark_is_read_once(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marks that are close to each other are read together."""
    epochs_of(small, 1, cache=tmp_path)
    read, asked = os.pread, []

    def counted(fd: int, count: int, at: int) -> bytes:
        asked.append((count, at))
        return read(fd, count, at)

    monkeypatch.setattr(os, "pread", counted)
    assert epochs_of(small, workers=0, batch_size=ROWS, cache=tmp_path)[1] == 3 * ROWS
    assert asked == [(ROWS, 0)]


@pytest.mark.parametrize("broken", ["pread", "preadv", "pwrite", "pwritev"])
def test_a_broken_disk_is_no_error(
    small: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    broken: str,
) -> None:
    """There is no broken disk here, so the calls fail instead, each alone, in this process."""
    expected, _ = epochs_of(small)
    epochs_of(small, cache=tmp_path)
    with open(file_in(tmp_path), "r+b") as file:  # so that there is something to unmark
        file.seek(4096 + 7 * ROW_BYTES + 30)
        file.write(b"other")

    def fail(*_: Any) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, broken, fail)
    found, cached = epochs_of(small, workers=0, cache=tmp_path)
    assert found == expected
    assert cached == 0 if "read" in broken else cached < 3 * ROWS
    (said,) = (text for text in caplog.messages if "the cache file" in text)
    assert str(file_in(tmp_path)) in said
    assert "(Input/output error)" in said


def test_a_file_from_the_future_does_not_hold_anything_up(small: str, tmp_path: Path) -> None:
    os.utime(small, (time.time() + 3600, time.time() + 3600))
    epochs_of(small, 1, workers=0, cache=tmp_path)
    assert epochs_of(small, 1, workers=0, cache=tmp_path)[1] == ROWS


@full
def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    """The limit of the process makes the same calls fail."""
    url = table(tmp_path / "many.db", simple_rows(ROWS))
    expected, _ = epochs_of(url)
    script = f"""
import hashlib, resource
from tests.test_cache import epochs_of
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
found, cached = epochs_of({url!r}, workers=0, slots=2, cache={str(tmp_path / "kept")!r})
print(hashlib.sha256(repr(found).encode()).hexdigest(), cached)
"""
    out = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False
    )
    assert out.returncode == 0, out.stderr
    found = out.stdout.split()
    assert found[0] == hashlib.sha256(repr(expected).encode()).hexdigest()
    assert 0 < int(found[1]) < 200


# ---- tables that change --------------------------------------------------------------------------


def test_a_changed_table_is_another_one(either: Either, tmp_path: Path) -> None:
    """After each change, rows that were cached before it are not looked at."""
    url = either.table(simple_rows(ROWS))
    folder = tmp_path / "kept"
    kept = {"cache": folder, "workers": 0}
    for change in (
        "UPDATE images SET image_data = (SELECT image_data FROM images WHERE id = 2) WHERE id = 1",
        "UPDATE images SET label = 7 WHERE id = 3",
        "DELETE FROM images WHERE id = 50",
        "INSERT INTO images SELECT 1000, image_data, label FROM images WHERE id = 4",
        "ALTER TABLE images RENAME COLUMN label TO old; "
        "ALTER TABLE images ADD COLUMN label INTEGER DEFAULT 5",
    ):
        epochs_of(url, 1, **kept)
        _, cached = epochs_of(url, 1, **kept)
        assert cached >= ROWS - 1
        if "://" in url:
            connection: Any = __import__("psycopg2").connect(url)
            with connection, connection.cursor() as cursor:
                cursor.execute(change)
        else:
            connection = sqlite3.connect(url)
            connection.executescript(change)
        connection.close()
        expected, _ = epochs_of(url, 1, workers=0)
        assert epochs_of(url, 1, **kept) == (expected, 0), change


def test_postgres_knows_its_table_again(database: Database, tmp_path: Path) -> None:
    """What leaves the rows alone leaves the cache; and nobody needs to be a superuser."""
    database.table(simple_rows(ROWS))
    database.execute("DROP ROLE IF EXISTS reader")
    database.execute("CREATE ROLE reader LOGIN")
    database.execute("GRANT SELECT ON images TO reader")
    url = database.url().replace("postgres@", "reader@")
    kept = {"cache": tmp_path, "workers": 0}
    epochs_of(url, 1, **kept)
    for harmless in (
        "VACUUM FREEZE images",
        "ANALYZE images",
        "CREATE TABLE other (n int)",
        "CREATE INDEX ON images (label)",
    ):
        database.execute(harmless)
        assert epochs_of(url, 1, **kept)[1] == ROWS, harmless
    database.execute("REVOKE SELECT ON images FROM reader")


def test_postgres_partitions_and_materialized_views_are_tables(
    database: Database, tmp_path: Path
) -> None:
    url = database.table(simple_rows(ROWS), name="plain")
    database.execute(
        "CREATE TABLE images (id int8 PRIMARY KEY, image_data bytea, label int8) "
        "PARTITION BY RANGE (id)"
    )
    database.execute("CREATE TABLE p0 PARTITION OF images FOR VALUES FROM (0) TO (50)")
    database.execute("CREATE TABLE p1 PARTITION OF images FOR VALUES FROM (50) TO (500)")
    database.execute("INSERT INTO images SELECT * FROM plain")
    database.execute("CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain")
    database.execute("CREATE UNIQUE INDEX ON kept (id)")
    for name, change in (
        ("images", "UPDATE p1 SET label = 1 WHERE id = 70"),
        ("kept", "REFRESH MATERIALIZED VIEW kept"),
    ):
        options = {"table": name, "cache": tmp_path / name, "workers": 0}
        epochs_of(url, 1, **options)
        assert epochs_of(url, 1, **options)[1] == ROWS
        database.execute(change)
        assert epochs_of(url, 1, **options)[1] == 0


@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_sqlite_file_that_changes_meanwhile(tmp_path: Path, wal: bool, workers: int) -> None:
    """A loader shows it as it is, with the cache as without, from the batch after the change on."""
    url = table(tmp_path / "live.db", simple_rows(ROWS))
    writer = sqlite3.connect(url, isolation_level=None)
    if wal:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("UPDATE images SET label = label")  # something in the log
    options: dict[str, Any] = {**OPTIONS, "workers": workers, "cache": tmp_path, "slots": 2}
    with FastLoader(url, **options) as loader:
        for _ in range(3):
            list(loader)
        assert loader.stats().cached_rows > ROWS / 2
        writer.execute("UPDATE images SET image_data = ?, label = -1", (NEW_IMAGE,))
        is_new = [bool((labels == -1).all()) for _, labels in loader]
        # What is in a ring and on its way there may be from before, and nothing else.
        for worker in range(workers or 1):
            its = is_new[worker :: workers or 1]
            assert its == sorted(its)
            assert its.count(False) <= (4 if workers else 0)
        before = loader.stats().cached_rows
        labels = np.concatenate([labels for _, labels in loader])
        assert (labels == -1).all()
        assert loader.stats().cached_rows == before
    writer.close()
    expected, _ = epochs_of(url, 1)
    assert epochs_of(url, 1, workers=1, cache=tmp_path) == (expected, 0)


def test_a_sqlite_file_that_is_put_back(tmp_path: Path) -> None:
    """In place, with its time, as a backup does: what was read meanwhile is not kept for it."""
    url = table(tmp_path / "back.db", simple_rows(ROWS))
    before, its = Path(url).read_bytes(), os.stat(url)
    expected, _ = epochs_of(url, 1)
    options: dict[str, Any] = {**OPTIONS, "workers": 0, "cache": tmp_path}
    with FastLoader(url, **options) as loader:
        writer = sqlite3.connect(url)
        with writer:
            writer.execute("UPDATE images SET label = -1")
        writer.close()
        assert all((labels == -1).all() for _, labels in loader)
    with open(url, "r+b") as file:
        file.write(before)
        file.truncate()
    os.utime(url, ns=(its.st_atime_ns, its.st_mtime_ns))
    assert epochs_of(url, 1, workers=0, cache=tmp_path)[0] == expected


def test_a_sqlite_file_whose_time_is_set_back(tmp_path: Path) -> None:
    url = table(tmp_path / "back.db", simple_rows(ROWS))
    its = os.stat(url)
    epochs_of(url, 1, workers=0, cache=tmp_path)
    with contextlib.closing(sqlite3.connect(url)) as writer, writer:
        writer.execute("UPDATE images SET label = -1")
    os.utime(url, ns=(its.st_atime_ns, its.st_mtime_ns))
    batches, cached = epochs_of(url, 1, workers=0, cache=tmp_path)
    assert cached == 0
    assert {label for _, (labels,), _ in batches for label in labels} == {-1}


def test_a_sqlite_file_behind_a_link_has_its_log_alongside_the_file(tmp_path: Path) -> None:
    url = table(tmp_path / "log.db", simple_rows(ROWS))
    writer = sqlite3.connect(url, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE images SET label = label")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "link.db"
    link.symlink_to(url)
    with FastLoader(
        link, **{**OPTIONS, "workers": 0, "cache": "ram", "with_keys": False}
    ) as loader:
        list(loader)
        writer.execute("UPDATE images SET label = -1")
        list(loader)
        assert all((labels == -1).all() for _, labels in loader)
    writer.close()


def test_a_batch_that_is_done_is_not_decided_again(small: str, tmp_path: Path) -> None:
    """By the fetching thread, which may come late: it would fetch what nobody takes."""
    with FastLoader(small, **{**OPTIONS, "workers": 0, "cache": tmp_path}) as loader:
        list(loader)
        (feeder,) = loader.delivery.feeders
        cached = feeder._producer._cached  # type: ignore[attr-defined]
        positions = np.arange(8)
        assert not cached.missing((0, 0, 12), positions).any()
        assert (0, 0, 12) not in cached._decided


def test_a_write_ahead_log_that_is_not_written_back_is_no_change(tmp_path: Path) -> None:
    url = table(tmp_path / "log.db", simple_rows(ROWS))
    writer = sqlite3.connect(url, isolation_level=None)
    writer.execute("PRAGMA journal_mode = WAL")
    writer.execute("UPDATE images SET label = 1 WHERE id = 5")
    try:
        epochs_of(url, 1, cache=tmp_path)
        assert epochs_of(url, 1, cache=tmp_path)[1] == ROWS
    finally:
        writer.close()


def test_what_changes_the_pixels_changes_the_file(small: str, tmp_path: Path) -> None:
    common = {"workers": 0, "cache": tmp_path}
    for number, options in enumerate((
        {}, {"size": (17, 24)}, {"filter": "box"}, {"fit": "crop"}, {"dtype": "float32"},
        {"dtype": "float32", "mean": 0.5}, {"layout": "NCHW"}, {"channels": 1}, {"label": None},
        {"quality": "fast"}, {"label": "label:int32"}, {"query": "SELECT * FROM images"},
        {"max_blob_bytes": 10_000},
    )):  # fmt: skip
        with FastLoader(small, **{**OPTIONS, **common, **options}) as loader:
            list(loader)
            assert loader.stats().cached_rows == 0, options
        assert len(list(tmp_path.glob("*" + SUFFIX))) == number + 1
    for options in ({"batch_size": 3}, {"seed": 1}, {"shuffle": False}, {"with_keys": False}):
        with FastLoader(small, **{**OPTIONS, **common, **options}) as loader:
            list(loader)
            assert loader.stats().cached_rows == ROWS, options


# ---- room ----------------------------------------------------------------------------------------


@full
def test_it_takes_no_more_than_it_may(small: str, tmp_path: Path) -> None:
    room = 4096 + 40 * ROW_BYTES + 17
    expected, _ = epochs_of(small)
    for cache in ("ram", tmp_path / "kept"):
        found, cached = epochs_of(small, workers=1, cache=cache, cache_bytes=room)
        assert found == expected
        assert cached == 2 * 40
    assert file_in(tmp_path / "kept").stat().st_blocks * 512 <= room + 4096
    assert epochs_of(small, cache="ram", cache_bytes=1) == (expected, 0)
    assert epochs_of(small, cache=tmp_path / "kept")[1] >= 2 * ROWS, "the file may grow"


def test_files_of_former_options_make_room(small: str, tmp_path: Path) -> None:
    def fill(width: int, room: int | None) -> None:
        options = {"size": (16, width), "workers": 0, "cache": tmp_path, "cache_bytes": room}
        epochs_of(small, 1, **options)
        time.sleep(0.02)  # for the clock of the file system

    def sizes() -> set[int]:
        return {path.stat().st_size for path in tmp_path.glob("*" + SUFFIX)}

    for width in (30, 31, 32):
        fill(width, None)
    former = sorted(sizes())
    fill(30, None)  # used again
    fill(33, 3 * max(former) + 20_000)
    assert len(sizes()) == 3
    assert former[1] not in sizes(), "31 is the one that was used least lately"
    with FastLoader(small, size=(16, 32), workers=0, cache=tmp_path) as loader:
        list(loader)
        fill(34, 200_000)
        assert len(sizes()) == 2, "one is in use"
        list(loader)
        assert loader.stats().cached_rows == 2 * ROWS


@full
def test_two_loaders_at_once_share_it(small: str, tmp_path: Path) -> None:
    expected = [epochs_of(small, shard=(i, 2))[0] for i in range(2)]
    found: dict[int, Any] = {}

    def run(i: int) -> None:
        found[i] = epochs_of(small, shard=(i, 2), workers=1, cache=tmp_path)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [found[i][0] for i in range(2)] == expected
    keys = sorted(key for shard in expected for *_, its in shard[: len(shard) // 3] for key in its)
    assert keys == list(range(3, 301, 3)), "each row once an epoch, over both"
    assert epochs_of(small, cache=tmp_path)[1] == 3 * ROWS


def test_nothing_is_left_of_a_cache_in_memory(small: str) -> None:
    before = os.listdir("/proc/self/fd")
    maps = Path("/proc/self/maps").read_text().count("memfd:fastloader")
    for _ in range(3):
        epochs_of(small, 2, workers=0, cache="ram")
    assert os.listdir("/proc/self/fd") == before
    assert Path("/proc/self/maps").read_text().count("memfd:fastloader") == maps


# ---- what it says --------------------------------------------------------------------------------


def test_what_cannot_be_cached_is_an_error_that_says_so(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for options, words in (
        ({"consistency": "latest"}, "exclude each other"),
        ({"cache_bytes": 0}, "cache_bytes=0 must be from 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            FastLoader(small, **{"cache": "ram", **options})
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"cache=.*cannot be used: .*name a folder"):
            FastLoader(small, cache=folder)
    monkeypatch.setenv("FASTLOADER_CACHE", "none")
    with FastLoader(small) as loader:
        assert loader.config.cache is None
    monkeypatch.setenv("FASTLOADER_CACHE", "ram")
    with FastLoader(small) as loader:
        assert loader.config.cache == "ram"


def test_what_postgres_cannot_answer_for_is_an_error(database: Database) -> None:
    url = database.table(simple_rows(3))
    database.execute("CREATE VIEW seen AS SELECT * FROM images")
    database.execute("CREATE TABLE large (id int8 PRIMARY KEY, image_data oid, label int8)")
    database.execute("INSERT INTO large SELECT id, lo_from_bytea(0, image_data), 1 FROM images")
    for options, words in (
        ({"table": "seen"}, "rows of a view or a foreign table change; turn the cache off"),
        (
            {"query": "SELECT * FROM images"},
            "when the rows of a query change; turn the cache off, or read",
        ),
        ({"table": "large"}, "when a large object changes"),
    ):
        with pytest.raises(ConfigError, match=words):
            FastLoader(url, cache="ram", **options)


@full
def test_commands_that_are_about_decoding_do_without(small: str, tmp_path: Path) -> None:
    for words in (["check", small], ["tune", small, "--seconds", "0.1", "--slots", "3"]):
        assert cli.main([*words, "--cache", str(tmp_path / "kept")]) == 0
    assert not (tmp_path / "kept").exists()


def test_the_log_says_how_much_came_out_of_it(small: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "fastloader")
    epochs_of(small, 2, workers=0, cache="ram", cache_bytes=50_000)
    assert "has room for 37 of 100 rows of 1216 bytes" in caplog.text
    assert "0 of them from the cache; " in caplog.text
    assert "37 of them from the cache;" in caplog.text


def test_the_advice_for_a_query_on_postgres_makes_a_cache_possible(database: Database) -> None:
    url = database.table(simple_rows(20))
    query = "SELECT * FROM images WHERE id <= 10;"
    with pytest.raises(ConfigError, match="the rows of a query change") as caught:
        FastLoader(url, query=query, cache="ram", workers=0)
    statements = str(caught.value).split("To make one: ")[1].split("; then pass ")
    database.execute(statements[0])
    table = statements[1].split('table="')[1].split('"')[0]
    with FastLoader(url, table=table, cache="ram", workers=0, size=(8, 8)) as loader:
        assert sum(len(labels) for _, labels in loader) == 10

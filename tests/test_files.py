"""Images in files: a column holds their paths, which may be hostile.

Nothing outside of the folder is opened, nothing but regular files is, and nothing blocks.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import resource
import shutil
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import Bytes, ConfigError, FastLoader, Image, RowError, SourceError, Text, cli
from fastloader.fields.every import KINDS
from fastloader.fields.values import Values
from fastloader.options.config import MOST_PATH_BYTES, Config, make_config
from fastloader.source import files as files_module
from fastloader.source._files import STATUS, Folder, read_files
from fastloader.source.files import FileReader, shown
from fastloader.source.protocol import Chunk
from fastloader.source.sqlite.file import identity_of, inodes_of
from fastloader.transport.serial import pack, unpack

from .conftest import Either
from .servers.postgres import Database
from .support import jpeg, open_files, table
from .test_sqlite_locks import COMMIT, locks_of_this_process, program

COLUMNS = "id INTEGER PRIMARY KEY, path TEXT, label INTEGER"
BYTES = "id INTEGER PRIMARY KEY, path BYTEA, label INTEGER"
LIMIT = 1 << 20


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder with 30 photos in two folders, and everything that is hostile."""
    folder = tmp_path / "photos"
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
    for i in range(30):
        (folder / path_of(i)).write_bytes(jpeg(seed=i))
    (tmp_path / "secret.jpg").write_bytes(jpeg(seed=99))
    (folder / "empty.jpg").touch()
    (folder / "words.jpg").write_text("cats/0.jpg")
    os.mkfifo(folder / "fifo.jpg")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(folder / "socket.jpg"))
    (folder / "inside.jpg").symlink_to("cats/0.jpg")
    (folder / "around.jpg").symlink_to("dogs/../cats/0.jpg")
    (folder / "outside.jpg").symlink_to("../secret.jpg")
    (folder / "absolute.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "dangling.jpg").symlink_to("nothing.jpg")
    (folder / "up").symlink_to("..")
    (folder / "magic").symlink_to("/proc/self/cwd")
    return folder


def path_of(i: int) -> str:
    return f"{'cats' if i % 2 else 'dogs'}/{i}.jpg" if i else "cats/0.jpg"


def rows_of(count: int) -> list[tuple[int, str, int]]:
    return [(i, path_of(i), i * 10) for i in range(count)]


def field(folder: Path, **options: Any) -> dict[str, Any]:
    return {"photo": Image("path", files=folder, size=(8, 8), **options)}


def reasons(url: str, fields: dict[str, Any], **options: Any) -> dict[Any, str]:
    """Return why rows are bad, of an epoch."""
    options = {"fields": fields, "on_error": "skip", "workers": 0, **options}
    with FastLoader(url, **options) as loader:
        for _ in loader:
            pass
        return dict(loader.bad_rows)


def test_bytes_of_files_are_delivered_as_they_are(either: Either, photos: Path) -> None:
    paths = [*(path_of(i) for i in range(20)), "words.jpg", "empty.jpg", "fifo.jpg", None]
    rows = [(i, path, i) for i, path in enumerate(paths)]
    url = either.table(rows, columns=COLUMNS)
    fields = {"file": Bytes("path", files=photos), "again": Image("path", files=photos)}
    fields |= {"path": Text(null="mask")}
    with FastLoader(url, fields={"file": fields["file"], "path": fields["path"]}, with_keys=True,
                    on_error="skip", workers=2, batch_size=5) as loader:  # fmt: skip
        seen = []
        for x in loader:
            for key, path, data in zip(x["id"].tolist(), x["path"], x["file"], strict=True):
                assert bytes(data) == (photos / path).read_bytes()
                seen.append(key)
        bad = dict(loader.bad_rows)
    assert seen == list(range(22))
    assert "a FIFO in" in bad[22]
    assert bad[23] == "column 'path' holds NULL, bytes is needed"
    with FastLoader(url, fields=fields, on_error="skip", workers=0, batch_size=8) as loader:
        x = next(iter(loader))
    assert x["again"].shape[0] == len(x["file"]) == 8, "an image and its bytes"


HOSTILE: dict[str, tuple[bytes, str]] = {
    "missing": (b"cats/no.jpg", "no such file in {}; path 'cats/no.jpg'"),
    "file as folder": (b"cats/0.jpg/1.jpg", "no such file in {}"),
    "slash after a file": (b"cats/0.jpg/", "no such file in {}"),
    "dangling": (b"dangling.jpg", "no such file in {}|a link in {}"),
    "empty path": (b"", "the path is empty"),
    "a long path": (b"a/" * 2500, "the path has more than 4095 bytes"),
    "a long name": (b"a" * 300, "a name in the path is too long"),
    "many components": (b"./" * 2040 + b"cats/0.jpx", "no such file in {}"),
    "not UTF-8": (b"\xff\xfe\x80.jpg", r"no such file in {}; path '\\xff\\xfe\\x80.jpg'"),
    "unprintable": (b"a\nb\x1b[2J", r"no such file in {}; path 'a\\nb\\x1b\[2J'"),
    "absolute": (b"/etc/hostname", "the path is absolute; it has to be relative to {}"),
    "up": (b"../secret.jpg", r'the path has "\.\." in it, which may lead out of {}'),
    "up and back": (b"cats/../cats/0.jpg", r'the path has "\.\." in it'),
    "up at the end": (b"cats/..", r'the path has "\.\." in it'),
    "outside": (b"outside.jpg", "the path leads out of {}|a link in {}"),
    "absolute link": (b"absolute.jpg", "the path leads out of {}|a link in {}"),
    "link to a folder": (b"up/secret.jpg", "the path leads out of {}|a link in {}"),
    "magic": (b"magic/x", "the path leads out of {}|a link in {}"),
    "loop": (b"loop.jpg", "a chain of links in {} is too long|a link in {}"),
    "folder": (b"cats", "a folder in {}, not a file"),
    "the folder": (b".", "a folder in {}, not a file"),
    "fifo": (b"fifo.jpg", "a FIFO in {}, not a regular file"),
    "socket": (b"socket.jpg", "a socket in {}, not a regular file"),
    "empty file": (b"empty.jpg", r"empty image \(the blob is empty\)"),
    "no image": (b"words.jpg", r"unknown image format \("),
}
"""Paths, and why their rows are bad, with or without openat2."""


# ---- what works ----------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [COLUMNS, BYTES])
@pytest.mark.parametrize("workers", [0, 2])
def test_files_give_the_images_that_their_bytes_give(
    either: Either, photos: Path, columns: str, workers: int
) -> None:
    rows: list[tuple[Any, ...]] = rows_of(30)
    if columns == BYTES:
        rows = [(i, path.encode(), label) for i, path, label in rows]
    url = either.table(rows, columns=columns)
    stored = table(photos.parent / "stored.db", [(i, jpeg(seed=i), 0) for i in range(30)])
    options: dict[str, Any] = {"workers": workers, "batch_size": 7, "with_keys": True}
    with (
        FastLoader(stored, image="image_data", label=None, size=(8, 8), **options) as blobs,
        FastLoader(url, fields=field(photos), label="label", shuffle=True, **options) as loader,
    ):
        expected = {key: image.copy() for x in blobs for key, image in pairs(x, "image_data")}
        for _ in range(2):
            seen = []
            for x, y in loader:
                assert y.tolist() == [10 * key for key in x["id"].tolist()]
                assert all((image == expected[key]).all() for key, image in pairs(x, "photo"))
                seen += x["id"].tolist()
            assert sorted(seen) == list(range(30))
        assert loader.stats().pictures["JPEG"].decoded == 60


def pairs(x: dict[str, Any], image: str) -> Iterator[tuple[int, Any]]:
    return zip(x["id"].tolist(), x[image], strict=True)


def test_one_column_may_be_several_images_and_text(
    either: Either, photos: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    for i in range(6):
        (masks / path_of(i)).parent.mkdir(parents=True, exist_ok=True)
        (masks / path_of(i)).write_bytes(jpeg(seed=100 + i))
    (masks / path_of(3)).unlink()
    url = either.table(rows_of(6), columns=COLUMNS)
    fields = {
        **field(photos),
        "large": Image("path", files=photos, size=(16, 16)),
        "mask": Image("path", files=str(masks), size=(8, 8)),
        "name": Text("path"),
    }
    with FastLoader(url, fields=fields, workers=0, on_error="skip") as loader:
        (x,) = list(loader)
        assert x["name"].tolist() == [path_of(i) for i in (0, 1, 2, 4, 5)]
        assert x["large"].shape == (5, 16, 16, 3)
        assert not (x["mask"] == x["photo"]).all(axis=(1, 2, 3)).any()
        ((key, why),) = loader.bad_rows
    assert key == 3
    assert f"column 'path': no such file in {masks}; path '{path_of(3)}'" in why


@pytest.mark.parametrize(
    "name", ["inside.jpg", "around.jpg", "./cats//0.jpg", "up/photos/cats/0.jpg"]
)
def test_links_are_followed_as_long_as_they_stay_beneath_the_folder(
    tmp_path: Path, photos: Path, name: str
) -> None:
    url = table(tmp_path / "t.db", [(1, name, 0)], columns=COLUMNS)
    why = reasons(url, field(photos))
    assert bool(why) == name.startswith("up/"), why


def test_a_null_is_a_bad_row_as_a_null_blob_is(either: Either, photos: Path) -> None:
    url = either.table([(0, "cats/0.jpg", 0), (1, None, 0)], columns=COLUMNS)
    assert reasons(url, field(photos)) == {1: "column 'path' is NULL"}


def test_the_folder_is_that_of_the_process_that_made_the_field(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = table(tmp_path / "t.db", rows_of(4), columns=COLUMNS)
    monkeypatch.chdir(photos.parent)
    made = Image("path", files="photos", size=(8, 8))
    assert made.folder == str(photos)
    assert (
        unpack(pack(make_config({"url": url, "fields": {"a": made}})), Config).inputs["a"] == made
    )
    monkeypatch.chdir("/")
    assert reasons(url, {"photo": made}, workers=2) == {}


def test_a_file_of_fields_names_the_folder(
    tmp_path: Path,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = table(tmp_path / "t.db", rows_of(12), columns=COLUMNS)
    fields = tmp_path / "fields.json"
    fields.write_text(
        json.dumps(
            {"photo": {"kind": "Image", "column": "path", "files": str(photos), "size": [8, 8]}}
        )
    )
    monkeypatch.setenv("FASTLOADER_FIELDS", str(fields))
    with FastLoader(url, workers=0) as loader:
        assert next(iter(loader))["photo"].shape == (12, 8, 8, 3)
    (photos / path_of(5)).unlink()
    (photos / path_of(6)).unlink()
    assert cli.main(["plan", url]) == 0
    out = capsys.readouterr().out
    assert "10 JPEG" in out
    assert "2 rows of the sample have no image" in out
    assert cli.main(["check", url, "--workers", "0"]) == 1
    out = capsys.readouterr().out
    assert f"no such file in {photos} bad 2 5, 6" in " ".join(out.split())
    sheet = tmp_path / "sheet.png"
    assert cli.main(["preview", url, "-o", str(sheet)]) == 0
    assert f"key 6: column 'path': no such file in {photos}" in capsys.readouterr().out
    assert sheet.exists()
    assert cli.main(["bench", url, "--seconds", "0.2", "--json", "--on-error", "fill"]) == 0


# ---- hostile paths -------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_hostile_path_is_a_bad_row_with_a_reason(
    either: Either, photos: Path, workers: int
) -> None:
    rows = [(i, path, 0) for i, (path, _) in enumerate(HOSTILE.values())]
    rows += [(100 + i, path_of(i).encode(), 0) for i in range(20)]
    found = reasons(either.table(rows, columns=BYTES), field(photos), workers=workers)
    assert found.keys() == set(range(len(HOSTILE)))
    for why, (name, (_, expected)) in zip(found.values(), HOSTILE.items(), strict=True):
        assert matches(why, expected, photos), (name, why)


def matches(why: str, expected: str, folder: Path) -> bool:
    return re.search(expected.replace("{}", re.escape(str(folder))), why) is not None


@pytest.mark.parametrize("walks", [False, True])
def test_without_openat2_the_same_paths_are_refused(photos: Path, walks: bool) -> None:
    for name, (path, expected) in HOSTILE.items():
        status = status_of(Folder(str(photos), walks=walks), path)
        if name in ("empty file", "no image"):
            assert status == 0
            continue
        assert status != 0, name
        words = files_module.IN_A_FOLDER[status]
        assert matches(words.format(folder=photos), expected.partition(";")[0], photos), name
    for name in ("cats/0.jpg", "./cats//0.jpg"):
        assert status_of(Folder(str(photos), walks=walks), name.encode()) == 0
    assert status_of(Folder(str(photos), walks=True), b"inside.jpg") == STATUS["link"]


def status_of(
    folder: Folder, *paths: Any, own: Any = (), limit: int = LIMIT, slow_s: float = 1.0
) -> int:
    """Return the status of the last path, without a database."""
    rows, ((statuses, _),), _ = read_files(
        [folder], [Values.of(paths)], 0, own, limit=limit, most_bytes=LIMIT, slow_s=slow_s
    )
    assert rows == len(paths)
    return int(statuses[-1])


def test_a_path_as_long_as_the_system_takes_is_resolved(photos: Path) -> None:
    for walks in (False, True):
        folder = Folder(str(photos), walks=walks)
        path = b"cats/0.jpg".rjust(MOST_PATH_BYTES, b"/").replace(b"//", b"./", 2041)
        path = (b"./" * 2050 + b"cats/0.jpg")[-MOST_PATH_BYTES + 1 :]
        assert status_of(folder, b"." + path if path[:1] == b"/" else path) == 0
        assert status_of(folder, b"./" * 2048) == STATUS["too long"]
        assert status_of(folder, b"cats/0.jpg\0") == STATUS["nul"]


def test_what_is_no_text_is_no_path(tmp_path: Path, photos: Path) -> None:
    rows = [(1, 5, 0), (2, 0.5, 0), (3, "x" * 5000, 0), (4, b"x" * 5000, 0)]
    url = table(tmp_path / "t.db", rows, columns="id INTEGER PRIMARY KEY, path, label")
    found = reasons(url, field(photos))
    assert found[1] == "column 'path': 5 is not a path"
    assert found[2] == "column 'path': 0.5 is not a path"
    assert found[3] == found[4] == "column 'path': the path has more than 4095 bytes"
    again = reasons(url, {**field(photos), "text": KINDS["Value"]("path", dtype="text")})
    assert again[3].startswith("column 'path': the path has more than 4095 bytes; path 'xxx")
    assert len(again[3]) < 400


def test_a_device_is_not_opened(photos: Path) -> None:
    try:
        os.mknod(photos / "null.jpg", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root can make a device")
    assert status_of(Folder(str(photos)), b"null.jpg") == STATUS["device"]


@pytest.mark.parametrize("walks", [False, True])
def test_a_fifo_is_never_opened(photos: Path, walks: bool) -> None:
    """Whoever waits to write to it would be woken."""
    fifo = photos / "fifo.jpg"
    writer = threading.Thread(target=lambda: os.close(os.open(fifo, os.O_WRONLY)), daemon=True)
    writer.start()
    for _ in range(1000):
        folder = Folder(str(photos), walks=walks)
        assert status_of(folder, b"fifo.jpg", b"fifo.jpg", slow_s=-1) == STATUS["fifo"]
    assert writer.is_alive()
    os.close(os.open(fifo, os.O_RDONLY))
    writer.join(60)


def until(has_seen_all: Callable[[], bool]) -> Iterator[None]:
    """Go on for a second, and then until all is seen or a minute is over."""
    start_s = time.monotonic()
    while (spent_s := time.monotonic() - start_s) < 1 or (spent_s < 60 and not has_seen_all()):
        yield


@pytest.mark.parametrize("walks", [False, True])
def test_what_is_replaced_meanwhile_is_not_opened(tmp_path: Path, walks: bool) -> None:
    """One name is a file, a link out of the folder and a FIFO, one after the other."""
    photos = tmp_path / "photos"
    photos.mkdir()
    (tmp_path / "secret").write_bytes(b"secret")
    ends = threading.Event()

    def replace() -> None:
        while not ends.is_set():
            for make in (
                lambda new: new.write_bytes(b"photo"),
                lambda new: new.symlink_to("../secret"),
                os.mkfifo,
            ):
                make(photos / "new")
                os.replace(photos / "new", photos / "1.jpg")

    folder, seen = Folder(str(photos), walks=walks), set()
    replacing = threading.Thread(target=replace)
    replacing.start()
    refused = {STATUS["fifo"], STATUS["link"] if walks else errno.EXDEV}
    for _ in until(lambda: {b"photo", *refused} <= seen):
        _, ((statuses, blobs),), owner = read_files(
            [folder], [Values.of([b"1.jpg"])], 0, (), limit=LIMIT, most_bytes=LIMIT
        )
        seen.add(int(statuses[0]) or ctypes.string_at(*blobs[0].tolist()))
        del owner
    ends.set()
    replacing.join()
    assert {b"photo", *refused} <= seen <= {b"photo", *refused, errno.ENOENT, errno.EAGAIN}


# ---- limits --------------------------------------------------------------------------------------


def test_a_file_is_not_larger_than_max_blob_bytes(either: Either, photos: Path) -> None:
    image = jpeg(seed=0)
    with (photos / "huge.jpg").open("wb") as file:
        file.truncate(1 << 40)
    (photos / "more.jpg").write_bytes(image + b"!")
    rows = [(1, "huge.jpg", 0), (2, "more.jpg", 0), (3, "cats/0.jpg", 0)]
    url = either.table(rows, columns=COLUMNS)
    found = reasons(url, field(photos), max_blob_bytes=len(image))
    assert found == {
        i: f"column 'path': a file in {photos} is larger than {len(image)} bytes, the limit; raise "
        f"max_blob_bytes to allow it; path '{name}' ({size} bytes)"
        for i, name, size in ((1, "huge.jpg", 1 << 40), (2, "more.jpg", len(image) + 1))
    }


@pytest.mark.parametrize(
    "path",
    ["/proc/self/status", "/sys/kernel/mm/transparent_hugepage/enabled"],
    ids=["more", "fewer"],
)
def test_a_file_with_more_or_fewer_bytes_than_its_size_is_not_delivered(path: str) -> None:
    """These files show what a file is like that changes while it is read."""
    folder, _, name = path.rpartition("/")
    if not os.path.exists(path):
        pytest.skip(f"no {path}")
    assert status_of(Folder(folder), name) == STATUS["changed"]


def test_a_file_that_grows_all_the_time_is_whole_or_a_bad_row(photos: Path) -> None:
    folder, ends, statuses = Folder(str(photos)), threading.Event(), set()

    def grow() -> None:
        while not ends.is_set():
            with (photos / "1.bin").open("wb") as file:
                for i in range(50):
                    file.write(bytes([i]) * 4096)
                    file.flush()

    (photos / "1.bin").touch()
    growing = threading.Thread(target=grow)
    growing.start()
    for _ in until(lambda: {0, STATUS["too large"]} <= statuses):
        statuses.add(status_of(folder, "1.bin", limit=20 * 4096))
    ends.set()
    growing.join()
    assert {0, STATUS["too large"]} <= statuses <= {0, STATUS["too large"], STATUS["changed"]}


def test_rows_are_divided_by_the_sizes_of_their_files(tmp_path: Path) -> None:
    """A chunk of short paths must not become a chunk of large images."""
    size, count, budget = 100_000, 100, 1_000_000
    for i in range(count):
        (tmp_path / f"{i}.jpg").write_bytes(bytes([i]) * size)
    paths = [f"{i}.jpg" for i in range(count)]
    paths[7] = None  # type: ignore[call-overload]
    config = make_config(
        {
            "url": "t.db",
            "fetch_bytes": budget,
            "fields": {
                name: Image("path", files=tmp_path, size=(1, side))
                for side, name in enumerate(("one", "same"), 1)
            },
        }
    )
    reader = FileReader(config)
    numbers = np.arange(count)
    chunk = Chunk(numbers * 2, numbers * 3, {"path": Values.of(paths)}, {9: "bad"})
    at = 0
    for part in reader.chunks(Unowned(), [chunk]):  # type: ignore[arg-type]
        (values,) = (its for name, its in part.columns.items() if name != "path")
        assert values.nbytes < budget + size + 1000
        assert part.keys.tolist() == (numbers * 2)[at : at + len(part.keys)].tolist()
        assert part.ranges.tolist() == (numbers * 3)[at : at + len(part.keys)].tolist()
        for i in range(len(part.keys)):
            assert values.value(i) == (None if at + i == 7 else bytes([at + i]) * size)
        assert part.bad == ({9 - at: "bad"} if 0 <= 9 - at < len(part.keys) else {})
        at += len(part.keys)
    assert at == count
    reader.close()


class Unowned:
    def own_files(self) -> list[tuple[int, int]]:
        return []


def test_no_descriptor_is_left(tmp_path: Path, photos: Path) -> None:
    rows = [(i, path, 0) for i, (path, _) in enumerate(HOSTILE.values())]
    url = table(tmp_path / "t.db", [*rows, (100, "cats/0.jpg", 0)], columns=BYTES)
    before = open_files()
    for _ in range(2):
        reasons(url, field(photos))
        for path, _ in HOSTILE.values():
            status_of(Folder(str(photos), walks=True), path)
            status_of(Folder(str(photos)), b"cats/0.jpg", path, slow_s=-1)
    assert open_files() == before


def test_a_limit_of_the_process_is_no_bad_row(photos: Path) -> None:
    config = make_config({"url": "t.db", "fields": field(photos)})
    reader = FileReader(config)
    chunk = Chunk(np.arange(2), np.arange(2), {"path": Values.of(["cats/0.jpg"] * 2)})
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    following = os.dup(0)
    os.close(following)
    for free in (0, 1):
        resource.setrlimit(resource.RLIMIT_NOFILE, (following + free, limits[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                list(reader.chunks(Unowned(), [chunk]))  # type: ignore[arg-type]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(list(reader.chunks(Unowned(), [chunk]))) == 1  # type: ignore[arg-type]
    resource.setrlimit(resource.RLIMIT_NOFILE, (following + 1, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Folder(str(photos))  # which must not conclude that there is no openat2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_path_in_a_message_is_printable_and_short() -> None:
    assert shown("été 1.jpg".encode()) == "'été 1.jpg'"
    assert shown(b"a\xffb\n\0") == r"'a\xffb\n\x00'"
    assert len(shown(b"\xff" * 5000)) < 1000


# ---- the files of the database -------------------------------------------------------------------


@pytest.fixture
def in_the_folder(tmp_path: Path) -> Iterator[tuple[str, Path, sqlite3.Connection]]:
    """Yield a database that names its own files, its folder, and a connection in a transaction."""
    folder = tmp_path / "all"
    folder.mkdir()
    (folder / "0.jpg").write_bytes(jpeg())
    names = [f"t.db{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
    names += [f"hard{suffix}" for suffix in ("", "-wal", "-shm")] + ["soft"]
    rows = [(i, name, 0) for i, name in enumerate([*names, "0.jpg"])]
    url = table(folder / "t.db", rows, columns=COLUMNS)
    ours = sqlite3.connect(url, isolation_level=None)
    ours.execute("PRAGMA journal_mode = WAL")
    ours.execute("UPDATE images SET label = label")
    for suffix in ("", "-wal", "-shm"):
        os.link(url + suffix, folder / f"hard{suffix}")
    (folder / "soft").symlink_to("t.db")
    ours.execute("BEGIN")
    ours.execute("SELECT count(*) FROM images").fetchone()
    yield url, folder, ours
    ours.close()


def test_the_files_of_the_database_are_never_opened(
    in_the_folder: tuple[str, Path, sqlite3.Connection],
) -> None:
    """Closing them would drop all locks that SQLite holds in this process."""
    url, folder, _ = in_the_folder
    held = locks_of_this_process(url) + locks_of_this_process(url + "-shm")
    if not held:
        pytest.skip("/proc/locks does not show the locks of this process")
    found = reasons(url, field(folder))
    assert len(locks_of_this_process(url) + locks_of_this_process(url + "-shm")) == len(held)
    assert found.pop(3).startswith("column 'path': no such file")  # there is no journal in WAL mode
    assert found.keys() == {0, 1, 2, 4, 5, 6, 7}
    for why in found.values():
        assert "a file of the database itself, which only the database may open; path '" in why


@pytest.mark.parametrize("workers", [0, 2])
def test_nobody_commits_in_the_middle_of_a_transaction_of_this_process(
    tmp_path: Path, workers: int
) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg())
    path = table(
        tmp_path / "t.db", [(1, "t.db", 0), (2, "hard", 0), (3, "0.jpg", 0)], columns=COLUMNS
    )
    os.link(path, tmp_path / "hard")
    ours = sqlite3.connect(path, isolation_level=None)
    options: dict[str, Any] = {"fields": field(tmp_path), "on_error": "skip", "workers": workers}
    with FastLoader(path, **options) as loader:
        list(loader)
        ours.execute("BEGIN IMMEDIATE")
        ours.execute("UPDATE images SET label = 1")
        for _ in range(3):
            list(loader)
        with program(COMMIT, path) as other:
            assert other.communicate(timeout=200)[0] == "database is locked\n"
        ours.execute("COMMIT")
        assert {key for key, _ in loader.bad_rows} == {1, 2}
    ours.close()


def test_a_database_that_was_replaced_is_still_a_file_of_the_source(tmp_path: Path) -> None:
    path = str(tmp_path / "t.db")
    Path(path).touch()
    held = os.open(path, os.O_RDONLY)  # as by a connection; or another file could get the inode
    identity, old = identity_of(path), os.stat(path)
    (tmp_path / "new").touch()
    os.replace(tmp_path / "new", path)
    (tmp_path / "t.db-shm").touch()
    found = [os.stat(path), old, os.stat(path + "-shm")]
    assert set(inodes_of(path, identity)) == {(its.st_dev, its.st_ino) for its in found}
    os.close(held)


# ---- options and errors --------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    for name in ("nothing", "t.db"):
        url = table(tmp_path / f"{name}.db", rows_of(1), columns=COLUMNS)
        (tmp_path / "t.db").touch()
        with pytest.raises(ConfigError, match=f"no such folder: {tmp_path / name}"):
            FastLoader(url, fields=field(tmp_path / name), workers=0)


def test_a_worker_on_another_machine_names_the_machine_and_the_folder(photos: Path) -> None:
    config = make_config({"url": "t.db", "fields": field(photos)})
    shutil.rmtree(photos)
    with pytest.raises(SourceError) as caught:
        FileReader(config)
    assert str(photos) in str(caught.value)
    assert os.uname().nodename in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_folder_that_is_gone_when_a_loader_begins_is_an_error(
    tmp_path: Path, photos: Path, workers: int
) -> None:
    url = table(tmp_path / "t.db", rows_of(3), columns=COLUMNS)
    with FastLoader(url, fields=field(photos), workers=workers) as loader:
        photos.rename(tmp_path / "moved")
        with pytest.raises((SourceError, RowError), match=str(photos)):
            list(loader)


def test_a_cache_of_files_is_refused(tmp_path: Path, photos: Path) -> None:
    """It could not tell that a file has changed."""
    url = table(tmp_path / "t.db", rows_of(3), columns=COLUMNS)
    with pytest.raises(ConfigError, match="cache and files exclude each other"):
        FastLoader(url, fields=field(photos), cache="ram")


def test_a_file_that_changes_between_epochs_is_delivered_as_it_is_then(
    tmp_path: Path, photos: Path
) -> None:
    url = table(tmp_path / "t.db", rows_of(1), columns=COLUMNS)
    with FastLoader(url, fields=field(photos), workers=0) as loader:
        before = next(iter(loader))["photo"].copy()
        list(loader)
        (photos / "new").write_bytes(jpeg(seed=50))
        # By renaming: the loader may be reading the file for this epoch now.
        os.replace(photos / "new", photos / path_of(0))
        list(loader)
        assert (next(iter(loader))["photo"] != before).any()


@pytest.mark.parametrize("kind", ["varchar(50)", "char(50)", "name", "bytea"])
def test_postgres_reads_paths_of_every_type_of_text(
    database: Database, photos: Path, kind: str
) -> None:
    columns = f"id int4 PRIMARY KEY, path {kind}, label int4"
    url = database.table(
        [(i, p.encode() if kind == "bytea" else p, n) for i, p, n in rows_of(4)], columns=columns
    )
    assert reasons(url, field(photos)) == {}


def test_postgres_refuses_a_column_that_holds_no_paths_with_a_cast_that_works(
    database: Database, photos: Path
) -> None:
    (photos / "7").write_bytes(jpeg())
    url = database.table([(1, 7)], columns="id int4 PRIMARY KEY, path int8")
    with pytest.raises(
        SourceError, match="paths must be text, or bytea. Cast it: query="
    ) as caught:
        FastLoader(url, fields=field(photos), workers=0)
    query = re.search(r"query='(.*)'", str(caught.value))
    assert query
    assert reasons(url, field(photos), query=query[1]) == {}

"""The page cache: how much of a database is in it, and how to evict the database from it."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from .measure import Sample
from .photos import POSTGRES

COLD_SHARE = 0.01
"""The share of the files that may stay in the page cache."""


def files_of(url: str) -> list[str]:
    """Return a SQLite file, or the regular files of a PostgreSQL server's data folder."""
    if not url.startswith(POSTGRES):
        return [url]
    tree = os.walk(ask(url, "SHOW data_directory"))
    paths = [os.path.join(folder, name) for folder, _, names in tree for name in names]
    return [path for path in paths if stat.S_ISREG(os.lstat(path).st_mode)]


def drop(url: str) -> None:
    """Evict the database from the page cache. SystemExit says that it cannot be done.

    The whole page cache is dropped only if evicting the files alone fails: others may be using it.
    """
    if url.startswith(POSTGRES):
        ask(url, "CHECKPOINT")
    paths = files_of(url)
    for path in paths:
        forget(path)
    if is_cold(paths):
        return
    with contextlib.suppress(OSError):
        Path("/proc/sys/vm/drop_caches").write_text("3\n", encoding="ascii")
    if not is_cold(paths):
        raise SystemExit(
            f"{os.path.dirname(paths[0])}: {resident_mb(paths):.0f} MB stay in the page cache, so "
            f"a cold cache cannot be measured; set TMPDIR to a folder on a disk, or pass "
            f"--cache warm"
        )


def forget(path: str) -> None:
    """Evict a file from the page cache. Only pages that are on the disk can go."""
    with opened(path) as file:
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def is_cold(paths: Sequence[str]) -> bool:
    return resident_mb(paths) <= COLD_SHARE * sum(map(os.path.getsize, paths)) / 1e6


def resident_mb(paths: Iterable[str]) -> float:
    """Return how much of these files is in the page cache, in MB."""
    return sum(map(resident_pages, paths)) * mmap.PAGESIZE / 1e6


def resident_pages(path: str) -> int:
    size = os.path.getsize(path)
    if size == 0:
        return 0
    libc = ctypes.CDLL(None, use_errno=True)
    found = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    with opened(path) as file, mmap.mmap(file, size, prot=mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, np.uint8)
        begin, into = ctypes.c_void_p(view.ctypes.data), ctypes.c_void_p(found.ctypes.data)
        failed = libc.mincore(begin, ctypes.c_size_t(size), into)
        del view  # otherwise the mapping cannot be closed
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    return int(np.count_nonzero(found & 1))


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    # Closing it drops this process's SQLite locks on the file. That does no harm: nobody else has
    # this database, and nothing writes to it any more.
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def disk_speed(url: str) -> Sample:
    """Measure the disk below the database's largest file, one read at a time."""
    drop(url)
    path = max(files_of(url), key=os.path.getsize)
    size = os.path.getsize(path)
    with opened(path) as file:
        pages = random.sample(range(size // mmap.PAGESIZE), min(500, size // mmap.PAGESIZE))
        start = time.perf_counter()
        for page in pages:
            os.pread(file, mmap.PAGESIZE, page * mmap.PAGESIZE)
        page_s = (time.perf_counter() - start) / len(pages)
        forget(path)
        start = time.perf_counter()
        while os.read(file, 1 << 20):
            pass
        return {"page_ms": page_s * 1000, "mb_per_s": size / 1e6 / (time.perf_counter() - start)}


def ask(url: str, sql: str) -> str:
    """Return the one value of the server's answer, or "" if there is none."""
    import psycopg2

    connection = psycopg2.connect(url)
    connection.autocommit = True
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[0]) if cursor.description else ""

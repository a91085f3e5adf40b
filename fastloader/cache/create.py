"""Makes the cache file, or finds it, and makes room for it. It runs in the training process."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import ConfigError
from ..fields.columns import Column
from ..options.config import Config
from ..system.descriptors import forget_in_children
from ..system.machine import available_bytes
from ..transport.memory import create_memory
from .file import SUFFIX, Place

RAM = "ram"
"""The value of ``cache`` that keeps the rows in memory instead of a file."""

SHARE = 0.5
"""The share of the available memory or free disk space to use where ``cache_bytes`` is None."""


class CacheFile:
    """Makes the file, or finds it, and holds it for as long as a loader may use it.

    Parameters
    ----------
    name
        From :func:`name_of`.
    rows, columns, state
        See :class:`Place`.

    Attributes
    ----------
    place
        What the workers need to know.

    Raises
    ------
    ConfigError
        The file cannot be made, for example because the folder is not writable.
    """

    def __init__(
        self, config: Config, name: str, rows: int, columns: Sequence[Column], state: str
    ) -> None:
        assert config.cache is not None
        place = Place("", name, rows, 0, tuple(columns), state)
        wanted = place.first_row + rows * place.row_bytes
        in_ram = config.cache == RAM
        if in_ram:
            self._file = create_memory("cache")
            # Workers are running already and cannot inherit it, but can open it by this name.
            path = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        else:
            self._file, path = _opened(config.cache, name + SUFFIX)
            forget_in_children(self._file, io.FileIO.close)  # and with it the lock on the file
        try:
            if in_ram:
                room = config.cache_bytes or int(available_bytes() * SHARE)
            else:
                room = _room(Path(path), config.cache_bytes, wanted)
            # Allocates the marks, so that a row can always be unmarked, but not the rows.
            os.posix_fallocate(self._file.fileno(), 0, place.first_row)
        except OSError as error:
            self.close()
            raise ConfigError(
                f"cache={config.cache!r} cannot be used: {error.strerror}; it needs one byte for "
                f"each of {rows} rows, and room for the rows that it keeps"
            ) from None
        kept = max(0, min(rows, (room - place.first_row) // place.row_bytes))
        self.place = replace(place, path=path, kept=kept)

    def close(self) -> None:
        """Let go of the file. A cache in memory is gone then. May be called twice."""
        self._file.close()


def _opened(folder: str, name: str) -> tuple[io.FileIO, str]:
    """Return the file, locked so that nobody removes it, and its path."""
    path = os.path.join(os.path.abspath(folder), name)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        while True:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            # One bytecode opens and stores it, so that Ctrl-C cannot come between.
            (file,) = map(io.FileIO, map(os.open, [path], [flags], [0o600]), ["r+"])
            fcntl.flock(file, fcntl.LOCK_SH)
            os.utime(file.fileno())  # the last time that it was used
            # A process that makes room may have removed it before it was locked.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    return file, path
            file.close()
    except OSError as error:
        raise ConfigError(
            f"cache={folder!r} cannot be used: {error.strerror}; name a folder that may be written "
            f'to, or "ram"'
        ) from None


def _room(ours: Path, cache_bytes: int | None, wanted: int) -> int:
    """Make room for a file, and return how many bytes it may take.

    All cache files in its folder together may take ``cache_bytes``. Files that nobody uses now are
    removed, the least recently used first, until there is room for what is ``wanted``.
    """
    found: dict[Path, os.stat_result] = {}
    for path in ours.parent.glob("*" + SUFFIX):
        with contextlib.suppress(OSError):
            found[path] = path.stat()
    if cache_bytes is None:
        disk = os.statvfs(ours.parent)
        free = disk.f_bavail * disk.f_frsize + sum(map(_disk_bytes, found.values()))
        cache_bytes = int(free * SHARE)
    found.pop(ours, None)
    taken = sum(map(_disk_bytes, found.values()))
    for path in sorted(found, key=lambda path: found[path].st_mtime):
        if taken <= max(0, cache_bytes - wanted):
            break
        with contextlib.suppress(OSError), io.FileIO(path, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            taken -= _disk_bytes(found[path])
    return cache_bytes - taken


def _disk_bytes(its: os.stat_result) -> int:
    return its.st_blocks * 512

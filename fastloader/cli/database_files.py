"""The files of a SQLite database, which only SQLite may open."""

from __future__ import annotations

import os
from pathlib import Path

from ..options.config import Config
from .command import CommandError

SUFFIXES = ("", "-wal", "-shm", "-journal")


class DatabaseFiles:
    """The files of a configuration's database: itself, its write-ahead log, index and journal.

    ``path in files`` tells whether a path leads to one of them, links included, and opens nothing.
    POSIX locks belong to the process: closing any descriptor of these files, even one that was only
    read from, drops the locks of every SQLite connection in the process. Another program may then
    write in the middle of a transaction.

    For PostgreSQL there are no such files, and no path is one of them.
    """

    def __init__(self, config: Config) -> None:
        self._names: list[str] = []
        if not config.url.is_postgres:
            from ..source.sqlite.file import path_of  # here, because it imports sqlite3

            self._names = [path_of(config) + suffix for suffix in SUFFIXES]
        self._last_names = {os.path.basename(name) for name in self._names}

    def __contains__(self, path: str | os.PathLike[str]) -> bool:
        if not self._names:
            return False
        # By name, because a log comes and goes with its connections and has a new inode each time.
        # By inode, because of hard links.
        might_be = os.path.basename(path) in self._last_names or os.path.islink(path)
        if might_be and os.path.realpath(path) in self._names:
            return True
        found = _identity(path)
        return found is not None and found in map(_identity, self._names)


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_dev, info.st_ino


def check_output(path: Path | None, config: Config) -> None:
    """Refuse to write over the database.

    Raises
    ------
    CommandError
        If ``path`` is a file of the database that ``config`` names.
    """
    if path is not None and path in DatabaseFiles(config):
        raise CommandError(f"{path} belongs to the database; name another file to write")

"""A SQLite file to put pictures into.

With the file's own journal, which is a rollback journal in a new one: pictures go to new pages,
which it does not have to keep, so they are written once and synced before a batch counts as done.
A write-ahead log would have them written twice, and leave files beside this one that those who only
read it need to write.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ..config import Config
from ..errors import SourceError
from ..source import identifier
from .command import MACHINE, CommandError
from .target import LOCKED_S, Target


class SQLiteTarget(Target):
    """See :class:`Target`. The file is made with the first batch."""

    BEGIN = "BEGIN IMMEDIATE"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert config.table is not None
        self._path = config.url.removeprefix("sqlite:///")
        self.name = identifier(config.table)
        self.CREATE = (
            f"CREATE TABLE IF NOT EXISTS {self.name} (id INTEGER PRIMARY KEY, "
            f"file TEXT NOT NULL UNIQUE, label INTEGER NOT NULL, label_name TEXT NOT NULL, "
            f"image_data BLOB NOT NULL)"
        )
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        if not os.path.exists(self._path):
            self._check_place()
            return
        if os.path.isdir(self._path):
            raise SourceError(f"{self._path} is a folder; name the SQLite file in it")
        if not os.access(self._path, os.W_OK):
            raise SourceError(f"{self._path} may not be written by this user")
        self._connect()
        columns = self._execute(f"PRAGMA table_xinfo({self.name})")
        if columns:
            self._check_columns([name for _, name, *_ in columns])
            self._is_there = True
            try:
                self._check_unique()
            except SourceError as error:
                if "ON CONFLICT" not in str(error):
                    raise
                raise self._not_unique() from None

    def _check_place(self) -> None:
        """That a new file can be made, without making it."""
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise CommandError(f"there is no folder {folder} for the database; make it", MACHINE)
        if not os.access(folder, os.W_OK):
            raise CommandError(f"{folder} may not be written by this user", MACHINE)
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            try:
                connection.execute(self.CREATE)
            except sqlite3.Error as error:  # a name that SQLite keeps for itself
                raise SourceError(f"{self._where}: cannot make the table: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            uri = f"file:{quote(self._path)}?mode=rwc"
            try:
                self._connection = sqlite3.connect(
                    uri, uri=True, timeout=LOCKED_S, isolation_level=None
                )
                self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
            except sqlite3.Error as error:
                raise SourceError(
                    f"{self._path}: cannot open it as a SQLite database: {error}"
                ) from None
        return self._connection

    def _execute(self, sql: str) -> list[tuple[Any, ...]]:
        connection = self._connect()
        try:
            return connection.execute(sql).fetchall()
        except sqlite3.Error as error:
            raise SourceError(f"{self._where}: {error}") from None

    def _insert(self, rows: Sequence[tuple[str, int, str, bytes]]) -> None:
        try:
            self._connect().executemany(
                f"INSERT INTO {self.name} (file, label, label_name, image_data) "
                f"VALUES (?, ?, ?, ?)",
                rows,
            )
        except sqlite3.Error as error:
            raise SourceError(f"{self._where}: cannot add rows: {error}") from None

    def _among(self, files: Sequence[str]) -> str:
        literals = (file.replace("'", "''") for file in files)
        return "file IN ('" + "', '".join(literals) + "')"

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

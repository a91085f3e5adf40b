"""A SQLite file that a command writes to.

It keeps the journal mode of the file, which is a rollback journal in a new one. Images go to new
pages, which a rollback journal does not save, so they are written once and synced before a batch
counts as done. A write-ahead log would write them twice, and leave files alongside the database
that even its readers must be able to write.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ..errors import SourceError
from ..options.config import Config
from ..source.sql import identifier
from .command import MACHINE, CommandError
from .store import LOCKED_S, Store


class SQLiteStore(Store):
    """A SQLite file, which is made with the first statement. See :class:`Store`."""

    BEGIN = "BEGIN IMMEDIATE"

    name: str
    """The table to write to, quoted for SQL."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._path = config.url.removeprefix("sqlite:///")
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> None:
        """Open the file. Without one, check that it can be made."""
        if not self._is_file:
            self._check_place()
            return
        if os.path.isdir(self._path):
            raise SourceError(f"{self._path} is a folder; name the SQLite file in it")
        if not os.access(self._path, os.W_OK):
            raise SourceError(f"{self._path} is not writable by this user")
        self._connect()

    def _check_place(self) -> None:
        """Check that a new file can be made, without making it."""
        folder = os.path.dirname(self._path)
        if not os.path.isdir(folder):
            raise CommandError(f"no folder {folder} for the database; create it first", MACHINE)
        if not os.access(folder, os.W_OK):
            raise CommandError(f"{folder} is not writable by this user", MACHINE)
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            try:
                connection.execute(f"CREATE TABLE {self.name} (id)")
            except sqlite3.Error as error:  # a name that SQLite reserves
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

    def _has(self, name: str) -> bool:
        return bool(self._is_file and self._execute(f"PRAGMA table_xinfo({name})"))

    @property
    def _is_file(self) -> bool:
        """Whether the database exists. Looking for a table in it must not make it."""
        return self._connection is not None or os.path.exists(self._path)

    def _add(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows of these columns, which are quoted for SQL."""
        marks = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({marks})"
        try:
            self._connect().executemany(sql, rows)
        except sqlite3.Error as error:
            raise SourceError(f"{self._where}: cannot add rows: {error}") from None

    def _literal(self, text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    def _name_of(self, table: str) -> str:
        return identifier(table)

    def close(self) -> None:
        """Close the connection. It may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

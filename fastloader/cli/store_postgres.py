"""A PostgreSQL database that a command writes to, with COPY in its binary format."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ..errors import SourceError
from ..options.config import Config
from ..options.url import without_password
from ..source.postgres.literals import literal
from ..source.sql import identifier
from .store import LOCKED_S, Store

STREAM_BYTES = 1 << 16
"""The number of bytes that libpq gets at once."""


class PostgresStore(Store):
    """A database on a server. See :class:`Store`."""

    BEGIN = f"BEGIN; SET LOCAL lock_timeout = '{LOCKED_S}s'"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._url = config.url
        self._connection: Any = None

    def _open(self) -> None:
        """Connect to the server."""
        import psycopg2

        try:
            self._connection = psycopg2.connect(
                self._url.secret, client_encoding="UTF8",
                fallback_application_name=f"fastloader {self.WHO}",
            )  # fmt: skip
        except psycopg2.Error as error:
            raise SourceError(
                f"{self._url}: cannot connect: {without_password(str(error), self._url)}"
            ) from None
        self._connection.autocommit = True

    def _has(self, name: str) -> bool:
        ((there,),) = self._execute(f"SELECT to_regclass({literal(name)})")
        return there is not None

    def _execute(self, sql: str) -> list[tuple[Any, ...]]:
        with self._cursor(sql) as cursor:
            return list(cursor.fetchall()) if cursor.description else []

    def _cursor(self, sql: str, stream: _Stream | None = None) -> Any:
        """Return a cursor that has executed the statement, or copied the stream with it."""
        import psycopg2

        if self._connection is None:
            raise SourceError(f"{self._where}: the connection is closed")
        cursor = self._connection.cursor()
        try:
            cursor.copy_expert(sql, stream, STREAM_BYTES) if stream else cursor.execute(sql)
        except psycopg2.Error as error:
            words = without_password(str(error), self._url)
            if self._connection.closed:
                words += ". All earlier batches are in the table; run the same command to resume"
            raise SourceError(f"{self._where}: {words}") from None
        return cursor

    def _copy(
        self, table: str, columns: Sequence[str], rows: Iterable[Sequence[bytes | None]]
    ) -> None:
        """Add rows of values in the binary form of their types. The names are quoted for SQL."""
        sql = f"COPY {table} ({', '.join(columns)}) FROM STDIN (FORMAT binary)"
        self._cursor(sql, _Stream(_copy_data(rows))).close()

    def _literal(self, text: str) -> str:
        return literal(text)

    def _name_of(self, table: str) -> str:
        return identifier(*table.split("."))

    def close(self) -> None:
        """Close the connection. It may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _copy_data(rows: Iterable[Sequence[bytes | None]]) -> Iterator[bytes]:
    """Yield the rows in COPY's binary format: the number of values, and each with its size."""
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for row in rows:
        yield struct.pack("!h", len(row))
        for value in row:
            if value is None:
                yield b"\xff\xff\xff\xff"
            else:
                yield struct.pack("!i", len(value))
                yield value
    yield b"\xff\xff"


class _Stream:
    """A file object for ``copy_expert`` over parts that are made one at a time."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes; b"" at the end."""
        while not self._rest:
            part = next(self._parts, None)
            if part is None:
                return b""
            self._rest = memoryview(part)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)

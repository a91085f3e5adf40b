"""A PostgreSQL table that ingest fills with one binary COPY per batch, without quoting images.

The images are stored outside of the rows and not compressed, because a JPEG would not get smaller.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...options.url import without_password
from ...source.postgres.literals import array_literal, literal
from ...source.sql import identifier
from .labels import Labels
from .target import LOCKED_S, MODIFIED, Target

INGEST_LOCK = int.from_bytes(b"fl_ingst", "big")
"""The advisory lock of all ingests into a database. It needs no privilege and blocks no others."""

BYTEA, TEXT, VARCHAR = 17, 25, 1043
NUMBERS = {21: "h", 23: "i", 20: "q", 700: "f", 701: "d"}
"""The type OIDs of int2, int4, int8, float4 and float8, and the struct codes of their values."""

STREAM_BYTES = 1 << 16
"""The number of bytes that libpq gets at once."""

TYPES = {
    "file": ("text", (TEXT, VARCHAR)),
    "label": ("int8", tuple(NUMBERS)),
    "label_name": ("text", (TEXT, VARCHAR)),
    MODIFIED: ("int8", (20,)),
    "image_data": ("bytea", (BYTEA,)),
}
"""For each column the type that ingest declares, and the OIDs of the types that it accepts."""


class PostgresTarget(Target):
    """A table in PostgreSQL. See :class:`Target`."""

    BEGIN = (
        f"BEGIN; SET LOCAL lock_timeout = '{LOCKED_S}s'; "
        f"SELECT pg_advisory_xact_lock({INGEST_LOCK})"
    )

    KEY = "int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    TYPES = {"int": "int8", "float": "float8", "text": "text", "bytes": "bytea"}  # noqa: RUF012
    SIZE = "octet_length"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert config.table is not None
        self._url = config.url
        self.name = self._name_of(config.table)
        self.classes_name = self._name_of(config.table + "_classes")
        self._label_code = "q"
        self._connection: Any = None

    def _create(self, labels: Labels) -> str:
        self._label_code = "d" if labels.are_floats else "q"
        return (
            f"{super()._create(labels)}; "
            f"ALTER TABLE {self.name} ALTER COLUMN image_data SET STORAGE EXTERNAL"
        )

    def open(self) -> None:
        """Connect to the server, and look at the table."""
        import psycopg2

        try:
            self._connection = psycopg2.connect(
                self._url.secret, client_encoding="UTF8",
                fallback_application_name="fastloader ingest",
            )  # fmt: skip
        except psycopg2.Error as error:
            raise SourceError(
                f"{self._url}: cannot connect: {without_password(str(error), self._url)}"
            ) from None
        self._connection.autocommit = True
        self._look()

    def _look(self) -> None:
        if not self._has(self.name):
            return
        with self._cursor(f"SELECT * FROM {self.name} LIMIT 0") as cursor:
            types = {column.name: column.type_code for column in cursor.description}
        self._check_columns(list(types))
        for name, (wanted, allowed) in TYPES.items():
            if name in types and types[name] not in allowed:
                ((found,),) = self._execute(f"SELECT format_type({types[name]}, NULL)")
                raise SourceError(
                    f"{self._where}: the table already exists, and its column {name!r} has the "
                    f"type {found} instead of {wanted}: name another table with --table"
                )
        self._label_code = NUMBERS[types["label"]]
        self._has_floats = self._label_code in "fd"
        self._check_unique()

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

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        sql = f"COPY {self.name} ({', '.join(self._columns)}) FROM STDIN (FORMAT binary)"
        self._check_numbers(rows)
        self._cursor(sql, _Stream(_copy_data(rows, self._label_code))).close()

    def _check_numbers(self, rows: Sequence[tuple[Any, ...]]) -> None:
        if self._has_floats:
            return
        low = -(1 << 8 * struct.calcsize(f"!{self._label_code}") - 1)
        for _, number, name, *_ in rows:
            if not low <= number < -low:
                raise SourceError(
                    f"{self._where}: the label {name!r} has the number {number}, which the column "
                    f"'label' cannot hold; change its type to int8"
                )

    def _update(self, file: str, values: Mapping[str, Any]) -> None:
        with self._connection.cursor() as cursor:
            sets = ", ".join(
                f"{column} = {cursor.mogrify('%s', (value,)).decode()}"
                for column, value in values.items()
            )
        self._execute(f"UPDATE {self.name} SET {sets} WHERE {self._among([file])}")

    def _among(self, files: Sequence[str]) -> str:
        return f"file = ANY ({array_literal(files)}::text[])"

    def _literal(self, text: str) -> str:
        return literal(text)

    def _name_of(self, table: str) -> str:
        return identifier(*table.split("."))

    def finish(self) -> None:
        """Have the server collect statistics, for its plans."""
        self._execute(f"ANALYZE {self.name}")

    def close(self) -> None:
        """Close the connection. May be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _copy_data(rows: Sequence[tuple[Any, ...]], code: str) -> Iterator[bytes]:
    """Yield the rows in COPY's binary format: the number of fields, and each with its size.

    The first three fields of a row are a text, a number of the type ``code`` and a text. Then come
    integers or None, and finally bytes.
    """
    number_bytes = struct.calcsize(f"!{code}")
    yield b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for file, label, label_name, *integers, image in rows:
        path, name = file.encode(), label_name.encode()
        yield struct.pack(f"!hi{len(path)}s", 4 + len(integers), len(path), path)
        yield struct.pack(f"!i{code}", number_bytes, label)
        yield struct.pack(f"!i{len(name)}s", len(name), name)
        for value in integers:
            yield struct.pack("!i", -1) if value is None else struct.pack("!iq", 8, value)
        yield struct.pack("!i", len(image))
        yield image
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

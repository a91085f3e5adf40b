"""The table that ingest fills in PostgreSQL, with one binary COPY per batch and no quoted images.

The images are stored outside of the rows and not compressed, because a JPEG would not get smaller.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...source.postgres.literals import array_literal
from ..store_postgres import PostgresStore
from .labels import Labels
from .target import MODIFIED, Target

INGEST_LOCK = int.from_bytes(b"fl_ingst", "big")
"""The advisory lock of all ingests into a database. It needs no privilege and blocks no others."""

BYTEA, TEXT, VARCHAR = 17, 25, 1043
NUMBERS = {21: "h", 23: "i", 20: "q", 700: "f", 701: "d"}
"""The type OIDs of int2, int4, int8, float4 and float8, and the struct codes of their values."""

TYPES = {
    "file": ("text", (TEXT, VARCHAR)),
    "label": ("int8", tuple(NUMBERS)),
    "label_name": ("text", (TEXT, VARCHAR)),
    MODIFIED: ("int8", (20,)),
    "image_data": ("bytea", (BYTEA,)),
}
"""For each column the type that ingest declares, and the OIDs of the types that it accepts."""


class PostgresTarget(Target, PostgresStore):
    """A table in PostgreSQL. See :class:`Target`."""

    BEGIN = f"{PostgresStore.BEGIN}; SELECT pg_advisory_xact_lock({INGEST_LOCK})"

    KEY = "int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    TYPES = {"int": "int8", "float": "float8", "text": "text", "bytes": "bytea"}  # noqa: RUF012
    SIZE = "octet_length"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert config.table is not None
        self.name = self._name_of(config.table)
        self.classes_name = self._name_of(config.table + "_classes")
        self._label_code = "q"

    def _create(self, labels: Labels) -> str:
        self._label_code = "d" if labels.are_floats else "q"
        return (
            f"{super()._create(labels)}; "
            f"ALTER TABLE {self.name} ALTER COLUMN image_data SET STORAGE EXTERNAL"
        )

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

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._check_numbers(rows)
        self._copy(self.name, self._columns, _binary(rows, self._label_code))

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

    def finish(self) -> None:
        """Have the server collect statistics, for its plans."""
        self._execute(f"ANALYZE {self.name}")


def _binary(rows: Sequence[tuple[Any, ...]], code: str) -> Iterator[list[bytes | None]]:
    """Yield the rows with their values in binary form.

    The first three values of a row are a text, a number of the type ``code`` and a text. Then come
    integers or None, and finally bytes.
    """
    for file, label, label_name, *integers, image in rows:
        yield [
            file.encode(), struct.pack(f"!{code}", label), label_name.encode(),
            *(None if value is None else struct.pack("!q", value) for value in integers), image,
        ]  # fmt: skip

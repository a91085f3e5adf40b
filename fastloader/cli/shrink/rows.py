"""The rows of the table that is shrunk, a bounded number of bytes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import SourceError
from ...fields.bytes import Bytes
from ...fields.columns import Column
from ...fields.image import Image
from ...fields.number import Number
from ...fields.values import NULL, TOO_LARGE, Values
from ...options.config import Config
from ...plan.keys import Key, Keys, key_values
from ...plan.order import Positions
from ...plan.plan import KeyRange, key_ranges
from ...source.opening import open_source
from ...source.sql import identifier
from .columns import CannotHold, Copied

PART_ROWS = 512
"""The number of rows whose sizes are looked at together."""

PART_BYTES = 4 << 20
"""The size of the rows that are read together, unless a single one is larger."""

SIZE, IMAGE = "fastloader_size", "fastloader_image"


@dataclass(frozen=True)
class Part:
    """Some rows that were read.

    Attributes
    ----------
    keys
        Their keys as users see them.
    copied
        The values of all other columns, for the new table.
    images
        The values of the image column.
    bad
        Why a row cannot be delivered, by its index, where the value does not show it.
    """

    keys: list[Key]
    copied: list[list[Any]]
    images: Values
    bad: dict[int, str]


class Rows:
    """Reads the rows of a table. It is used by one thread at a time, except for `interrupt`.

    Parameters
    ----------
    config
        Names the table.
    columns
        The columns to copy.
    identity
        The identity of the database that the keys were read from.
    """

    def __init__(self, config: Config, columns: Sequence[Copied], identity: str) -> None:
        self._config, self._copied = config, columns
        image = config.image_columns[0]
        # A snapshot for hours would keep the server from cleaning up.
        base = replace(
            config, image=None, label=None, sample_weight=None, consistency="latest",
            fetch_bytes=PART_BYTES,
        )  # fmt: skip
        fields = {column.alias: Bytes(column.alias) for column in columns}
        self._image, self._sizes = image, None
        if config.url.is_postgres:
            base = replace(base, table=None)
            self._image = IMAGE
            # Neither reads the values, which may be stored outside of the row.
            sizes = [f"octet_length(t.{identifier(image)})::int8"]
            sizes += [f"pg_column_size(t.{identifier(column.name)})" for column in columns]
            size = " + ".join(f"coalesce({its}, 0)" for its in sizes)
            query = self._query([f"{size} AS {SIZE}"])
            self._sizes = open_source(
                replace(base, query=query, fields={SIZE: Number(SIZE)}),
                who="shrink: sizes",
                identity=identity,
            )
            expressions = [f"{column.expression} AS {column.alias}" for column in columns]
            expressions.append(f"t.{identifier(image)} AS {IMAGE}")
            base = replace(base, query=self._query(expressions))
        self._source = open_source(
            replace(base, fields={self._image: Image(self._image), **fields}),
            who="shrink", identity=identity,
        )  # fmt: skip
        self._columns = [Column(column.alias, "uint8", (0,), "raw") for column in columns]

    def _query(self, expressions: Sequence[str]) -> str:
        """Return a query for the keys and some expressions of the table ``t``."""
        assert self._config.table is not None
        keys = [f"t.{identifier(key)}" for key in self._config.keys]
        table = identifier(*self._config.table.split("."))
        return f"SELECT {', '.join([*keys, *expressions])} FROM {table} t"

    def read(self, keys: Keys, positions: Positions) -> Iterator[Part]:
        """Yield the rows at these positions of all keys that are still there, in their order."""
        for start in range(0, len(positions), PART_ROWS):
            for some in self._bounded(keys, positions[start : start + PART_ROWS]):
                for chunk in self._source.read(key_ranges(keys, some), self._columns):
                    shown = key_values(chunk.keys)
                    copied = [self._row(chunk.columns, shown[i], i) for i in range(len(shown))]
                    yield Part(shown, copied, chunk.columns[self._image], chunk.bad)

    def _bounded(self, keys: Keys, positions: Positions) -> Iterator[Positions]:
        """Yield the positions in groups that can be in memory together.

        SQLite's source does that itself. PostgreSQL's asks for a number of rows.
        """
        if self._sizes is None:
            yield positions
            return
        ranges: list[KeyRange] = key_ranges(keys, positions)
        sizes: dict[Key, int] = {}
        for chunk in self._sizes.read(ranges, [Column(SIZE, "int64")]):
            sizes.update(
                zip(key_values(chunk.keys), chunk.columns[SIZE].numbers.tolist(), strict=True)
            )
        first, size = 0, 0
        for i, key in enumerate(key_values(keys[positions])):
            its = sizes.get(key, 0)
            if size + its > PART_BYTES and i > first:
                yield positions[first:i]
                first, size = i, 0
            size += its
        yield positions[first:]

    def _row(self, found: Any, key: Key, i: int) -> list[Any]:
        """Return the values that are copied of a row."""
        row = []
        for column in self._copied:
            values = found[column.alias]
            kind = values.kinds[i]
            most = self._config.max_blob_bytes
            if kind == TOO_LARGE or values.blobs[i, 1] > most:
                raise self._cannot(
                    column, key, f"more than {most} bytes; raise --max-blob-bytes to copy it"
                )
            try:
                row.append(None if kind == NULL else column.convert(values.value(i)))
            except CannotHold as error:
                raise self._cannot(column, key, str(error)) from None
        return row

    def _cannot(self, column: Copied, key: Key, what: str) -> SourceError:
        words = f"{self._config.place}: row {key}: column {column.name!r} holds {what}"
        if column.name not in self._config.keys:
            words += ". To leave the column out, name the others with --columns"
        return SourceError(words)

    def interrupt(self) -> None:
        """Make what is under way end soon with SourceError, from any thread."""
        for source in (self._source, self._sizes):
            if source is not None:
                source.interrupt()

    def close(self) -> None:
        """Close the connections. It may be called twice."""
        for source in (self._source, self._sizes):
            if source is not None:
                source.close()


def missing(keys: Keys, there: Keys) -> Positions:
    """Return the positions of the keys that are not among others of the same table.

    Blobs of 16 bytes are uuids to SQLite and hexadecimal text to PostgreSQL, which is made equal
    here.
    """
    if keys.dtype.kind == there.dtype.kind == "i":
        return np.flatnonzero(~np.isin(keys, there))
    known = {_comparable(key) for key in there.tolist()}
    is_new = [_comparable(key) not in known for key in keys.tolist()]
    return np.flatnonzero(np.array(is_new, np.bool_))


def _comparable(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(map(_comparable, key))
    if isinstance(key, bytes) and key.startswith(b"\\x") and len(key) == 34:
        try:
            return bytes.fromhex(key[2:].decode())
        except ValueError:
            return key
    return key

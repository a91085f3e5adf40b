"""The columns of a table in SQLite, where each value has a type of its own."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...plan.keys import UUID, Keys, dtypes_of
from ...source.sql import identifier
from ...source.sqlite._sqlite import Database, SQLiteError
from ...source.sqlite.file import connect, path_of
from ...source.sqlite.types import affinity
from .columns import CannotHold, Copied, chosen, unusable

PLAIN_TYPE = re.compile(r"[\w ]*(\([\w ,+.-]*\))?")
"""A declared type that can be written into another statement."""

MOST_EXACT = 1 << 53
"""Integers beyond this are not all exact as floats."""


def _text(value: Any) -> bytes:
    try:
        return str(value).encode()
    except UnicodeEncodeError:
        raise CannotHold("text that is not UTF-8") from None


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        _text(value)
    return value


TO_POSTGRES: Mapping[str, Callable[[Any], bytes]] = {
    "int8": struct.Struct("!q").pack,
    "float8": struct.Struct("!d").pack,
    "text": _text,
    "bytea": bytes,
    "uuid": bytes,
}
"""What makes the binary form of a value, by its type in PostgreSQL."""

PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "int8": (int,), "float8": (int, float), "text": (str,), "bytea": (bytes,), "uuid": (bytes,),
}  # fmt: skip

OF_AFFINITY = {
    "INTEGER": "int8", "REAL": "float8", "NUMERIC": "float8", "TEXT": "text", "BLOB": "bytea",
}  # fmt: skip
"""The type in PostgreSQL of a column that is NULL in every row."""


class SQLiteColumns:
    """Finds the columns of a table or view.

    Parameters
    ----------
    config
        Names the table, its keys and its image column.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        assert config.table is not None
        self._table = identifier(config.table)

    def find(self, keys: Keys, only: Sequence[str] | None, *, to_postgres: bool) -> list[Copied]:
        """Return the columns; see :func:`.columns.find_columns`."""
        config = self._config
        with closing(connect(path_of(config)).database) as database:
            try:
                info = database.execute(f"PRAGMA table_xinfo({self._table})")
                declared = {name: kind for _, name, kind, *_, hidden in info if hidden != 1}
                names = chosen(config, list(declared), only)
                if not to_postgres:
                    return [self._same(name, declared.get(name, "INTEGER")) for name in names]
                return self._for_postgres(database, names, declared, keys)
            except SQLiteError as error:
                raise SourceError(f"{config.place}: cannot look at its columns: {error}") from None

    def _same(self, name: str, declared: str) -> Copied:
        kind = declared if PLAIN_TYPE.fullmatch(declared) else affinity(declared)
        return Copied(name, name, identifier(name), kind, _plain)

    def _for_postgres(
        self, database: Database, names: list[str], declared: Mapping[str, str], keys: Keys
    ) -> list[Copied]:
        """Return the columns with the types that hold all of their values.

        A column has no type but that of its values, so this reads them, though no image.
        """
        config = self._config
        looks = ", ".join(look for name in names for look in _looks(identifier(name)))
        (found,) = database.execute(f"SELECT {looks} FROM {self._table}")
        uuids = {
            name
            for name, its in zip(config.keys, dtypes_of(keys.dtype), strict=True)
            if its.str.endswith(UUID)
        }
        columns = []
        for i, name in enumerate(names):
            integers, large, reals, texts, blobs, nuls = map(bool, found[6 * i : 6 * i + 6])
            kinds = {
                "integers": integers, "numbers with fractions": reals, "text": texts,
                "blobs": blobs,
            }  # fmt: skip
            there = [kind for kind, is_there in kinds.items() if is_there]
            if nuls:
                raise unusable(config, name, "text with a NUL in it", "PostgreSQL")
            if len(there) > 1 and (texts or blobs or large):
                what = "integers over 2^53" if large and not (texts or blobs) else there[0]
                what = f"{what} and {' and '.join(there[1:])}"
                raise unusable(config, name, what, "PostgreSQL")
            kind = OF_AFFINITY[affinity(declared.get(name, "INTEGER"))]
            if there:
                kind = {"integers": "int8", "text": "text", "blobs": "bytea"}.get(
                    there[-1], "float8"
                )
            kind = "uuid" if name in uuids else kind
            columns.append(Copied(name, name, identifier(name), kind, _packed(kind)))
        return columns


def _looks(column: str) -> list[str]:
    """Return expressions that are 1 if any value of a column is of a kind.

    The kinds are integers, integers that are not exact as floats, reals, text, blobs, and text with
    a NUL.
    """
    kind = f"typeof({column})"
    return [
        f"max({condition})"
        for condition in (
            f"{kind} = 'integer'",
            f"{kind} = 'integer' AND {column} NOT BETWEEN -{MOST_EXACT} AND {MOST_EXACT}",
            f"{kind} = 'real'",
            f"{kind} = 'text'",
            f"{kind} = 'blob'",
            f"{kind} = 'text' AND instr({column}, char(0))",
        )
    ]


def _packed(kind: str) -> Callable[[Any], bytes]:
    pack, types = TO_POSTGRES[kind], PYTHON_TYPES[kind]

    def packed(value: Any) -> bytes:
        if not isinstance(value, types):
            raise CannotHold(f"{value!r:.40}, and held only {kind} when shrink looked at it")
        return pack(value)

    return packed

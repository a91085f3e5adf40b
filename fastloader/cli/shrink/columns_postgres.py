"""The columns of a table in PostgreSQL, which are read in the binary form of their types.

The functions that make this form for the server's clients can be called in SQL: ``int4send`` for an
integer. So each value is a bytea to a source, and the same bytes go into the new table.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...source.postgres._libpq import QueryError
from ...source.postgres.connection import Connection, ConnectionLost
from ...source.postgres.types import BYTEA, text
from ...source.sql import identifier
from .columns import CannotHold, Copied, chosen, unusable

_NAME = r'(?:\w+|"(?:[^"]|"")+")'
_UNIT = "(?:year|month|day|hour|minute|second)"
PLAIN_TYPE = re.compile(
    rf"(?:double precision|character varying|bit varying|interval {_UNIT}(?: to {_UNIT})?|"
    rf"{_NAME}(?:\.{_NAME})?)(?:\(-?\w+(?:,-?\w+)*\))?(?: with(?:out)? time zone)?(?:\[\])*"
)
"""A type as a server writes it. Nothing else goes into a statement for another server."""


def _same(value: Any) -> Any:
    return value


def _integer(value: bytes) -> int:
    number: int = struct.unpack("!q", value)[0]
    return number


def _float(value: bytes) -> float:
    number: float = struct.unpack("!d", value)[0]
    if math.isnan(number):
        raise CannotHold("NaN, which SQLite would store as NULL")
    return number


def _text(value: bytes) -> str:
    return value.decode()


INTEGER = "INTEGER", "int8send({}::int8)", _integer
REAL = "REAL", "float8send({}::float8)", _float
TEXT = "TEXT", "textsend({}::text)", _text
SAME_TEXT = "TEXT", "{1}({0})", _text
BLOB = "BLOB", "{}", _same
TIME = "TEXT", "textsend(to_json({}) #>> '{{}}')", _text  # whatever DateStyle is

TO_SQLITE: dict[int, tuple[str, str, Callable[[Any], Any]]] = {
    16: ("INTEGER", "int8send({}::int4::int8)", _integer),
    21: INTEGER, 23: INTEGER, 20: INTEGER, 26: INTEGER,
    700: REAL, 701: REAL,
    25: SAME_TEXT, 1043: SAME_TEXT, 1042: SAME_TEXT, 19: TEXT,
    BYTEA: BLOB,
    2950: ("BLOB", "uuid_send({})", _same),
    1700: TEXT, 114: TEXT, 3802: TEXT, 142: TEXT,
    1082: TIME, 1083: TIME, 1114: TIME,
    1184: ("TEXT", "textsend((to_json({} AT TIME ZONE 'UTC') #>> '{{}}') || '+00:00')", _text),
}  # fmt: skip
"""For each type its type in SQLite, what is read, and what makes the value of it."""

SQLITE_KEYS = {21, 23, 20, 26, 25, 1043, 19, BYTEA, 2950}
"""The types whose keys are the same keys in SQLite, apart from enums."""


class PostgresColumns:
    """Finds the columns of a table or view.

    Parameters
    ----------
    config
        Names the table, its keys and its image column.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        assert config.table is not None
        self._table = identifier(*config.table.split("."))

    def find(self, only: Sequence[str] | None, *, to_postgres: bool) -> list[Copied]:
        """Return the columns; see :func:`.columns.find_columns`."""
        config = self._config
        with closing(Connection(config, None, who="shrink")) as connection:
            try:
                connection.open()
                (result,) = connection.query(f"SELECT * FROM {self._table} LIMIT 0")
                types = {
                    name: (oid, modifier)
                    for (name, oid), modifier in zip(result.columns, result.modifiers, strict=True)
                }
                if types[config.image_columns[0]][0] != BYTEA:
                    raise SourceError(
                        f"{config.place}: column {config.image_columns[0]!r} holds the oids of "
                        f"large objects; shrink reads bytea. Copy them into a column of bytea "
                        f"first, with lo_get()"
                    )
                return [
                    self._column(connection, i, name, *types[name], to_postgres=to_postgres)
                    for i, name in enumerate(chosen(config, list(types), only))
                ]
            except (QueryError, ConnectionLost) as error:
                raise SourceError(f"{config.place}: cannot look at its columns: {error}") from None

    def _column(
        self, connection: Connection, i: int, name: str, oid: int, modifier: int, *,
        to_postgres: bool,
    ) -> Copied:  # fmt: skip
        (result,) = connection.query(
            f"SELECT format_type(oid, {modifier}), typsend <> 0, typsend::regproc::text, typtype, "
            f"typreceive <> 0 FROM pg_type WHERE oid = {oid}"
        )
        declared, can_send, send, what, can_receive = (
            text(result.value(0, column)) for column in range(5)
        )
        alias = f"fastloader_{i}"
        column = f"t.{identifier(name)}"
        if to_postgres:
            if (can_send, can_receive) != ("t", "t") or not PLAIN_TYPE.fullmatch(declared):
                raise unusable(self._config, name, declared, "the binary form of COPY")
            return Copied(name, alias, f"{send}({column})", declared, _same)
        its = TEXT if what == "e" else TO_SQLITE.get(oid)
        is_key = name in self._config.keys
        if its is None or (is_key and oid not in SQLITE_KEYS and what != "e"):
            raise unusable(self._config, name, declared, "SQLite")
        kind, expression, convert = its
        return Copied(name, alias, expression.format(column, send), kind, convert)

"""The condition for the rows of a table, and the values that are bound to it."""

from __future__ import annotations

import contextlib

from ...options.config import Config
from ...options.kinds import Param
from ..protocol import bad_condition, unused_param
from ._libpq import QueryError
from .types import BYTEA, Bound, Query

BOOL, INT8, INT4, FLOAT8 = 16, 20, 23, 701
"""The OIDs of the types of parameters."""


def checked(config: Config, table: str, query: Query) -> tuple[str, Bound | None]:
    """Return ``where`` in parentheses, once it is certain that it is one condition, and its values.

    It is explained without parentheses and in them: what is valid in both forms neither ends the
    parentheses nor the statement, and is an expression.

    Parameters
    ----------
    config
        The loader's options.
    table
        The table's name in SQL.
    query
        Runs statements.

    Raises
    ------
    SourceError
        If the server refuses it.
    """
    where = config.where or ""
    params = list(map(_bound, config.params))
    select, inside = f"EXPLAIN SELECT FROM {table} WHERE", f"({where}\n)"
    try:
        query(f"{select} {where}", params)
        query(f"{select} {inside}", params)
    except QueryError as error:
        raise bad_condition(config.place, where, str(error)) from None
    if params:
        with contextlib.suppress(QueryError):
            query(f"{select} {inside}", params[:-1])
            raise unused_param(config.place, where, len(params))
    return inside, params or None


def _bound(value: Param) -> tuple[int, bytes | None]:
    """Return the type and the text of a parameter.

    Numbers have the types that they would have in SQL. That of a text depends on where it stands,
    like that of a constant in quotes.
    """
    if value is None:
        return 0, None
    if isinstance(value, bytes):
        return BYTEA, b"\\x" + value.hex().encode()
    if isinstance(value, (bool, int, float)):
        small = -(2**31) <= value < 2**31
        oid = {bool: BOOL, float: FLOAT8}.get(type(value), INT4 if small else INT8)
        return oid, str(value).encode()
    return 0, value.encode()

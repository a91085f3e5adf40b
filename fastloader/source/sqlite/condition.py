"""The condition for the rows of a table, and the values that are bound to it."""

from __future__ import annotations

import contextlib

from ...options.config import Config
from ..protocol import bad_condition, unused_param
from ._sqlite import Database, SQLiteError
from .file import words_of


def checked(config: Config, table: str, database: Database, name: str) -> str:
    """Return ``where`` in parentheses, once it is certain that it is one condition.

    It is compiled without parentheses and in them: what is valid in both forms neither ends the
    parentheses nor the statement, and is an expression. The values of ``params`` are constants of
    the connection from then on.

    Parameters
    ----------
    config
        The loader's options.
    table
        The table's name in SQL.
    database
        The connection.
    name
        The name of the table in messages.

    Raises
    ------
    SourceError
        If SQLite refuses it.
    """
    where = config.where or ""
    named = {f"${i}": value for i, value in enumerate(config.params, start=1)}
    select, inside = f"EXPLAIN SELECT 1 FROM {table} WHERE", f"({where}\n)"
    database.constants = named
    try:
        database.execute(f"{select} {where}")
        database.execute(f"{select} {inside}")
    except SQLiteError as error:
        words = words_of(error, config.keys[0])
        if "parameter" in words:
            words += ". $1, $2, ... in where= stand for the values in params="
        raise bad_condition(name, where, words) from None
    if named:
        database.constants = dict([*named.items()][:-1])
        with contextlib.suppress(SQLiteError):
            database.execute(f"{select} {inside}")
            raise unused_param(name, where, len(named))
        database.constants = named
    return inside

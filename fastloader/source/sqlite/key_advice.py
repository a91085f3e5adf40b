"""What to do about a table whose keys cannot be keys, or whose keys no index serves.

Each advice is SQL that works for this table.
"""

from __future__ import annotations

import warnings

from ...errors import FastloaderWarning, PlanError
from ..sql import identifier
from .key_types import BadKey
from .table import SQLiteTable


def bad_key(table: SQLiteTable, name: str, error: BadKey) -> PlanError:
    """Return the error for a column that cannot be a key, with what to do about this table.

    Parameters
    ----------
    table
        The table.
    name
        The name of the key column.
    error
        What is wrong with it.
    """
    key = error.expression.format(identifier(name))
    if table.where and error.condition:
        both = f"{table.where} AND {error.condition.format(identifier(name))}"
        advice = f"Use another column as key, or where={both!r}"
    elif table.has_rowid:
        advice = 'Use another column as key, such as SQLite\'s own rowid: key="rowid"'
    elif table.keys[1:] and key != identifier(name) and not table.is_derived:
        advice = f"Use another column as key, or {_generated_column(table, name, key)}"
    elif table.where and error.has_remedy:
        advice = f"Use another column as key, or {_view(table, name, key)}"
    elif error.has_remedy:
        names = dict.fromkeys(map(identifier, table.values))
        keys = [f"{key} AS {it}" if it == identifier(name) else it for it in table.keys]
        query = f"SELECT {', '.join([*keys, *names])} FROM {table.table}"
        if error.condition:
            query = f"{query} WHERE {error.condition.format(identifier(name))}"
        advice = f"Use another column as key, or query={query!r}"
        if not table.is_derived and key != identifier(name):
            advice += f", with an index: {_index_sql(table, name, key)}"
    else:
        advice = "Use another column as key"
    return PlanError(f"{table.name}: the key column {name!r} {error.problem}. {advice}")


def _view(table: SQLiteTable, name: str, key: str) -> str:
    """Return advice to make keys in a view, where ``where`` can refer to all columns."""
    made, view = f"{name}_key", f"{table.config.table}_keyed"
    sql = (
        f"CREATE VIEW {identifier(view)} AS "
        f"SELECT {key} AS {identifier(made)}, * FROM {table.table}"
    )
    index = "" if table.is_derived else f", with an index: {_index_sql(table, name, key)}"
    return f"key={made!r} and table={view!r} after {sql}{index}"


def _generated_column(table: SQLiteTable, name: str, key: str) -> str:
    """Return advice to make one of several key columns in a generated column.

    SQLite finds a row of several columns by an index of columns, not of expressions.
    """
    made = f"{name}_key"
    kind = "BLOB" if key.endswith("AS BLOB)") else "TEXT"
    keys = [made if it == name else it for it in table.config.keys]
    return (
        f"key={keys} after ALTER TABLE {table.table} ADD COLUMN {identifier(made)} {kind} "
        f"AS ({key}), with an index: {_index_sql(table, name, identifier(made))}"
    )


def _index_sql(table: SQLiteTable, name: str = "", key: str = "") -> str:
    """Return the statement that makes an index for the keys, of which one may be in SQL."""
    columns = [key if it == identifier(name) else it for it in table.keys]
    index = identifier(f"{table.config.table}_key")
    return f"CREATE UNIQUE INDEX {index} ON {table.table} ({', '.join(columns)})"


def warn_without_index(table: SQLiteTable) -> None:
    """Warn if reading a key range means reading the whole table."""
    marks = 2 * len(table.keys) if table.keys[1:] else 0  # both ends, of all columns
    steps = table.plan(filtered=False)
    if any(step.startswith("SEARCH") and step.count("?") >= marks for step in steps):
        return
    names = ", ".join(map(repr, table.config.keys))
    columns = f"columns {names}" if table.keys[1:] else f"column {names}"
    advice = "Select a key that is indexed in its table"
    if not table.is_derived:
        advice = f"Run: {_index_sql(table)}"
    warnings.warn(
        f"{table.name}: no index serves the key {columns}, so every batch scans the whole "
        f"table. {advice}",
        FastloaderWarning,
        stacklevel=2,
    )

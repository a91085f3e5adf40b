"""What makes reading a PostgreSQL table slow, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ...plan.keys import Keys, key_values
from ..sql import identifier
from .explain import uses_index
from .label_columns import FIRST_ROWS
from .table import PostgresTable
from .types import BYTEA, Query


def slow_reads(table: PostgresTable, keys: Keys, query: Query) -> Iterator[str]:
    """Yield a message for each thing that makes reading slow, with its remedy.

    Parameters
    ----------
    table
        The table, view or query.
    keys
        Some of its keys, at least one.
    query
        Runs statements.
    """
    first, last = key_values(keys[[0, -1]])
    sql = f"EXPLAIN (FORMAT JSON) {table.rows_sql([(first, last)])}"
    (result,) = query(sql, table.params)
    plan = json.loads(result.value(0, 0) or b"[]")
    if not any(uses_index(plan)):
        yield _no_index(table)
    for name, oid in table.image_oids.items():
        if table.is_named and oid == BYTEA and _is_compressed(table, name, query):
            image = identifier(name)
            yield (
                f"{table.name}: PostgreSQL has compressed the column {name!r}. For images, "
                f"decompressing takes more time than it saves. Run: ALTER TABLE {table.table} "
                f"ALTER COLUMN {image} SET STORAGE EXTERNAL; and write the rows again: UPDATE "
                f"{table.table} SET {image} = {image} || ''"
            )


def _no_index(table: PostgresTable) -> str:
    remedy = "Select a key that is indexed in its table, or index its expression"
    if table.is_named:
        remedy = f"Run: CREATE UNIQUE INDEX ON {table.table} ({table.indexed})"
    names = ", ".join(map(repr, table.key_names))
    columns = "column" if len(table.key_names) == 1 else "columns"
    return (
        f"{table.name}: no index serves the key {columns} {names}, so every key range "
        f"scans the whole table. {remedy}"
    )


def _is_compressed(table: PostgresTable, name: str, query: Query) -> bool:
    """Return whether most of the column's first images are compressed."""
    image = f"q.{identifier(name)}"
    (result,) = query(
        f"SELECT count(*), count(*) FILTER (WHERE pg_column_size(i) < octet_length(i)) FROM "
        f"(SELECT {image} AS i FROM {table.rows} q WHERE {image} IS NOT NULL "
        f"LIMIT {FIRST_ROWS}) q",
        table.params,
    )
    rows, compressed = (int(result.value(0, column) or 0) for column in (0, 1))
    return compressed * 2 > rows

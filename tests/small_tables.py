"""Tables of both kinds of database that the tests of shrink read and compare."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from typing import Any


def run_sql(url: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement with "?" for values, in a SQLite file or a PostgreSQL database."""
    if not url.startswith("postgres"):
        with contextlib.closing(sqlite3.connect(url)) as connection, connection:
            return connection.execute(sql, tuple(values)).fetchall()
    import psycopg2

    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), tuple(values))
            rows = cursor.fetchall() if cursor.description else []
    return [tuple(bytes(x) if isinstance(x, memoryview) else x for x in row) for row in rows]


def make_table(
    url: str, columns: str, rows: Sequence[Sequence[Any]], *, name: str = "images"
) -> None:
    """Create a table with these columns and rows."""
    run_sql(url, f'CREATE TABLE "{name}" ({columns})')
    for row in rows:
        run_sql(url, f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(row))})', row)


def rows_of(url: str, table: str, *, key: str = "id") -> list[tuple[Any, ...]]:
    """Return all rows of a table, in the order of the key."""
    return run_sql(url, f'SELECT * FROM "{table}" ORDER BY {key}')

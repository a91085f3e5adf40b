"""What is read of a SQLite database: the table, view or query, its columns, and the SQL for it."""

from __future__ import annotations

import re
import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...errors import FastloaderWarning, PlanError, SourceError
from ...options.config import Config
from ...options.labels import split_label
from ...plan.keys import Keys, array_equal
from ..sql import as_subquery, identifier

VIEW = '"fastloader:query"'
"""A name that no table has."""

APART = re.compile("CO-ROUTINE|MATERIALIZE|SUBQUERY|subquery|COMPOUND|UNION")
"""In a plan: a part that is made on its own."""


class SQLiteTable:
    """The rows that a configuration asks for, as one connection sees them.

    name: what messages call it.
    declared: the declared type of each column that is asked for; "" for none.
    labels: each label column with the dtype that the user asks for, or None.

    Raises SourceError if the table or a column does not exist.
    """

    def __init__(self, config: Config, connection: sqlite3.Connection, name: str) -> None:
        self._config = config
        self._connection = connection
        self.name = name
        self.labels = [split_label(label) for label in config.labels]
        self._key = identifier(config.key)
        self._is_derived = config.query is not None or self._is_view()
        self._from, declared = self._find_rows()
        names = {name.lower(): name for name in declared}
        self._values = [*config.images, *(name for name, _ in self.labels)]
        wanted = [config.key, *self._values]
        for column in wanted:
            if column.lower() not in names:
                raise SourceError(f"{name}: no column {column!r}; there are {', '.join(declared)}")
        self.declared = {column: declared[names[column.lower()]] for column in wanted}

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, parameters)

    def _is_view(self) -> bool:
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'view' AND lower(name) = lower(?)"
        return self._execute(sql, (self._config.table,)).fetchone() is not None

    def _find_rows(self) -> tuple[str, dict[str, str]]:
        """Return what to select from, and its columns with their declared types."""
        if self._config.query is not None:
            source = as_subquery(self._config.query)
            self._compile(source)
            # SQLite tells the declared types behind a view's columns, but not behind a query's.
            self._execute(f"CREATE TEMP VIEW {VIEW} AS SELECT * FROM {source}")
            info = self._execute(f"PRAGMA temp.table_xinfo({VIEW})").fetchall()
            self._execute(f"DROP VIEW temp.{VIEW}")
            return source, {name: kind for _, name, kind, *_ in info}
        source = identifier(self._config.table or "")
        info = self._execute(f"PRAGMA table_xinfo({source})").fetchall()
        if not info:
            tables = self._execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                "AND name NOT LIKE 'sqlite_%' ORDER BY name"
            ).fetchall()
            there = ", ".join(table for (table,) in tables) or "none"
            raise SourceError(f"{self.name}: no table {self._config.table!r}; there are: {there}")
        if self._is_derived:
            self._compile(source)
        declared = {name: kind for _, name, kind, *_ in info}
        if self.has_rowid() and "rowid" not in map(str.lower, declared):
            declared["rowid"] = "INTEGER"
        return source, declared

    def _compile(self, source: str) -> None:
        """Have SQLite say what is wrong with a query or a view, without running any of it."""
        self._execute(f"EXPLAIN SELECT * FROM {source}").close()

    def has_rowid(self) -> bool:
        """Return whether each row has a number of its own: not in a view or a query, and not in a
        WITHOUT ROWID table."""
        if self._is_derived:
            return False
        try:
            # Not in quotes: SQLite takes a quoted name that it does not know for a text.
            self._execute(f"SELECT rowid FROM {identifier(self._config.table or '')} LIMIT 0")
        except sqlite3.OperationalError:
            return False
        return True

    # ---- keys ------------------------------------------------------------------------------------

    def keys(self) -> Keys:
        """Return all keys, sorted, int64 (rows,).

        Raises PlanError for keys that are no integers, and for a query that returns other rows when
        it is read again.
        """
        self._warn_without_index()
        if not self._depends_on_the_plan():
            return self._all_keys()
        keys = self._all_keys()
        if not array_equal(keys, self._keys_again(keys)):
            # Perhaps somebody has written to the table in between. Now nobody can.
            self._execute("BEGIN")
            try:
                keys = self._all_keys()
                if not array_equal(keys, self._keys_again(keys)):
                    raise self._not_repeatable(len(keys))
            finally:
                self._execute("ROLLBACK")
        return keys

    def _all_keys(self) -> Keys:
        # Sorted here: without ORDER BY SQLite may scan a narrow index in place of the wide table.
        return np.sort(self._read_keys(f"SELECT {self._key} FROM {self._from}", ()))

    def _read_keys(self, sql: str, parameters: Sequence[int]) -> Keys:
        """Return the first column of what the statement returns."""
        parts = [np.empty(0, np.int64)]
        cursor = self._execute(sql, parameters)
        while rows := cursor.fetchmany(65536):
            keys = [row[0] for row in rows]
            if set(map(type, keys)) != {int}:
                raise self._bad_key(next(key for key in keys if type(key) is not int))
            parts.append(np.array(keys, np.int64))
        return np.concatenate(parts)

    def _depends_on_the_plan(self) -> bool:
        """Return whether the query or view may have other rows for another list of columns.

        With LIMIT, for example, SQLite may take the first rows of an index for the keys alone, and
        those of the table for whole rows. It makes such a part on its own, and its plan names it;
        whatever it merges into the outer statement has the same rows in each plan.
        """
        if not self._is_derived:
            return False
        return any(APART.search(step) for step in self._plan())

    def _plan(self) -> list[str]:
        """Return the steps of SQLite's plan for a key range."""
        sql = self.select([self._key, *map(identifier, self._values)])
        return [step for *_, step in self._execute(f"EXPLAIN QUERY PLAN {sql}", (0, 1))]

    def _keys_again(self, keys: Keys) -> Keys:
        """Return the keys as they are when they are read as the rows will be."""
        if len(keys) == 0:
            return keys
        # Columns that are named have a say in SQLite's plan. None of them is read.
        unread = (f"CASE WHEN ? THEN {identifier(column)} END" for column in self._values)
        parameters = [*[0] * len(self._values), int(keys[0]), int(keys[-1])]
        return self._read_keys(self.select([self._key, *unread]), parameters)

    def _not_repeatable(self, rows: int) -> PlanError:
        return PlanError(
            f"{self.name}: {rows} rows were found, and other rows when they were looked for again. "
            f"A query or view must return the same rows each time: with LIMIT or a window "
            f"function, add an ORDER BY that leaves no two rows equal"
        )

    def _bad_key(self, key: object) -> PlanError:
        if key is None:
            sql = f"SELECT count(*) FROM {self._from} WHERE {self._key} IS NULL"
            (nulls,) = self._execute(sql).fetchone()
            problem = f"is NULL in {nulls} {'row' if nulls == 1 else 'rows'}; every row needs a key"
        else:
            problem = f"holds {key!r}; keys must be integers"
        advice = ", such as SQLite's own rowid" if self.has_rowid() else ""
        return PlanError(
            f"{self.name}: the key column {self._config.key!r} {problem}. Use another column as "
            f"key{advice}"
        )

    def _warn_without_index(self) -> None:
        """Reading a key range must not mean reading the table."""
        if any(step.startswith("SEARCH") for step in self._plan()):
            return
        advice = "Select a key that is indexed in its table"
        if not self._is_derived:
            name = identifier(f"{self._config.table}_key")
            advice = f"Run: CREATE UNIQUE INDEX {name} ON {self._from} ({self._key})"
        warnings.warn(
            f"{self.name}: no index serves the key column {self._config.key!r}, so every batch "
            f"scans the whole table. {advice}",
            FastloaderWarning,
            stacklevel=2,
        )

    # ---- rows ------------------------------------------------------------------------------------

    @property
    def rows_sql(self) -> str:
        """Key, blobs, sizes of the blobs and labels of the rows of a range. A blob is NULL where it
        is larger than its parameter, of which there is one for each image column, before those of
        the range: its size is known without reading it."""
        images = [identifier(name) for name in self._config.images]
        blobs = [f"CASE WHEN length({image}) <= ? THEN {image} END" for image in images]
        sizes = [f"length({image})" for image in images]
        labels = (identifier(name) for name, _ in self.labels)
        return self.select([self._key, *blobs, *sizes, *labels])

    def some_labels(self, first: int, last: int, keys: Sequence[int]) -> list[tuple[Any, ...]]:
        """Return the labels of the rows from the first key to the last, and of those with keys."""
        labels = [identifier(name) for name, _ in self.labels]
        marks = ", ".join("?" * len(keys))
        some = f"SELECT {', '.join(labels)} FROM {self._from} WHERE {self._key} IN ({marks})"
        rows = self._execute(self.select(labels), (first, last)).fetchall()
        return rows + self._execute(some, keys).fetchall()

    def select(self, columns: Iterable[str]) -> str:
        """Return the statement for these columns of the rows of a range, in the order of keys."""
        return (
            f"SELECT {', '.join(columns)} FROM {self._from} WHERE {self._key} BETWEEN ? AND ? "
            f"ORDER BY {self._key}"
        )

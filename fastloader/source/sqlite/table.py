"""What is read from a SQLite database: the table, view or query, its columns, and its SQL."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ...errors import FastloaderWarning, PlanError, SourceError
from ...options.config import Config
from ...plan.keys import Keys, array_equal
from ..protocol import no_column, no_table
from ..sql import as_subquery, identifier

VIEW = '"fastloader:query"'
"""The name of a temporary view, which no table has."""

APART = re.compile("CO-ROUTINE|MATERIALIZE|SUBQUERY|subquery|COMPOUND|UNION")
"""Words in SQLite's plan for a part that it computes separately."""


class SQLiteTable:
    """A table, view or query whose columns have been found.

    Parameters
    ----------
    config
        The loader's options.
    connection
        The connection to use. A new connection needs a new object.
    name
        The name of the table in messages.

    Attributes
    ----------
    name
        The name of the table in messages.
    declared
        The declared type of each column that is read, or "".
    labels
        Each label column with the dtype that the user asks for, or None.

    Raises
    ------
    SourceError
        If the table or a column does not exist.
    """

    def __init__(self, config: Config, connection: sqlite3.Connection, name: str) -> None:
        self._config = config
        self._connection = connection
        self.name = name
        self.labels = [*config.value_columns.items()]
        self._key = identifier(config.key)
        self._is_derived = config.query is not None or self._is_view()
        self._from, declared = self._find_rows()
        names = {name.lower(): name for name in declared}
        self._values = [*config.image_columns, *(name for name, _ in self.labels)]
        wanted = [config.key, *self._values]
        for column in wanted:
            if column.lower() not in names:
                raise SourceError(f"{name}: {no_column(config, column, declared)}")
        self.declared = {column: declared[names[column.lower()]] for column in wanted}

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        return self._connection.execute(sql, parameters)

    def _is_view(self) -> bool:
        """Return whether ``table`` names a view."""
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'view' AND lower(name) = lower(?)"
        return self._execute(sql, (self._config.table,)).fetchone() is not None

    def _find_rows(self) -> tuple[str, dict[str, str]]:
        """Return what to select from, and its columns with their declared types."""
        if self._config.query is not None:
            source = as_subquery(self._config.query)
            try:
                self._compile(source)
            except sqlite3.Error:
                # Alone, so that an unfinished query is not told of a parenthesis that it has not.
                with contextlib.suppress(sqlite3.Warning, sqlite3.ProgrammingError):  # two of them
                    self._execute(f"EXPLAIN {source[1:-1]}").close()
                raise
            # SQLite reports declared types for the columns of a view, but not for those of a query.
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
            raise no_table(self.name, self._config.table, there)
        if self._is_derived:
            self._compile(source)
        declared = {name: kind for _, name, kind, *_ in info}
        if self.has_rowid() and "rowid" not in map(str.lower, declared):
            declared["rowid"] = "INTEGER"
        return source, declared

    def _compile(self, source: str) -> None:
        """Let SQLite raise its error for a query or view that is wrong, without running it."""
        self._execute(f"EXPLAIN SELECT * FROM {source}").close()

    def has_rowid(self) -> bool:
        """Return whether rows have a rowid.

        They do not in views, queries and WITHOUT ROWID tables.
        """
        if self._is_derived:
            return False
        try:
            # Without quotes, because SQLite takes an unknown quoted name for a string.
            self._execute(f"SELECT rowid FROM {identifier(self._config.table or '')} LIMIT 0")
        except sqlite3.OperationalError:
            return False
        return True

    # ---- keys ------------------------------------------------------------------------------------

    def keys(self) -> Keys:
        """Return all keys in ascending order, int64 (rows,). Warns if no index serves them.

        Raises
        ------
        PlanError
            If a key is not an integer, or a query returns other rows when it is read again.
        """
        self._warn_without_index()
        if not self.depends_on_the_plan():
            return self._all_keys()
        keys = self._all_keys()
        if not array_equal(keys, self._keys_again(keys)):
            # The table may have been written to in between. A transaction rules that out.
            self._execute("BEGIN")
            try:
                keys = self._all_keys()
                if not array_equal(keys, self._keys_again(keys)):
                    raise self._not_repeatable(len(keys))
            finally:
                self._execute("ROLLBACK")
        return keys

    def _all_keys(self) -> Keys:
        """Return all keys, read without the other columns."""
        # Sorted here, because without ORDER BY SQLite may scan a narrow index, not the wide table.
        return np.sort(self._read_keys(f"SELECT {self._key} FROM {self._from}", ()))

    def _read_keys(self, sql: str, parameters: Sequence[int]) -> Keys:
        """Return the first column of a statement's rows. Raises PlanError if one is no integer."""
        parts = [np.empty(0, np.int64)]
        cursor = self._execute(sql, parameters)
        while rows := cursor.fetchmany(65536):
            keys = [row[0] for row in rows]
            if set(map(type, keys)) != {int}:
                raise self._bad_key(next(key for key in keys if type(key) is not int))
            parts.append(np.array(keys, np.int64))
        return np.concatenate(parts)

    def depends_on_the_plan(self) -> bool:
        """Return whether the query or view may have other rows if other columns are selected.

        With LIMIT, for example, SQLite may take the first rows of an index if only keys are
        selected, and the first rows of the table otherwise. It computes such a part separately, and
        its plan says so. A part that it merges into the outer statement has the same rows in each
        plan.
        """
        if not self._is_derived:
            return False
        return any(APART.search(step) for step in self._plan())

    def _plan(self) -> list[str]:
        """Return the steps of SQLite's plan for reading a key range."""
        sql = self.select([self._key, *map(identifier, self._values)])
        return [step for *_, step in self._execute(f"EXPLAIN QUERY PLAN {sql}", (0, 1))]

    def _keys_again(self, keys: Keys) -> Keys:
        """Return the keys once more, read with the plan that the rows will be read with."""
        if len(keys) == 0:
            return keys
        # The plan depends on the columns that are named. CASE keeps them from being read.
        unread = (f"CASE WHEN ? THEN {identifier(column)} END" for column in self._values)
        parameters = [*[0] * len(self._values), int(keys[0]), int(keys[-1])]
        return self._read_keys(self.select([self._key, *unread]), parameters)

    def _not_repeatable(self, rows: int) -> PlanError:
        return PlanError(
            f"{self.name}: the query or view returned {rows} rows, and other rows when it was read "
            f"again. It must return the same rows each time: with LIMIT or a window function, add "
            f"an ORDER BY that leaves no two rows equal"
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
        """Warn if reading a key range means reading the whole table."""
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
        """The statement for key, blobs, sizes of the blobs and labels of the rows of a range.

        Its parameters are a size limit for each image column, and the first and last key. A blob is
        NULL if it is larger than its limit. SQLite knows the size without reading the blob.
        """
        images = [identifier(name) for name in self._config.image_columns]
        blobs = [f"CASE WHEN length({image}) <= ? THEN {image} END" for image in images]
        sizes = [f"length({image})" for image in images]
        labels = (identifier(name) for name, _ in self.labels)
        return self.select([self._key, *blobs, *sizes, *labels])

    def some_labels(self, first: int, last: int, keys: Sequence[int]) -> list[tuple[Any, ...]]:
        """Return the labels of the rows from ``first`` to ``last``, and of those with ``keys``."""
        labels = [identifier(name) for name, _ in self.labels]
        marks = ", ".join("?" * len(keys))
        some = f"SELECT {', '.join(labels)} FROM {self._from} WHERE {self._key} IN ({marks})"
        rows = self._execute(self.select(labels), (first, last)).fetchall()
        return rows + self._execute(some, keys).fetchall()

    def select(self, columns: Iterable[str]) -> str:
        """Return the statement for these columns of the rows of a range, in the order of keys.

        Its last two parameters are the first and last key, both inclusive.
        """
        return (
            f"SELECT {', '.join(columns)} FROM {self._from} WHERE {self._key} BETWEEN ? AND ? "
            f"ORDER BY {self._key}"
        )

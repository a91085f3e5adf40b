"""What is read from a SQLite database: the table, view or query, its columns, and its SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...options.labels import TEXT
from ...plan.keys import INTEGER, UUID, Key, Keys, key_values
from ...plan.order import spread
from ..protocol import no_column, no_table
from ..sql import as_subquery, identifier, row
from ._sqlite import MISUSE, Database, Reader, SQLiteError
from .condition import checked
from .key_types import BLOB, HEX, parameters
from .types import affinity

VIEW = '"fastloader:query"'
"""The name of a temporary view, which no table has."""


class SQLiteTable:
    """A table, view or query whose columns have been found.

    Parameters
    ----------
    config
        The loader's options.
    database
        The connection to use. A new connection needs a new object.
    name
        The name of the table in messages.

    Attributes
    ----------
    config, database
        As given.
    name
        The name of the table in messages.
    table
        The table's name, or the query in parentheses.
    is_derived
        Whether it is a view or a query.
    has_rowid
        Whether ``rowid`` names SQLite's own key, because no column has that name.
    keys
        The columns of the key in SQL.
    values
        The columns of images, paths and labels.
    where
        The condition that rows must meet, or "".
    declared
        The declared type of each column that is read, or "".
    labels
        Each label column with the dtype that the user asks for, or None.

    Raises
    ------
    SourceError
        If the table or a column does not exist.
    """

    def __init__(self, config: Config, database: Database, name: str) -> None:
        self.config = config
        self.database = database
        self.name = name
        self.labels = [*config.value_columns.items()]
        self.keys = [identifier(key) for key in config.keys]
        self._key = row(self.keys)
        self.is_derived = config.query is not None or self._is_view()
        self.has_rowid = False
        self._types: tuple[Any, ...] = ()  # of some row's key columns, once they were needed
        self.table, declared = self._find_rows()
        names = {name.lower(): name for name in declared}
        self.values = [*config.blob_limits, *(name for name, _ in self.labels)]
        wanted = [*config.keys, *filter(None, [config.split_column]), *self.values]
        for column in wanted:
            if column.lower() not in names:
                raise SourceError(f"{name}: {no_column(config, column, declared)}")
        self.declared = {column: declared[names[column.lower()]] for column in wanted}
        self.where = "" if config.where is None else checked(config, self.table, database, name)

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.database.execute(sql, parameters)

    def _is_view(self) -> bool:
        """Return whether ``table`` names a view."""
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'view' AND lower(name) = lower(?)"
        return bool(self._execute(sql, (self.config.table,)))

    def _find_rows(self) -> tuple[str, dict[str, str]]:
        """Return what to select from, and its columns with their declared types."""
        if self.config.query is not None:
            source = as_subquery(self.config.query)
            try:
                self._compile(source)
            except SQLiteError:
                # Alone, so that an unfinished query is not told of a parenthesis that it has not.
                try:
                    self._execute(f"EXPLAIN {source[1:-1]}")
                except SQLiteError as error:
                    if error.code != MISUSE:  # which is two statements, or a parameter
                        raise
                raise
            # SQLite reports declared types for the columns of a view, but not for those of a query.
            self._execute(f"CREATE TEMP VIEW {VIEW} AS SELECT * FROM {source}")
            info = self._execute(f"PRAGMA temp.table_xinfo({VIEW})")
            self._execute(f"DROP VIEW temp.{VIEW}")
            return source, {name: kind for _, name, kind, *_ in info}
        source = identifier(self.config.table or "")
        info = self._execute(f"PRAGMA table_xinfo({source})")
        if not info:
            tables = self._execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                "AND name NOT LIKE 'sqlite_%' ORDER BY name"
            )
            there = ", ".join(table for (table,) in tables) or "none"
            raise no_table(self.name, self.config.table, there)
        if self.is_derived:
            self._compile(source)
        declared = {name: kind for _, name, kind, *_ in info}
        if "rowid" not in map(str.lower, declared) and self._selects_rowid():
            self.has_rowid = True
            declared["rowid"] = "INTEGER"
        return source, declared

    @property
    def from_rows(self) -> str:
        """The rest of a statement after its columns, for the rows that meet ``where``."""
        return f"FROM {self.table} WHERE {self.where}" if self.where else f"FROM {self.table}"

    def _compile(self, source: str) -> None:
        """Let SQLite raise its error for a query or view that is wrong, without running it."""
        self._execute(f"EXPLAIN SELECT * FROM {source}")

    def _selects_rowid(self) -> bool:
        """Return whether rows have a rowid.

        They do not in views, queries and WITHOUT ROWID tables.
        """
        if self.is_derived:
            return False
        try:
            # Without quotes, because SQLite takes an unknown quoted name for a string.
            self._execute(f"SELECT rowid FROM {identifier(self.config.table or '')} LIMIT 0")
        except SQLiteError:
            return False
        return True

    # ---- rows ------------------------------------------------------------------------------------

    def reader(self) -> Reader:
        """Return the reader for keys, images or their paths, and labels of the rows of key ranges.

        Its ranges are first and last key. For the rest of a range, the last key that was read comes
        in place of the first. A blob is left in the database if it is larger than its limit. SQLite
        knows the size without reading the blob.
        """
        limits = [*[None] * len(self.keys), *(limit for _, limit in self._limits())]
        return Reader(self.database, self._rows_sql(), limits, self._rows_sql(rest=True))

    def _rows_sql(self, *, rest: bool = False) -> str:
        columns = [(identifier(name), limit) for name, limit in self._limits()]
        values = [
            name if limit is None else f"CASE WHEN length({name}) <= ? THEN {name} END"
            for name, limit in columns
        ]
        sizes = [f"length({name})" for name, limit in columns if limit is not None]
        return self.select([*self.keys, *values, *sizes], rest=rest)

    def _limits(self) -> list[tuple[str, int | None]]:
        """Return the columns of values, each with the most bytes to read of one, or None.

        Columns that are meant for numbers have no limit, because SQLite would have to write each
        number as text to tell its length.
        """
        limits: list[tuple[str, int | None]] = [*self.config.blob_limits.items()]
        for name, _ in self.labels:
            is_large = affinity(self.declared[name]) in ("BLOB", "TEXT")
            is_large = is_large or name in self.config.ragged_columns
            limits.append((name, self.config.max_blob_bytes if is_large else None))
        return limits

    def plan(self, *, filtered: bool = True) -> list[str]:
        """Return the steps of SQLite's plan for reading a key range, maybe without ``where``."""
        sql = self.select([*self.keys, *map(identifier, self.values)], filtered=filtered)
        ends = [0] * (2 * len(self.keys))
        return [step for *_, step in self._execute(f"EXPLAIN QUERY PLAN {sql}", ends)]

    def explain(self, ends: tuple[Key, Key]) -> str:
        """Return SQLite's plan for reading a key range, in lines."""
        kinds = self.kinds_of(ends[0])
        given = [0 for _, limit in self._limits() if limit is not None]
        sql = f"EXPLAIN QUERY PLAN {self._rows_sql()}"
        found = self._execute(sql, [*given, *(it for end in ends for it in parameters(end, kinds))])
        return "\n".join(step for *_, step in found)

    def kinds_of(self, key: Key) -> tuple[str, ...]:
        """Return the kinds of the key columns, where this is a key."""
        columns = key if isinstance(key, tuple) else (key,)
        if not self._types and not all(isinstance(column, int) for column in columns):
            types = ", ".join(f"typeof({key})" for key in self.keys)
            (self._types,) = self._execute(f"SELECT {types} {self.from_rows} LIMIT 1") or ((),)
        kinds = []
        for i, column in enumerate(columns):
            kind = INTEGER if isinstance(column, int) else TEXT
            if kind == TEXT and self._types[i : i + 1] == ("blob",):
                kind = BLOB if str(column).startswith(HEX) else UUID
            kinds.append(kind)
        return tuple(kinds)

    def some_labels(self, keys: Keys, first_rows: int, spread_rows: int) -> list[tuple[Any, ...]]:
        """Return the labels of the first rows, and of some that are spread over all.

        Parameters
        ----------
        keys
            All keys.
        first_rows, spread_rows
            The number of rows of each kind.
        """
        labels = [identifier(name) for name, _ in self.labels]
        positions = [0, min(first_rows, len(keys)) - 1, *spread(len(keys), spread_rows)]
        first, last, *some = key_values(keys[positions])
        kinds = self.kinds_of(first)
        mark = row(["?"] * len(self.keys))
        marks = ", ".join([mark] * len(some))
        marks = f"VALUES {marks}" if self.keys[1:] else marks
        sql = f"SELECT {', '.join(labels)} FROM {self.table} WHERE {self._key} IN ({marks})"
        ends = [*parameters(first, kinds), *parameters(last, kinds)]
        rows = self._execute(self.select(labels), ends)
        return rows + self._execute(sql, [it for key in some for it in parameters(key, kinds)])

    def classes(self, column: str, most: int) -> list[str | int]:
        """Return the different values of a column by the first key of each; NULL is left out."""
        name = identifier(column)
        order = ", ".join(self.keys)
        found = self._execute(
            f"SELECT v FROM (SELECT {name} AS v, row_number() OVER (ORDER BY {order}) AS n "
            f"FROM {self.table}) WHERE typeof(v) IN ('text', 'integer') "
            f"GROUP BY v ORDER BY min(n) LIMIT {most}"
        )
        return [value for (value,) in found]

    def select(self, columns: Iterable[str], *, rest: bool = False, filtered: bool = True) -> str:
        """Return the statement for these columns of the rows of a range, in the order of keys.

        Its last parameters without names are the first and last key, both inclusive; for the rest
        of a range the last key that was read, exclusive, and the last key. With ``filtered``, only
        rows that meet ``where`` come.
        """
        key, mark = self._key, row(["?"] * len(self.keys))
        inside = (
            f"{key} > {mark} AND {key} <= {mark}" if rest else f"{key} BETWEEN {mark} AND {mark}"
        )
        order = ", ".join(self.keys)
        if filtered and self.where:
            inside += f" AND +{self.where}"  # with the + no index but that of the key is used
        return f"SELECT {', '.join(columns)} FROM {self.table} WHERE {inside} ORDER BY {order}"

"""What is read from a SQLite database: the table, view or query, its columns, and its SQL."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import FastloaderWarning, PlanError, SourceError
from ...fields.values import Values
from ...options.config import Config
from ...options.labels import TEXT
from ...plan.keys import INTEGER, UUID, Key, Keys, array_equal, key_values, together
from ...plan.order import spread
from ...plan.split import with_numbers
from ..protocol import no_column, no_group, no_table
from ..sql import as_subquery, identifier, row
from ._sqlite import MISUSE, Database, Reader, SQLiteError
from .condition import checked
from .key_types import BLOB, HEX, BadKey, group_numbers, kind_of, may_be_equal, parameters, stored
from .types import affinity

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
    database
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

    def __init__(self, config: Config, database: Database, name: str) -> None:
        self._config = config
        self._database = database
        self.name = name
        self.labels = [*config.value_columns.items()]
        self._keys = [identifier(key) for key in config.keys]
        self._key = row(self._keys)
        self._is_derived = config.query is not None or self._is_view()
        self._has_rowid = False
        self._types: tuple[Any, ...] = ()  # of some row's key columns, once they were needed
        self._from, declared = self._find_rows()
        names = {name.lower(): name for name in declared}
        self._values = [*config.blob_limits, *(name for name, _ in self.labels)]
        wanted = [*config.keys, *filter(None, [config.split_column]), *self._values]
        for column in wanted:
            if column.lower() not in names:
                raise SourceError(f"{name}: {no_column(config, column, declared)}")
        self.declared = {column: declared[names[column.lower()]] for column in wanted}
        self._where = "" if config.where is None else checked(config, self._from, database, name)

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._database.execute(sql, parameters)

    def _is_view(self) -> bool:
        """Return whether ``table`` names a view."""
        sql = "SELECT 1 FROM sqlite_master WHERE type = 'view' AND lower(name) = lower(?)"
        return bool(self._execute(sql, (self._config.table,)))

    def _find_rows(self) -> tuple[str, dict[str, str]]:
        """Return what to select from, and its columns with their declared types."""
        if self._config.query is not None:
            source = as_subquery(self._config.query)
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
        source = identifier(self._config.table or "")
        info = self._execute(f"PRAGMA table_xinfo({source})")
        if not info:
            tables = self._execute(
                "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                "AND name NOT LIKE 'sqlite_%' ORDER BY name"
            )
            there = ", ".join(table for (table,) in tables) or "none"
            raise no_table(self.name, self._config.table, there)
        if self._is_derived:
            self._compile(source)
        declared = {name: kind for _, name, kind, *_ in info}
        if "rowid" not in map(str.lower, declared) and self._selects_rowid():
            self._has_rowid = True
            declared["rowid"] = "INTEGER"
        return source, declared

    def _filtered(self) -> str:
        """Return the rest of a statement after its columns, for the rows that meet ``where``."""
        return f"FROM {self._from} WHERE {self._where}" if self._where else f"FROM {self._from}"

    def _compile(self, source: str) -> None:
        """Let SQLite raise its error for a query or view that is wrong, without running it."""
        self._execute(f"EXPLAIN SELECT * FROM {source}")

    def _selects_rowid(self) -> bool:
        """Return whether rows have a rowid.

        They do not in views, queries and WITHOUT ROWID tables.
        """
        if self._is_derived:
            return False
        try:
            # Without quotes, because SQLite takes an unknown quoted name for a string.
            self._execute(f"SELECT rowid FROM {identifier(self._config.table or '')} LIMIT 0")
        except SQLiteError:
            return False
        return True

    # ---- keys ------------------------------------------------------------------------------------

    def keys(self) -> Keys:
        """Return all keys in the database's order. Warns if no index serves them.

        Raises
        ------
        PlanError
            If the keys cannot be keys, or a query returns other rows when it is read again.
        """
        self._warn_without_index()
        keys, kinds, numbers = self._all_keys()
        if self.depends_on_the_plan() and not array_equal(keys, self._keys_again(keys, kinds)):
            # The table may have been written to in between. A transaction rules that out.
            self._execute("BEGIN")
            try:
                keys, kinds, numbers = self._all_keys()
                if not array_equal(keys, self._keys_again(keys, kinds)):
                    raise self._not_repeatable(len(keys))
            finally:
                self._execute("ROLLBACK")
        return keys if numbers is None else with_numbers(keys, numbers)

    def _all_keys(self) -> tuple[Keys, tuple[str, ...], NDArray[np.uint64] | None]:
        """Return all keys, read without most other columns, and the kinds of their columns.

        The third value are the rows' numbers, with a ``split_column``.
        """
        split = self._config.split_column
        columns = [*self._keys, *(() if split is None else (identifier(split),))]
        sql = f"SELECT {', '.join(columns)} {self._filtered()}"
        ordered = f"{sql} ORDER BY {', '.join(self._keys)}"
        declared = self.declared[self._config.keys[0]]
        is_sorted = bool(declared) and affinity(declared) in ("TEXT", "BLOB")
        if len(self._keys) == 1 and not is_sorted:
            key, *groups = self._scan(sql, columns)
            if self._kinds([key]) == (INTEGER,):
                # Without ORDER BY, SQLite may scan a narrow index instead of the wide table.
                if not groups:
                    return np.sort(key.numbers), (INTEGER,), None
                order = np.argsort(key.numbers, kind="stable")
                return key.numbers[order], (INTEGER,), self._numbers(groups[0])[order]
        found = self._scan(ordered, columns)
        keys, groups = found[: len(self._keys)], found[len(self._keys) :]
        kinds = self._kinds(keys)
        parts = [stored(column, kind) for column, kind in zip(keys, kinds, strict=True)]
        if TEXT in kinds and may_be_equal(parts):
            self._check_different()
        return together(parts), kinds, self._numbers(groups[0]) if groups else None

    def _kinds(self, keys: Sequence[Values]) -> tuple[str, ...]:
        """Return the kind of each key column. Raises PlanError if one cannot be a key."""
        kinds = []
        for name, column in zip(self._config.keys, keys, strict=True):
            try:
                kinds.append(kind_of(column))
            except BadKey as error:
                raise self._bad_key(name, error) from None
        return tuple(kinds)

    def _numbers(self, groups: Values) -> NDArray[np.uint64]:
        """Return the rows' numbers for the split. Raises PlanError."""
        try:
            return group_numbers(groups)
        except BadKey as error:
            column = self._config.split_column
            assert column is not None
            advice = "Use another column"
            if error.condition and self._config.query is None:
                both = filter(None, (self._where, error.condition.format(identifier(column))))
                advice += f", or where={' AND '.join(both)!r}"
            raise no_group(self.name, column, error.problem, advice) from None

    def _scan(
        self, sql: str, columns: Sequence[str], parameters: Sequence[Any] = ()
    ) -> list[Values]:
        """Return the columns of a statement's rows."""
        with contextlib.closing(Reader(self._database, sql, [None] * len(columns))) as reader:
            rows = reader.read([tuple(parameters)], most_bytes=sys.maxsize)
        return rows.columns

    def _check_different(self) -> None:
        """Raise PlanError if two keys that differ are equal to SQLite, as 'a' and 'A' may be.

        No key range could tell them apart.
        """
        group = ", ".join(self._keys)
        for name, key in zip(self._config.keys, self._keys, strict=True):
            first, last = f"min(CAST({key} AS BLOB))", f"max(CAST({key} AS BLOB))"
            found = self._execute(
                f"SELECT {first}, {last} {self._filtered()} GROUP BY {group} "
                f"HAVING {first} <> {last} LIMIT 1"
            )
            for ends in found:
                one, other = (end.decode("utf-8", "surrogateescape") for end in ends)
                problem = (
                    f"holds {one!r} and {other!r}, which are equal to SQLite; keys must be unique"
                )
                raise self._bad_key(name, BadKey(problem, "CAST({} AS BLOB)"))

    def depends_on_the_plan(self) -> bool:
        """Return whether other rows may come if other columns are selected.

        With LIMIT in a query, view or condition, for example, SQLite may take the first rows of an
        index if only keys are selected, and the first rows of the table otherwise. It computes such
        a part separately, and its plan says so. A part that it merges into the outer statement has
        the same rows in each plan.
        """
        if not self._is_derived and not self._where:
            return False
        return any(APART.search(step) for step in self._plan())

    def _plan(self, *, filtered: bool = True) -> list[str]:
        """Return the steps of SQLite's plan for reading a key range, maybe without ``where``."""
        sql = self.select([*self._keys, *map(identifier, self._values)], filtered=filtered)
        ends = [0] * (2 * len(self._keys))
        return [step for *_, step in self._execute(f"EXPLAIN QUERY PLAN {sql}", ends)]

    def _keys_again(self, keys: Keys, kinds: Sequence[str]) -> Keys:
        """Return the keys once more, read with the plan that the rows will be read with."""
        if len(keys) == 0:
            return keys
        # The plan depends on the columns that are named. CASE keeps them from being read.
        unread = (f"CASE WHEN ? THEN {identifier(column)} END" for column in self._values)
        first, last = key_values(keys[[0, -1]])
        columns = [*self._keys, *unread]
        ends = [*parameters(first, kinds), *parameters(last, kinds)]
        found = self._scan(self.select(columns), columns, [*[0] * len(self._values), *ends])
        return together([stored(column, kind) for column, kind in zip(found, kinds, strict=False)])

    def _not_repeatable(self, rows: int) -> PlanError:
        return PlanError(
            f"{self.name}: the query or view returned {rows} rows, and other rows when it was read "
            f"again. It must return the same rows each time: with LIMIT or a window function, add "
            f"an ORDER BY that leaves no two rows equal"
        )

    def _bad_key(self, name: str, error: BadKey) -> PlanError:
        """Return the error for keys that cannot be keys, with what to do about this table.

        Parameters
        ----------
        name
            The name of the key column.
        error
            What is wrong with it.
        """
        key = error.expression.format(identifier(name))
        if self._where and error.condition:
            both = f"{self._where} AND {error.condition.format(identifier(name))}"
            advice = f"Use another column as key, or where={both!r}"
        elif self._has_rowid:
            advice = 'Use another column as key, such as SQLite\'s own rowid: key="rowid"'
        elif self._keys[1:] and key != identifier(name) and not self._is_derived:
            advice = f"Use another column as key, or {self._column_of(name, key)}"
        elif self._where and error.has_remedy:
            advice = f"Use another column as key, or {self._view_of(name, key)}"
        elif error.has_remedy:
            names = dict.fromkeys(map(identifier, self._values))
            keys = [f"{key} AS {it}" if it == identifier(name) else it for it in self._keys]
            query = f"SELECT {', '.join([*keys, *names])} FROM {self._from}"
            if error.condition:
                query = f"{query} WHERE {error.condition.format(identifier(name))}"
            advice = f"Use another column as key, or query={query!r}"
            if not self._is_derived and key != identifier(name):
                advice += f", with an index: {self._index_sql(name, key)}"
        else:
            advice = "Use another column as key"
        return PlanError(f"{self.name}: the key column {name!r} {error.problem}. {advice}")

    def _view_of(self, name: str, key: str) -> str:
        """Return advice to make keys in a view, where ``where`` can refer to all columns."""
        made, view = f"{name}_key", f"{self._config.table}_keyed"
        sql = (
            f"CREATE VIEW {identifier(view)} AS "
            f"SELECT {key} AS {identifier(made)}, * FROM {self._from}"
        )
        index = "" if self._is_derived else f", with an index: {self._index_sql(name, key)}"
        return f"key={made!r} and table={view!r} after {sql}{index}"

    def _column_of(self, name: str, key: str) -> str:
        """Return advice to make one of several key columns in a generated column.

        SQLite finds a row of several columns by an index of columns, not of expressions.
        """
        made = f"{name}_key"
        kind = "BLOB" if key.endswith("AS BLOB)") else "TEXT"
        keys = [made if it == name else it for it in self._config.keys]
        return (
            f"key={keys} after ALTER TABLE {self._from} ADD COLUMN {identifier(made)} {kind} "
            f"AS ({key}), with an index: {self._index_sql(name, identifier(made))}"
        )

    def _index_sql(self, name: str = "", key: str = "") -> str:
        """Return the statement that makes an index for the keys, of which one may be in SQL."""
        columns = [key if it == identifier(name) else it for it in self._keys]
        index = identifier(f"{self._config.table}_key")
        return f"CREATE UNIQUE INDEX {index} ON {self._from} ({', '.join(columns)})"

    def _warn_without_index(self) -> None:
        """Warn if reading a key range means reading the whole table."""
        marks = 2 * len(self._keys) if self._keys[1:] else 0  # both ends, of all columns
        steps = self._plan(filtered=False)
        if any(step.startswith("SEARCH") and step.count("?") >= marks for step in steps):
            return
        names = ", ".join(map(repr, self._config.keys))
        columns = f"columns {names}" if self._keys[1:] else f"column {names}"
        advice = "Select a key that is indexed in its table"
        if not self._is_derived:
            advice = f"Run: {self._index_sql()}"
        warnings.warn(
            f"{self.name}: no index serves the key {columns}, so every batch scans the whole "
            f"table. {advice}",
            FastloaderWarning,
            stacklevel=2,
        )

    # ---- rows ------------------------------------------------------------------------------------

    def reader(self) -> Reader:
        """Return the reader for keys, images or their paths, and labels of the rows of key ranges.

        Its ranges are first and last key. For the rest of a range, the last key that was read comes
        in place of the first. A blob is left in the database if it is larger than its limit. SQLite
        knows the size without reading the blob.
        """
        limits = [*[None] * len(self._keys), *(limit for _, limit in self._limits())]
        return Reader(self._database, self._rows_sql(), limits, self._rows_sql(rest=True))

    def _rows_sql(self, *, rest: bool = False) -> str:
        columns = [(identifier(name), limit) for name, limit in self._limits()]
        values = [
            name if limit is None else f"CASE WHEN length({name}) <= ? THEN {name} END"
            for name, limit in columns
        ]
        sizes = [f"length({name})" for name, limit in columns if limit is not None]
        return self.select([*self._keys, *values, *sizes], rest=rest)

    def _limits(self) -> list[tuple[str, int | None]]:
        """Return the columns of values, each with the most bytes to read of one, or None.

        Columns that are meant for numbers have no limit, because SQLite would have to write each
        number as text to tell its length.
        """
        limits: list[tuple[str, int | None]] = [*self._config.blob_limits.items()]
        for name, _ in self.labels:
            is_large = affinity(self.declared[name]) in ("BLOB", "TEXT")
            is_large = is_large or name in self._config.ragged_columns
            limits.append((name, self._config.max_blob_bytes if is_large else None))
        return limits

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
            types = ", ".join(f"typeof({key})" for key in self._keys)
            (self._types,) = self._execute(f"SELECT {types} {self._filtered()} LIMIT 1") or ((),)
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
        mark = row(["?"] * len(self._keys))
        marks = ", ".join([mark] * len(some))
        marks = f"VALUES {marks}" if self._keys[1:] else marks
        sql = f"SELECT {', '.join(labels)} FROM {self._from} WHERE {self._key} IN ({marks})"
        ends = [*parameters(first, kinds), *parameters(last, kinds)]
        rows = self._execute(self.select(labels), ends)
        return rows + self._execute(sql, [it for key in some for it in parameters(key, kinds)])

    def classes(self, column: str, most: int) -> list[str | int]:
        """Return the different values of a column by the first key of each; NULL is left out."""
        name = identifier(column)
        order = ", ".join(self._keys)
        found = self._execute(
            f"SELECT v FROM (SELECT {name} AS v, row_number() OVER (ORDER BY {order}) AS n "
            f"FROM {self._from}) WHERE typeof(v) IN ('text', 'integer') "
            f"GROUP BY v ORDER BY min(n) LIMIT {most}"
        )
        return [value for (value,) in found]

    def select(self, columns: Iterable[str], *, rest: bool = False, filtered: bool = True) -> str:
        """Return the statement for these columns of the rows of a range, in the order of keys.

        Its last parameters without names are the first and last key, both inclusive; for the rest
        of a range the last key that was read, exclusive, and the last key. With ``filtered``, only
        rows that meet ``where`` come.
        """
        key, mark = self._key, row(["?"] * len(self._keys))
        inside = (
            f"{key} > {mark} AND {key} <= {mark}" if rest else f"{key} BETWEEN {mark} AND {mark}"
        )
        order = ", ".join(self._keys)
        if filtered and self._where:
            inside += f" AND +{self._where}"  # with the + no index but that of the key is used
        return f"SELECT {', '.join(columns)} FROM {self._from} WHERE {inside} ORDER BY {order}"

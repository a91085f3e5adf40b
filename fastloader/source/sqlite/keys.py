"""Reads all keys of a SQLite table, and refuses those that no key range could tell apart."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError
from ...fields.values import Values
from ...options.labels import TEXT
from ...plan.keys import INTEGER, Keys, array_equal, key_values, together
from ...plan.split import with_numbers
from ..protocol import no_group
from ..sql import identifier
from ._sqlite import Reader
from .key_advice import bad_key, warn_without_index
from .key_types import BadKey, group_numbers, kind_of, may_be_equal, parameters, stored
from .table import SQLiteTable
from .types import affinity

APART = re.compile("CO-ROUTINE|MATERIALIZE|SUBQUERY|subquery|COMPOUND|UNION")
"""Words in SQLite's plan for a part that it computes separately."""


class TableKeys:
    """The keys of a table, view or query.

    Parameters
    ----------
    table
        The table, whose connection reads them.
    """

    def __init__(self, table: SQLiteTable) -> None:
        self._table = table

    def read(self) -> Keys:
        """Return all keys in the database's order. Warns if no index serves them.

        Raises
        ------
        PlanError
            If the keys cannot be keys, or a query returns other rows when it is read again.
        """
        warn_without_index(self._table)
        keys, kinds, numbers = self._all()
        if self.depends_on_the_plan() and not array_equal(keys, self._again(keys, kinds)):
            # The table may have been written to in between. A transaction rules that out.
            self._table.database.execute("BEGIN")
            try:
                keys, kinds, numbers = self._all()
                if not array_equal(keys, self._again(keys, kinds)):
                    raise self._not_repeatable(len(keys))
            finally:
                self._table.database.execute("ROLLBACK")
        return keys if numbers is None else with_numbers(keys, numbers)

    def _all(self) -> tuple[Keys, tuple[str, ...], NDArray[np.uint64] | None]:
        """Return all keys, read without most other columns, and the kinds of their columns.

        The third value are the rows' numbers, with a ``split_column``.
        """
        split = self._table.config.split_column
        columns = [*self._table.keys, *(() if split is None else (identifier(split),))]
        sql = f"SELECT {', '.join(columns)} {self._table.from_rows}"
        ordered = f"{sql} ORDER BY {', '.join(self._table.keys)}"
        declared = self._table.declared[self._table.config.keys[0]]
        is_sorted = bool(declared) and affinity(declared) in ("TEXT", "BLOB")
        if len(self._table.keys) == 1 and not is_sorted:
            key, *groups = self._scan(sql, columns)
            if self._kinds([key]) == (INTEGER,):
                # Without ORDER BY, SQLite may scan a narrow index instead of the wide table.
                if not groups:
                    return np.sort(key.numbers), (INTEGER,), None
                order = np.argsort(key.numbers, kind="stable")
                return key.numbers[order], (INTEGER,), self._numbers(groups[0])[order]
        found = self._scan(ordered, columns)
        keys, groups = found[: len(self._table.keys)], found[len(self._table.keys) :]
        kinds = self._kinds(keys)
        parts = [stored(column, kind) for column, kind in zip(keys, kinds, strict=True)]
        if TEXT in kinds and may_be_equal(parts):
            self._check_different()
        return together(parts), kinds, self._numbers(groups[0]) if groups else None

    def _kinds(self, keys: Sequence[Values]) -> tuple[str, ...]:
        """Return the kind of each key column. Raises PlanError if one cannot be a key."""
        kinds = []
        for name, column in zip(self._table.config.keys, keys, strict=True):
            try:
                kinds.append(kind_of(column))
            except BadKey as error:
                raise bad_key(self._table, name, error) from None
        return tuple(kinds)

    def _numbers(self, groups: Values) -> NDArray[np.uint64]:
        """Return the rows' numbers for the split. Raises PlanError."""
        try:
            return group_numbers(groups)
        except BadKey as error:
            column = self._table.config.split_column
            assert column is not None
            advice = "Use another column"
            if error.condition and self._table.config.query is None:
                both = filter(None, (self._table.where, error.condition.format(identifier(column))))
                advice += f", or where={' AND '.join(both)!r}"
            raise no_group(self._table.name, column, error.problem, advice) from None

    def _scan(
        self, sql: str, columns: Sequence[str], parameters: Sequence[Any] = ()
    ) -> list[Values]:
        """Return the columns of a statement's rows."""
        with contextlib.closing(Reader(self._table.database, sql, [None] * len(columns))) as reader:
            rows = reader.read([tuple(parameters)], most_bytes=sys.maxsize)
        return rows.columns

    def _check_different(self) -> None:
        """Raise PlanError if two keys that differ are equal to SQLite, as 'a' and 'A' may be.

        No key range could tell them apart.
        """
        group = ", ".join(self._table.keys)
        for name, key in zip(self._table.config.keys, self._table.keys, strict=True):
            first, last = f"min(CAST({key} AS BLOB))", f"max(CAST({key} AS BLOB))"
            found = self._table.database.execute(
                f"SELECT {first}, {last} {self._table.from_rows} GROUP BY {group} "
                f"HAVING {first} <> {last} LIMIT 1"
            )
            for ends in found:
                one, other = (end.decode("utf-8", "surrogateescape") for end in ends)
                problem = (
                    f"holds {one!r} and {other!r}, which are equal to SQLite; keys must be unique"
                )
                raise bad_key(self._table, name, BadKey(problem, "CAST({} AS BLOB)"))

    def depends_on_the_plan(self) -> bool:
        """Return whether other rows may come if other columns are selected.

        With LIMIT in a query, view or condition, for example, SQLite may take the first rows of an
        index if only keys are selected, and the first rows of the table otherwise. It computes such
        a part separately, and its plan says so. A part that it merges into the outer statement has
        the same rows in each plan.
        """
        if not self._table.is_derived and not self._table.where:
            return False
        return any(APART.search(step) for step in self._table.plan())

    def _again(self, keys: Keys, kinds: Sequence[str]) -> Keys:
        """Return the keys once more, read with the plan that the rows will be read with."""
        if len(keys) == 0:
            return keys
        # The plan depends on the columns that are named. CASE keeps them from being read.
        unread = (f"CASE WHEN ? THEN {identifier(column)} END" for column in self._table.values)
        first, last = key_values(keys[[0, -1]])
        columns = [*self._table.keys, *unread]
        ends = [*parameters(first, kinds), *parameters(last, kinds)]
        given = [*[0] * len(self._table.values), *ends]
        found = self._scan(self._table.select(columns), columns, given)
        return together([stored(column, kind) for column, kind in zip(found, kinds, strict=False)])

    def _not_repeatable(self, rows: int) -> PlanError:
        return PlanError(
            f"{self._table.name}: the query or view returned {rows} rows, and other rows when it "
            f"was read again. It must return the same rows each time: with LIMIT or a window "
            f"function, add an ORDER BY that leaves no two rows equal"
        )

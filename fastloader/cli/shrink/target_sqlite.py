"""The table that shrink fills in a SQLite file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..store_sqlite import SQLiteStore
from .columns import Copied
from .target import SmallTable

NOTE = re.compile(r"\(/\* (.*?) \*/ ")
"""SQLite has no comments on tables, but it keeps the statement that made one as it was."""


class SmallSQLiteTable(SmallTable, SQLiteStore):
    """A table in SQLite. See :class:`.target.SmallTable`."""

    BLOB = "BLOB"

    @property
    def is_there(self) -> bool:
        """Whether there is a table or view of this name."""
        return self._has(self.name)

    def note(self) -> str | None:
        """Return the note of the table, or None if it has none."""
        rows = self._execute(
            f"SELECT sql FROM sqlite_master WHERE type = 'table' "
            f"AND lower(name) = lower({self._literal(self._table)})"
        )
        match = NOTE.search(rows[0][0]) if rows and isinstance(rows[0][0], str) else None
        return None if match is None else match[1].replace("\\/", "/")

    def _declared(self, column: Copied, keys: Sequence[str]) -> str:
        # Only this type, in this spelling, makes the key the row's own number.
        if list(keys) == [column.name] and column.declared.upper() in ("INTEGER", "INT", "BIGINT"):
            column = Copied(column.name, "", "", "INTEGER PRIMARY KEY", column.convert)
        return super()._declared(column, keys)

    def _create(self, columns: Sequence[str], note: str) -> None:
        comment = note.replace("/", "\\/")  # which JSON allows, and which ends no comment
        self._execute(f"CREATE TABLE {self.name} (/* {comment} */ {', '.join(columns)})")

    def _insert(self, rows: Sequence[Sequence[Any]]) -> None:
        self._add(self._columns, rows)

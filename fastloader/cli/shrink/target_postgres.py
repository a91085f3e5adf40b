"""The table that shrink fills in PostgreSQL, with one binary COPY per batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..store_postgres import PostgresStore
from .target import SmallTable


class SmallPostgresTable(SmallTable, PostgresStore):
    """A table in PostgreSQL. See :class:`.target.SmallTable`."""

    BLOB = "bytea"

    @property
    def is_there(self) -> bool:
        """Whether there is a table or view of this name."""
        return self._has(self.name)

    def note(self) -> str | None:
        """Return the comment of the table, or None if it has none."""
        name = self._literal(self.name)
        ((note,),) = self._execute(f"SELECT obj_description(to_regclass({name}), 'pg_class')")
        return str(note) if note is not None else None

    def _create(self, columns: Sequence[str], note: str) -> None:
        image = self._columns[-1]
        self._execute(
            f"CREATE TABLE {self.name} ({', '.join(columns)}); "
            f"ALTER TABLE {self.name} ALTER COLUMN {image} SET STORAGE EXTERNAL; "
            f"COMMENT ON TABLE {self.name} IS {self._literal(note)}"
        )

    def _insert(self, rows: Sequence[Sequence[Any]]) -> None:
        self._copy(self.name, self._columns, rows)

    def finish(self) -> None:
        """Have the server collect statistics, for its plans."""
        self._execute(f"ANALYZE {self.name}")

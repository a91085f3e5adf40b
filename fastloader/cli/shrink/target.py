"""The table that shrink fills. Each kind of database has a subclass in a file of its own."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...source.sql import identifier
from ..store import Store
from .columns import Copied


class SmallTable(Store):
    """A table, made before the first rows are stored. Its methods raise SourceError.

    Every batch is a transaction. A note with the table says how it was made.

    Parameters
    ----------
    config
        Names the database and the table.
    """

    WHO = "shrink"
    BLOB: str
    """The type of images."""
    name: str
    """The name of the table, quoted for SQL."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert config.table is not None
        self._table = config.table
        self.name = self._name_of(config.table)
        self._columns: list[str] = []

    @property
    @abc.abstractmethod
    def is_there(self) -> bool:
        """Whether there is a table or view of this name."""

    @abc.abstractmethod
    def note(self) -> str | None:
        """Return the note of the table, or None if it has none."""

    @abc.abstractmethod
    def _create(self, columns: Sequence[str], note: str) -> None:
        """Make the table of these columns, quoted and with their types, with a note."""

    @abc.abstractmethod
    def _insert(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows."""

    def finish(self) -> None:  # SQLite has nothing to do
        """Do what is left after the last batch."""

    def settle(self, columns: Sequence[Copied], keys: Sequence[str], image: str, note: str) -> None:
        """Make the table if it is not there.

        The image is the last column, because SQLite reads through it to reach those after it.

        Parameters
        ----------
        columns
            All columns but the image.
        keys
            The names of those that are the primary key.
        image
            The name of the image column.
        note
            What is kept with the table.
        """
        self._columns = [identifier(name) for name in (*(c.name for c in columns), image)]
        if self.is_there:
            return
        declared = [self._declared(column, keys) for column in columns]
        declared.append(f"{identifier(image)} {self.BLOB}")
        if len(keys) > 1 or "PRIMARY KEY" not in " ".join(declared):
            declared.append(f"PRIMARY KEY ({', '.join(map(identifier, keys))})")
        with self._transaction():
            self._create(declared, note)

    def _declared(self, column: Copied, keys: Sequence[str]) -> str:
        null = " NOT NULL" if column.name in keys else ""
        return f"{identifier(column.name)} {column.declared}".rstrip() + null

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows of the columns, all of them or none."""
        try:
            with self._transaction():
                self._insert(rows)
        except SourceError as error:
            if not any(words in str(error) for words in ("UNIQUE constraint", "duplicate key")):
                raise
            raise SourceError(
                f"{error}. Another shrink may be filling the table at the same time: wait until "
                f"it has ended, and run the same command again"
            ) from None

"""A database that a command writes to. Each kind of database has a subclass in its own file."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator
from typing import Any, TypeVar

from ..errors import SourceError
from ..options.config import Config

LOCKED_S = 60
"""How long to wait for another writer, in seconds. A batch of another command takes less than 1."""


class Store(abc.ABC):
    """A connection that writes. Its methods raise SourceError.

    Parameters
    ----------
    config
        Names the database, and the table that messages are about.
    """

    BEGIN: str
    """The statements that begin a transaction."""
    WHO: str
    """The command, as the server lists its connection."""

    def __init__(self, config: Config) -> None:
        self._where = config.place

    def open(self) -> None:
        """Connect. Create nothing."""
        self._open()

    @abc.abstractmethod
    def _open(self) -> None: ...

    @abc.abstractmethod
    def close(self) -> None:
        """Close the connection. It may be called twice."""

    @abc.abstractmethod
    def _execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run statements, and return the rows of the last one."""

    @abc.abstractmethod
    def _has(self, name: str) -> bool:
        """Return whether a table of that name, quoted for SQL, exists."""

    @abc.abstractmethod
    def _literal(self, text: str) -> str:
        """Return the text as a SQL literal."""

    @abc.abstractmethod
    def _name_of(self, table: str) -> str:
        """Return the name of a table, quoted for SQL."""

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute(self.BEGIN)
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            with contextlib.suppress(SourceError):
                self._execute("ROLLBACK")
            raise


S = TypeVar("S", bound=Store)


def opened(store: S) -> S:
    """Open a store and return it. It is closed if that fails."""
    try:
        store.open()
    except BaseException:
        store.close()
        raise
    return store

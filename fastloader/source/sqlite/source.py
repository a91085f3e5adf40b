"""Rows from a SQLite file, through the standard library's sqlite3, which reads without the GIL.

``PRAGMA mmap_size`` was tried and left out. It saves 0.02 of 1.2 ms for a row of 85 KB, but then
the file's pages count as the worker's memory, and an I/O error is a SIGBUS.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ...errors import SourceError
from ...fields.columns import Column
from ...fields.values import NULL, TOO_LARGE, Values
from ...options.config import Config
from ...plan.keys import Key, Keys
from ..protocol import Chunk, Snapshot
from .file import check_identity, connect, file_state, path_of, settled_state, words_of
from .table import SQLiteTable
from .types import label_column

FETCH_BYTES = 1 << 20
"""The size of the blobs that are read ahead while others are decoded. More of them would not stay
in the processor's cache."""

FIRST_ROWS = 100
"""The number of rows, from the first key on, that are looked at to find the types of labels."""

SPREAD_ROWS = 50
"""The number of rows, spread over all keys, that are looked at in addition."""

REOPEN_TRIES = 10
"""The number of times that a file without locks is opened because it has changed."""

T = TypeVar("T")


class SQLiteSource:
    """A table, view or query in a SQLite file.

    See :class:`fastloader.source.protocol.Source` for its methods.

    Each chunk is a statement of its own, so writers are never locked out for longer than it takes
    to read one chunk. A row that is deleted while the loader runs is missing from its chunk.

    Parameters
    ----------
    config
        The loader's options.
    identity
        The identity of the source that read the keys. The file must still be the same one.
    """

    reconnects = 0

    def __init__(self, config: Config, *, identity: str = "") -> None:
        self._path = path_of(config)
        self._config = config
        self._fetch_bytes = config.fetch_bytes or FETCH_BYTES
        self._identity = identity
        self._connection: sqlite3.Connection | None = None
        self._is_interrupted = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Open the file and find its columns."""
        opened = connect(self._path)
        self._connection, self._unlocked_state = opened.connection, opened.unlocked_state
        check_identity(self._path, opened.identity, self._identity)
        self._identity = opened.identity
        doing = "look at its columns" if self._config.query is None else "run the query"
        with self._errors(doing) as connection:
            self._table = SQLiteTable(self._config, connection, self._where)

    def keys(self) -> Iterator[Keys]:
        """Yield all keys at once; see :meth:`fastloader.source.protocol.Source.keys`."""
        yield self._steady(self._keys)

    def _keys(self) -> Keys:
        with self._errors("read the keys"):
            return self._table.keys()

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
        """Return the columns of :meth:`fastloader.source.protocol.Source.label_columns`."""
        return self._steady(partial(self._label_columns, keys)) if self._table.labels else ()

    def _label_columns(self, keys: Keys) -> tuple[Column, ...]:
        table = self._table
        last = keys[min(FIRST_ROWS, len(keys)) - 1]
        spread = np.linspace(0, len(keys) - 1, min(SPREAD_ROWS, len(keys)), dtype=int)
        with self._errors("read the labels"):
            rows = table.some_labels(int(keys[0]), int(last), keys[spread].tolist())
        columns = []
        for i, (name, dtype) in enumerate(table.labels):
            values = [row[i] for row in rows]
            if dtype is None and values.count(None) == len(values):
                raise SourceError(
                    f"{self._where}: column {name!r} is NULL in every row that was looked at, so "
                    f'its type is not known; name it, for example label="{name}:int64"'
                )
            columns.append(label_column(name, dtype, table.declared[name], values))
        return tuple(columns)

    def read(
        self,
        ranges: Iterable[tuple[Key, Key]],
        columns: Sequence[Column],  # noqa: ARG002 # SQLite's values have types of their own
    ) -> Iterator[Chunk]:
        """Yield the rows of the ranges; see :meth:`fastloader.source.protocol.Source.read`."""
        sql = self._table.rows_sql
        rows: list[tuple[Any, ...]] = []
        numbers: list[int] = []
        size = 0
        for number, (first, last) in enumerate(ranges):
            assert isinstance(first, int)
            assert isinstance(last, int)
            start = first
            while start <= last:
                more, size = self._steady(partial(self._fetch, sql, start, last, size))
                rows += more
                numbers += [number] * len(more)
                if size < self._fetch_bytes:
                    break
                start = rows[-1][0] + 1
                yield self._chunk(rows, numbers)
                rows, numbers, size = [], [], 0
        if rows:
            yield self._chunk(rows, numbers)

    def _fetch(
        self, sql: str, first: int, last: int, size: int
    ) -> tuple[list[tuple[Any, ...]], int]:
        """Return rows of the range until they make a chunk, and the new size of the chunk.

        The statement ends here, because an open statement locks writers out, and a loader with a
        slow consumer may not ask for the next chunk for minutes.

        Parameters
        ----------
        sql
            The statement of :attr:`SQLiteTable.rows_sql`.
        first, last
            The first and last key, both inclusive.
        size
            The bytes of blobs that the chunk has already.
        """
        rows = []
        limits = [self._config.max_blob_bytes] * len(self._config.image_columns)
        with (
            self._errors(f"read keys {first} to {last}") as connection,
            contextlib.closing(connection.execute(sql, (*limits, first, last))) as cursor,
        ):
            for row in cursor:
                rows.append(row)
                blobs = row[1 : 1 + len(limits)]
                size += sum(len(blob) for blob in blobs if isinstance(blob, (bytes, str)))
                if size >= self._fetch_bytes:
                    break
        return rows, size

    def _chunk(self, rows: list[tuple[Any, ...]], numbers: list[int]) -> Chunk:
        """Return the chunk of these rows; ``numbers`` has the range of each."""
        names = [*self._config.image_columns, *(name for name, _ in self._table.labels)]
        images = len(self._config.image_columns)
        keys, *values = zip(*rows, strict=True)
        sizes = values[images : 2 * images]
        del values[images : 2 * images]
        columns = {name: Values.of(its) for name, its in zip(names, values, strict=True)}
        for name, lengths in zip(names, sizes, strict=False):
            its = columns[name]
            for i in np.flatnonzero(its.kinds == NULL).tolist():
                if lengths[i] is not None:
                    its.kinds[i], its.blobs[i, 1] = TOO_LARGE, lengths[i]
        return Chunk(np.array(keys, np.int64), np.array(numbers, np.int64), columns)

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        """Return SQLite's version and its query plan for the first range."""
        limits = [0] * len(self._config.image_columns)
        with self._errors("explain how it reads") as connection:
            sql = f"EXPLAIN QUERY PLAN {self._table.rows_sql}"
            steps = [detail for *_, detail in connection.execute(sql, (*limits, *ranges[0]))]
        return f"SQLite {sqlite3.sqlite_version}", "\n".join(steps)

    def state(self) -> str:
        """Return the state of the file; see :func:`~.file.settled_state`."""
        return settled_state(self._path)

    def identity(self) -> str:
        """Return which file this is; see :func:`~.file.identity_of`."""
        return self._identity

    def snapshot(self) -> Snapshot | None:
        """Return None, because no other connection can see the snapshot of a SQLite connection.

        A row that is deleted meanwhile is reported as gone.
        """
        return None

    def interrupt(self) -> None:
        """End the statement that is under way, from any thread."""
        self._is_interrupted = True
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # another thread closes it now
                connection.interrupt()

    def close(self) -> None:
        """Close the connection. It may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __repr__(self) -> str:
        state = "closed" if self._connection is None else "open"
        return f"<SQLiteSource {self._where}, {state}>"

    # ---- errors ----------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self._path}, {self._config.table or 'query'}"

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Give the connection to the block, and raise SourceError for SQLite's errors in it.

        ``doing`` is what the message says cannot be done.
        """
        if self._connection is None:
            raise SourceError(f"{self._where}: cannot {doing}: the source is closed")
        try:
            yield self._connection
        except sqlite3.Error as error:
            words = words_of(error, self._config.key)
            raise SourceError(f"{self._where}: cannot {doing}: {words}") from error

    def _steady(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns once the file does not change while it reads.

        Only a file that was opened without locks can change. Then what was read of it is useless,
        and so is the connection, which has cached pages of both states.
        """
        problem: SourceError | None = None
        for attempt in range(REOPEN_TRIES):
            try:
                if attempt:
                    self._open()
                value = read()
            except SourceError as error:
                if self._is_interrupted or not self._has_changed():
                    raise
                problem = error
            else:
                if not self._has_changed():
                    return value
            self.close()
        raise problem or SourceError(
            f"{self._path}: the file changes all the time, and it cannot be locked, because its "
            f"folder is read-only here. Read a copy, or make the folder writable"
        )

    def _has_changed(self) -> bool:
        """Return whether a file without locks has changed since it was opened."""
        state = self._unlocked_state
        return state is not None and state != file_state(self._path)

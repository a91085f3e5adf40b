"""Rows from a SQLite file, through SQLite's C API.

``PRAGMA mmap_size`` was tried and left out. It saves 0.02 of 1.2 ms for a row of 85 KB, but then
the file's pages count as the worker's memory, and an I/O error is a SIGBUS.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from ...errors import SourceError
from ...fields.columns import Column
from ...options.config import Config
from ...plan.keys import INTEGER, Key, Keys, together
from ..protocol import Chunk, Snapshot
from ._sqlite import Database, Reader, Rows, SQLiteError, version
from .file import (
    check_identity,
    connect,
    file_state,
    inodes_of,
    path_of,
    settled_state,
    words_of,
)
from .key_types import parameters, stored
from .keys import TableKeys
from .table import SQLiteTable
from .types import label_column

FETCH_BYTES = 1 << 20
"""The size of the values that are read ahead while others are decoded. More of them would not stay
in the processor's cache."""

FIRST_RANGES, MOST_RANGES = 16, 4096
"""The number of key ranges that are read for the first chunk, and the most for a chunk."""

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
        self._database: Database | None = None
        self._reader: Reader | None = None
        self._is_interrupted = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        """Open the file and find its columns."""
        opened = connect(self._path)
        self._database, self._unlocked_state = opened.database, opened.unlocked_state
        self._reader = None
        check_identity(self._path, opened.identity, self._identity)
        self._identity = opened.identity
        doing = "look at its columns" if self._config.query is None else "run the query"
        with self._errors(doing) as database:
            self._table = SQLiteTable(self._config, database, self._where)

    def keys(self) -> Iterator[Keys]:
        """Yield all keys at once; see :meth:`fastloader.source.protocol.Source.keys`."""
        yield self._steady(self._keys)

    def _keys(self) -> Keys:
        with self._errors("read the keys"):
            return TableKeys(self._table).read()

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
        """Return the columns of :meth:`fastloader.source.protocol.Source.label_columns`."""
        return self._steady(partial(self._label_columns, keys)) if self._table.labels else ()

    def _label_columns(self, keys: Keys) -> tuple[Column, ...]:
        table = self._table
        with self._errors("read the labels"):
            rows = table.some_labels(keys, FIRST_ROWS, SPREAD_ROWS)
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

    def classes(self, column: str, most: int) -> list[str | int]:
        """Return the values of :meth:`fastloader.source.protocol.Source.classes`."""
        return self._steady(partial(self._classes, column, most))

    def _classes(self, column: str, most: int) -> list[str | int]:
        with self._errors("read the classes"):
            return self._table.classes(column, most)

    def read(
        self,
        ranges: Iterable[tuple[Key, Key]],
        columns: Sequence[Column],  # noqa: ARG002 # SQLite's values have types of their own
    ) -> Iterator[Chunk]:
        """Yield the rows of the ranges; see :meth:`fastloader.source.protocol.Source.read`."""
        remaining = iter(ranges)
        pending = [*islice(remaining, FIRST_RANGES)]
        number = 0  # of the first pending range
        after = None  # the last key that was read of it
        kinds = self._kinds_of(pending[0][0]) if pending else ()
        while pending:
            rows = self._steady(partial(self._fetch, pending, kinds, after, number))
            after = None
            if rows.is_cut:
                after = tuple(key.value(len(rows) - 1) for key in rows.columns[: len(kinds)])
            done = rows.done
            if after is not None and after == parameters(pending[done][1], kinds):
                done, after = done + 1, None
            del pending[:done]
            number += done
            if len(rows):
                yield self._chunk(rows, kinds)
            # As many ranges as are likely to make a chunk.
            pending += islice(remaining, max(0, min(2 * done + 1, MOST_RANGES) - len(pending)))

    def _kinds_of(self, key: Key) -> tuple[str, ...]:
        with self._errors("look at its keys"):
            return self._table.kinds_of(key)

    def _fetch(
        self,
        ranges: list[tuple[Key, Key]],
        kinds: tuple[str, ...],
        after: tuple[int | str | bytes, ...] | None,
        number: int,
    ) -> Rows:
        """Return rows of the ranges until they make a chunk.

        No statement is open afterwards, because that would lock writers out, and a loader with a
        slow consumer may not ask for the next chunk for minutes.

        Parameters
        ----------
        ranges
            First and last key of each range, both inclusive.
        kinds
            The kinds of the key columns; see :func:`~.key_types.kind_of`.
        after
            None, or the last key of the first range that was read before, as SQLite has it.
        number
            The number of the first range.
        """
        first, last = ranges[0]
        others = "" if len(ranges) == 1 else " or later ones"
        with self._errors(f"read keys {first} to {last}{others}"):
            if self._reader is None:
                self._reader = self._table.reader()
            ends: list[tuple[Any, ...]] = [*ranges]
            if kinds != (INTEGER,):
                ends = [(*parameters(low, kinds), *parameters(high, kinds)) for low, high in ranges]
            if after is not None:
                ends[0] = (*after, *ends[0][len(kinds) :])
            is_rest = after is not None
            return self._reader.read(
                ends, most_bytes=self._fetch_bytes, rest=is_rest, number=number
            )

    def _chunk(self, rows: Rows, kinds: tuple[str, ...]) -> Chunk:
        """Return the chunk of these rows."""
        names = [*self._config.blob_limits, *(name for name, _ in self._table.labels)]
        parts, values = rows.columns[: len(kinds)], rows.columns[len(kinds) :]
        try:
            keys = together([stored(part, kind) for part, kind in zip(parts, kinds, strict=True)])
        except SourceError as error:
            raise SourceError(f"{self._where}: cannot read its rows: {error}") from None
        return Chunk(keys, rows.ranges, dict(zip(names, values, strict=True)))

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        """Return SQLite's version and its query plan for the first range."""
        with self._errors("explain how it reads"):
            return f"SQLite {version}", self._table.explain(ranges[0])

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

    def own_files(self) -> list[tuple[int, int]]:
        """Return the files of the database; see :func:`~.file.inodes_of`."""
        return inodes_of(self._path, self._identity)

    def interrupt(self) -> None:
        """End the statement that is under way, from any thread."""
        self._is_interrupted = True
        database = self._database
        if database is not None:
            database.interrupt()

    def close(self) -> None:
        """Close the connection. It may be called twice."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    def __repr__(self) -> str:
        state = "closed" if self._database is None else "open"
        return f"<SQLiteSource {self._where}, {state}>"

    # ---- errors ----------------------------------------------------------------------------------

    @property
    def _where(self) -> str:
        return f"{self._path}, {self._config.table or 'query'}"

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[Database]:
        """Give the connection to the block, and raise SourceError for SQLite's errors in it.

        ``doing`` is what the message says cannot be done.
        """
        if self._database is None:
            raise SourceError(f"{self._where}: cannot {doing}: the source is closed")
        try:
            yield self._database
        except SQLiteError as error:
            words = words_of(error, self._config.keys[0])
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

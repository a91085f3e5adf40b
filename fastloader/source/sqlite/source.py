"""Rows from a SQLite file, through the standard library's sqlite3, which reads without the GIL.

Tried and left out: ``PRAGMA mmap_size``. It saves 0.02 ms of 1.2 ms a row of 85 KB; but the file's
pages then count as the worker's memory, and an I/O error is a SIGBUS.
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
from ...options.config import Config
from ...plan.keys import Key, Keys
from ..protocol import Chunk, Snapshot, too_large
from .file import (
    check_identity,
    connect,
    file_state,
    path_of,
    settled_state,
    words_of,
)  # fmt: skip
from .table import SQLiteTable
from .types import label_column

FETCH_BYTES = 1 << 20
"""Blobs that are read ahead while others are decoded. Larger ones leave the processor's cache."""

FIRST_ROWS = 100
"""Rows from the first key on that are looked at to find the types of labels."""

SPREAD_ROWS = 50
"""The same, spread over all keys."""

REOPEN_TRIES = 10
"""How often a file without locks is opened anew because it has changed."""

T = TypeVar("T")


class SQLiteSource:
    """One read-only connection to a SQLite file. See :class:`fastloader.source.Source`.

    Each chunk is a statement of its own, so writers are never locked out for longer than it takes
    to read one; a row that goes while the loader runs is missed by the producer.
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
        opened = connect(self._path)
        self._connection, self._unlocked_state = opened.connection, opened.unlocked_state
        check_identity(self._path, opened.identity, self._identity)
        self._identity = opened.identity
        with self._errors("look at its columns") as connection:
            self._table = SQLiteTable(self._config, connection, self._where)

    def keys(self) -> Iterator[Keys]:
        yield self._steady(self._keys)

    def _keys(self) -> Keys:
        with self._errors("read the keys"):
            return self._table.keys()

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
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
                    f"{self._where}: column {name!r} is NULL in each row that was looked "
                    f'at, so its type is not known; name it, e.g. label="{name}:int64"'
                )
            columns.append(label_column(name, dtype, table.declared[name], values))
        return tuple(columns)

    def read(
        self,
        ranges: Iterable[tuple[Key, Key]],
        columns: Sequence[Column],  # noqa: ARG002 # SQLite's values bring their types
    ) -> Iterator[Chunk]:
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
        """Rows of the range until ``size``, to which their blobs are added, makes a chunk.

        The statement ends here: an open one locks writers out, and a loader whose consumer is slow
        may not ask for the next chunk for minutes.
        """
        rows = []
        limits = [self._config.max_blob_bytes] * len(self._config.images)
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
        names = self._config.images
        keys, *values = zip(*rows, strict=True)
        images = [list(blobs) for blobs in values[: len(names)]]
        sizes, labels = values[len(names) : 2 * len(names)], values[2 * len(names) :]
        bad: dict[int, str] = {}
        for name, blobs, lengths in zip(names, images, sizes, strict=True):
            for i, blob in enumerate(blobs):
                if not isinstance(blob, bytes):
                    bad.setdefault(i, self._bad_image(name, blob, lengths[i]))
                    blobs[i] = b""
        return Chunk(np.array(keys, np.int64), np.array(numbers, np.int64), images, labels, bad)

    def _bad_image(self, column: str, value: Any, size: int | None) -> str:
        if value is None and size is not None:
            return too_large(column, str(size), self._config.max_blob_bytes)
        if isinstance(value, str):
            return (
                f"column {column!r} is text, not a blob; if the text is an image's bytes, read "
                f'them with query="SELECT ..., CAST({column} AS BLOB) AS {column} FROM ..."'
            )
        kind = "NULL" if value is None else f"{type(value).__name__}, not a blob"
        return f"column {column!r} is {kind}"

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        limits = [0] * len(self._config.images)
        with self._errors("explain how it reads") as connection:
            sql = f"EXPLAIN QUERY PLAN {self._table.rows_sql}"
            steps = [detail for *_, detail in connection.execute(sql, (*limits, *ranges[0]))]
        return f"SQLite {sqlite3.sqlite_version}", "\n".join(steps)

    def state(self) -> str:
        return settled_state(self._path)

    def identity(self) -> str:
        return self._identity

    def snapshot(self) -> Snapshot | None:
        return None  # SQLite's last for a connection; what goes meanwhile is reported as gone

    def interrupt(self) -> None:
        self._is_interrupted = True
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(sqlite3.ProgrammingError):  # it is being closed right now
                connection.interrupt()

    def close(self) -> None:
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
        """The connection, whose errors become ours and say what was being done."""
        if self._connection is None:
            raise SourceError(f"{self._where}: cannot {doing}: the source is closed")
        try:
            yield self._connection
        except sqlite3.Error as error:
            words = words_of(error, self._config.key)
            raise SourceError(f"{self._where}: cannot {doing}: {words}") from error

    def _steady(self, read: Callable[[], T]) -> T:
        """Return what ``read`` returns, of a file that did not change meanwhile.

        Only a file that was opened without locks can do that. What was read of it then is of no
        use, and neither is the connection, which remembers pages of both states.
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
            f"{self._path}: the file changes all the time, and it cannot be locked against that, "
            f"because its folder is read-only here. Read a copy, or make the folder writable"
        )

    def _has_changed(self) -> bool:
        state = self._unlocked_state
        return state is not None and state != file_state(self._path)

"""Rows from a SQLite file, through the standard library's sqlite3, which reads without the GIL.

Tried and left out: ``PRAGMA mmap_size``. It saves 0.02 ms of 1.2 ms a row of 85 KB; but the file's
pages then count as the worker's memory, and an I/O error is a SIGBUS.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np

from ..columns import Column, infer_column, split_label
from ..config import Config
from ..errors import FastloaderWarning, PlanError, SourceError
from ..keys import Key, Keys
from . import Chunk, Snapshot, as_subquery, identifier, too_large

BUSY_TIMEOUT_S = 30.0
"""How long to wait for a writer that has locked the file."""

FETCH_BYTES = 1 << 20
"""Blobs that are read ahead while others are decoded. Larger ones leave the processor's cache."""

RACY_S = 0.02
"""The kernel's clock ticks every 0.004 s, or 0.01."""
RACY_TRIES = 10

FIRST_ROWS = 100
"""Rows to look at for a label that is not NULL."""


class SQLiteSource:
    """One read-only connection to a SQLite file. See :class:`fastloader.source.Source`.

    Each chunk is a statement of its own, so writers are never locked out for longer than it takes
    to read one; a row that goes while the loader runs is missed by the producer.
    """

    reconnects = 0

    def __init__(self, config: Config) -> None:
        self._path = path_of(config)
        self._config = config
        self._fetch_bytes = config.fetch_bytes or FETCH_BYTES
        self._labels = [split_label(label) for label in config.labels]
        self._connection: sqlite3.Connection | None = _connect(self._path)
        try:
            self._declared = self._find_columns()
        except BaseException:
            self.close()
            raise

    def keys(self) -> Iterator[Keys]:
        # Sorted here: without ORDER BY SQLite may scan a narrow index in place of the wide table.
        sql = f"SELECT {identifier(self._config.key)} FROM {self._from}"
        parts = [np.empty(0, np.int64)]
        with self._errors("read the keys") as connection:
            self._warn_without_index(connection)
            cursor = connection.execute(sql)
            while rows := cursor.fetchmany(65536):
                keys = [key for (key,) in rows]
                if set(map(type, keys)) != {int}:
                    raise self._bad_key(connection, next(k for k in keys if type(k) is not int))
                parts.append(np.array(keys, np.int64))
        yield np.sort(np.concatenate(parts))

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
        if not self._labels:
            return ()
        first: list[Any] = [None] * len(self._labels)
        sql = self._select([identifier(name) for name, _ in self._labels])
        with self._errors("read the labels") as connection:
            last = keys[min(FIRST_ROWS, len(keys)) - 1]
            for row in connection.execute(sql, (int(keys[0]), int(last))):
                pairs = zip(first, row, strict=True)
                first = [new if old is None else old for old, new in pairs]
                if None not in first:
                    break
        columns = []
        for (name, dtype), value in zip(self._labels, first, strict=True):
            if value is None and dtype is None:
                raise SourceError(
                    f"{self._where}: column {name!r} is NULL in the first {FIRST_ROWS} rows, so "
                    f'its type is not known; name it, e.g. label="{name}:int64"'
                )
            columns.append(infer_column(name, dtype, self._declared[name], value))
        return tuple(columns)

    def read(
        self,
        ranges: Iterable[tuple[Key, Key]],
        columns: Sequence[Column],  # noqa: ARG002 # SQLite's values bring their types
    ) -> Iterator[Chunk]:
        sql = self._rows_sql()
        rows: list[tuple[Any, ...]] = []
        numbers: list[int] = []
        size = 0
        for number, (first, last) in enumerate(ranges):
            assert isinstance(first, int)
            assert isinstance(last, int)
            start = first
            while start <= last:
                more, size = self._fetch(sql, start, last, size)
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
        kind = "NULL" if value is None else f"{type(value).__name__}, not a blob"
        return f"column {column!r} is {kind}"

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        limits = [0] * len(self._config.images)
        with self._errors("explain how it reads") as connection:
            sql = f"EXPLAIN QUERY PLAN {self._rows_sql()}"
            steps = [detail for *_, detail in connection.execute(sql, (*limits, *ranges[0]))]
        return f"SQLite {sqlite3.sqlite_version}", "\n".join(steps)

    def state(self) -> str:
        # A change in the same tick of the kernel's clock as the last one would not show (git's
        # "racy" problem): so the last one must be some ticks old.
        # A busy writer is not waited for: one change after the other shows.
        for _ in range(RACY_TRIES):
            times = [0.0]
            for path in _files(self._path):
                with contextlib.suppress(FileNotFoundError):  # a log that has been written back
                    times.append(os.stat(path).st_mtime)
            if not 0 <= time.time() - max(times) < RACY_S:
                break
            time.sleep(RACY_S)
        return file_state(self._path)

    def snapshot(self) -> Snapshot | None:
        return None  # SQLite's last for a connection; what goes meanwhile is reported as gone

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __repr__(self) -> str:
        state = "closed" if self._connection is None else "open"
        return f"<SQLiteSource {self._where}, {state}>"

    # ---- SQL -------------------------------------------------------------------------------------

    def _find_columns(self) -> dict[str, str]:
        """The declared types of the columns that are asked for. Raises SourceError."""
        config = self._config
        with self._errors("look at its columns") as connection:
            self._from, declared = self._find_rows(connection)
        names = {name.lower(): name for name in declared}
        wanted = [config.key, *config.images, *(name for name, _ in self._labels)]
        for name in wanted:
            if name.lower() not in names:
                raise SourceError(
                    f"{self._where}: no column {name!r}; there are {', '.join(declared)}"
                )
        return {name: declared[names[name.lower()]] for name in wanted}

    def _find_rows(self, connection: sqlite3.Connection) -> tuple[str, dict[str, str]]:
        """What to select from, and its columns with their declared types ("" where unknown)."""
        config = self._config
        if config.query is not None:
            source = as_subquery(config.query)
            cursor = connection.execute(f"SELECT * FROM {source} LIMIT 0")
            declared = {name: "" for name, *_ in cursor.description}
        else:
            assert config.table is not None
            source = identifier(config.table)
            info = connection.execute(f"PRAGMA table_xinfo({source})").fetchall()
            declared = {name: kind for _, name, kind, *_ in info}
            if not info:
                tables = [
                    name
                    for (name,) in connection.execute(
                        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') "
                        "AND name NOT LIKE 'sqlite_%' ORDER BY name"
                    )
                ]
                there = ", ".join(tables) if tables else "none"
                raise SourceError(f"{self._path}: no table {config.table!r}; there are: {there}")
            if "rowid" not in map(str.lower, declared):
                declared["rowid"] = "INTEGER"
        return source, declared

    def _warn_without_index(self, connection: sqlite3.Connection) -> None:
        """Reading a key range must not mean reading the table."""
        key = identifier(self._config.key)
        sql = f"EXPLAIN QUERY PLAN SELECT * FROM {self._from} WHERE {key} BETWEEN 0 AND 1"
        steps = [detail for *_, detail in connection.execute(sql)]
        if any(step.startswith("SEARCH") for step in steps):
            return
        table = self._config.table
        advice = (
            f"Run: CREATE UNIQUE INDEX {identifier(table + '_key')} ON {self._from} ({key})"
            if table is not None
            else "Select a key that is indexed in its table"
        )
        warnings.warn(
            f"{self._where}: no index serves the key column {self._config.key!r}, so every batch "
            f"scans the whole table. {advice}",
            FastloaderWarning,
            stacklevel=2,
        )

    def _rows_sql(self) -> str:
        """Key, blobs, sizes of the blobs and labels of the rows of a range. A blob is NULL where it
        is larger than its parameter, of which there is one for each image column, before those of
        the range: its size is known without reading it."""
        images = [identifier(name) for name in self._config.images]
        blobs = [f"CASE WHEN length({image}) <= ? THEN {image} END" for image in images]
        sizes = [f"length({image})" for image in images]
        labels = (identifier(name) for name, _ in self._labels)
        return self._select([identifier(self._config.key), *blobs, *sizes, *labels])

    def _select(self, columns: Iterable[str]) -> str:
        key = identifier(self._config.key)
        return (
            f"SELECT {', '.join(columns)} FROM {self._from} WHERE {key} BETWEEN ? AND ? "
            f"ORDER BY {key}"
        )

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
            raise SourceError(f"{self._where}: cannot {doing}: {error}") from error

    def _bad_key(self, connection: sqlite3.Connection, key: object) -> PlanError:
        column = self._config.key
        if key is None:
            sql = f"SELECT count(*) FROM {self._from} WHERE {identifier(column)} IS NULL"
            (nulls,) = connection.execute(sql).fetchone()
            problem = f"is NULL in {nulls} {'row' if nulls == 1 else 'rows'}; every row needs a key"
        else:
            problem = f"holds {key!r}; keys must be integers"
        return PlanError(
            f"{self._where}: the key column {column!r} {problem}. Use another column as key, such "
            f"as SQLite's own rowid"
        )


def path_of(config: Config) -> str:
    """Of the file."""
    return config.url.removeprefix("sqlite:///")


def file_state(path: str) -> str:
    """Another text after any change to the database, this table's or another's; never the old one
    again. It may also be another one where nothing has changed.

    Of the file and its write-ahead log: which file it is, when it was written and how large it is;
    the counter of changes in its header, and the salt of the log's, which is another one whenever
    the log begins anew (SQLite's "Database File Format", 1.3 and 4.1).
    """
    found = []
    for name, (begin, end) in zip(_files(path), ((24, 28), (16, 24)), strict=True):
        with contextlib.suppress(FileNotFoundError), open(name, "rb") as file:
            its = os.fstat(file.fileno())
            head = file.read(end)[begin:].hex()
            if its.st_size:
                found.append((its.st_dev, its.st_ino, its.st_size, its.st_mtime_ns, head))
    return repr(found)


def _files(path: str) -> list[str]:
    """The database's, and its write-ahead log, which may not be there."""
    return [path, path + "-wal"]


def _connect(path: str) -> sqlite3.Connection:
    """A read-only connection. SQLite itself would create a missing file."""
    if not os.path.exists(path):
        raise SourceError(f"{path}: there is no such file (relative paths start at {os.getcwd()})")
    if os.path.isdir(path):
        raise SourceError(f"{path} is a folder; pass the SQLite file in it")
    uri = f"file:{quote(path)}?mode=ro"
    try:
        try:
            return _opened(uri)
        except sqlite3.OperationalError:
            # A WAL database wants to write its -shm file. Where the folder is read-only and there
            # is no -wal file either, nobody else is writing, and it can be read as it is.
            if os.path.exists(path + "-wal") or os.access(os.path.dirname(path), os.W_OK):
                raise
            return _opened(uri + "&immutable=1")
    except sqlite3.Error as error:
        raise SourceError(f"{path}: cannot open it as a SQLite database: {error}") from error


def _opened(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    # Bytes that are no UTF-8 are a matter of their row, not of the whole read.
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection

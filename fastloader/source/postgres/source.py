"""Rows from PostgreSQL 12 or later, through a binary server-side cursor for each worker.

What a cursor returns stays in libpq's memory, where the kernel reads the pictures.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import FastloaderWarning, SourceError
from ...fields.columns import Column
from ...options.config import Config
from ...options.labels import TEXT
from ...plan.keys import Key, Keys, key_values
from ..protocol import Chunk, Snapshot, too_large
from ._libpq import QueryError, Result
from .advice import DIFFERENT, OTHER_DATABASE, RECOVERY_CONFLICT, TOO_MANY, advice
from .connection import Connection, ConnectionLost
from .literals import literal
from .read import Read
from .table import PostgresTable
from .types import integers, keys_of, labels_of, text

T = TypeVar("T")

FETCH_BYTES = 4 << 20
"""Blobs in one answer. They take 50 ms to decode, so the network may take as long for the next."""

FIRST_FETCH_ROWS = 16
MOST_FETCH_ROWS = 10_000
KEYS_PER_FETCH = 100_000

FIRST_DELAY_S, MOST_DELAY_S = 0.1, 5.0
"""Between attempts to get a connection back."""

# Nothing here survives the transaction, so a pooler may give the connection to somebody else then.
PLANNING = (
    "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL synchronize_seqscans = off; "
)
"""The planner, which does not know how short the ranges are, would compile a cursor over a million
uuids, for 120 to 200 ms. And it shall not scan the table for each range, whatever random_page_cost
says. Where a query does scan a table, the rows come in the same order each time: row_number() OVER
() depends on it."""

LASTING = (
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout'); "
)
"""For transactions with a snapshot: a consumer may pause, and the holder is always idle."""

READ_KEYS = "read the keys"


class PostgresSource:
    """One connection to a PostgreSQL server. See :class:`fastloader.source.Source`.

    With ``consistency="snapshot"`` all happens in one transaction, whose snapshot other sources can
    share; with ``"latest"`` every fetch is a transaction of its own.

    A connection that is lost while rows are read is made anew, and reading goes on after the last
    row that came: in the same snapshot, if its holder is still there.

    identity: of the source that read the keys. Every connection must lead to the same database, of
    the same cluster or of a physical replica.
    """

    def __init__(
        self, config: Config, snapshot: Snapshot | None, *, who: str, identity: str = ""
    ) -> None:
        self._config = config
        self._snapshot = snapshot
        self._connection = Connection(config, snapshot, who=who)
        self._where = config.where
        self._identity = identity
        self._short = config.consistency == "latest"
        self._fetch_bytes = config.fetch_bytes or FETCH_BYTES
        self._fetch_rows = FIRST_FETCH_ROWS
        self._found: PostgresTable | None = None
        self._in_transaction = False
        self._open_read: Read | None = None  # whose cursor is open
        self._interrupted = threading.Event()
        self._closed = False
        self.reconnects = 0

    # ---- the plan --------------------------------------------------------------------------------

    def keys(self) -> Iterator[Keys]:
        with self._errors(READ_KEYS):
            # A wrong name or password will not pass, but others may end their connections.
            table, _ = self._keep_trying(self._table, lambda error: error.sqlstate == TOO_MANY)
            self._begin()
            may_differ = table.check_repeatable(self._query)
            width = table.key_width(self._query) if table.key_type.wire == TEXT else 0
        first, last, advised = None, None, False
        seen = blake2b()
        for keys in self._keys_of(table.keys_sql, 0, width, first_time=True):
            with self._errors(READ_KEYS):
                if not advised:
                    for words in table.advice(keys, self._query):
                        warnings.warn(words, FastloaderWarning, stacklevel=2)
                    advised = True
            seen.update(keys.tobytes())
            first = keys[:1] if first is None else first
            last = keys[-1:]
            yield keys
        if may_differ and first is not None and last is not None:
            ends = [(key_values(first)[0], key_values(last)[0])]
            again = blake2b()
            for keys in self._keys_of(table.rows_sql(ends, bare=True), 1, width):
                again.update(keys.tobytes())
            if again.digest() != seen.digest():
                with self._errors(READ_KEYS):
                    raise SourceError(DIFFERENT)
        with self._errors(READ_KEYS):
            if self._short:
                self._query("COMMIT")
                self._in_transaction = False

    def _keys_of(
        self, sql: str, at: int, width: int, *, first_time: bool = False
    ) -> Iterator[Keys]:
        """Yield the keys in a column of what a query gives. first_time: it is ``keys_sql``, and the
        table may be scanned."""
        table = self._table()
        with self._errors(READ_KEYS):
            declare = f"DECLARE fl_keys BINARY NO SCROLL CURSOR FOR {sql}"
            self._query(
                f"SET LOCAL cursor_tuple_fraction = 1; SET LOCAL enable_seqscan = on; {declare}; "
                f"SET LOCAL cursor_tuple_fraction TO DEFAULT; SET LOCAL enable_seqscan = off"
                if first_time
                else declare
            )
        full, last = True, None
        while full:
            with self._errors(READ_KEYS):
                (result,) = self._query(f"FETCH FORWARD {KEYS_PER_FETCH} FROM fl_keys")
                full = len(result) == KEYS_PER_FETCH
                if len(result) == 0:
                    break
                if result.value(len(result) - 1, at) is None:
                    raise table.null_keys(self._query)
                keys = keys_of(result, at, table.key_type, width)
                if first_time and table.key_type.is_loose:
                    table.check_different(keys, last, result)
                last = keys[-1:]
            yield keys
        with self._errors(READ_KEYS):
            self._query("CLOSE fl_keys")

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
        with self._errors("look at the labels"):
            return self._table().label_columns(keys, self._query)

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        with self._errors("explain how it reads"):
            table = self._table()
            self._begin()
            (version,) = self._query("SHOW server_version")
            (plan,) = self._query(f"EXPLAIN {table.rows_sql(ranges)}")
        lines = (text(plan.value(row, 0)) for row in range(len(plan)))
        return f"PostgreSQL {text(version.value(0, 0))}", "\n".join(lines)

    def state(self) -> str:
        with self._errors("look at the state of the table"):
            table = self._table()
            self._begin()
            return table.state(self._query)

    def identity(self) -> str:
        with self._errors("tell which database this is"):
            self._connect()
            return self._identity

    def snapshot(self) -> Snapshot | None:
        if self._short:
            return None
        with self._errors("export the snapshot"):
            self._table()
            self._begin()
            name = self._query("SELECT pg_export_snapshot()")[0].value(0, 0)
            assert name is not None
            return Snapshot(name.decode(), *self._connection.address())

    # ---- rows ------------------------------------------------------------------------------------

    def read(self, ranges: Iterable[tuple[Key, Key]], columns: Sequence[Column]) -> Iterator[Chunk]:
        read = Read(ranges)
        while read.fill():
            asked = self._fetch_rows
            result = self._fetch_or_reconnect(read, asked)
            if len(result):
                with self._errors(f"read {read}"):
                    chunk = self._chunk(result, asked, read, columns)
                read.advance(int(chunk.ranges[-1]), key_values(chunk.keys[-1:])[0])
                yield chunk
            if len(result) < asked:
                read.finish()
                self._open_read = None

    def _fetch_or_reconnect(self, read: Read, asked: int) -> Result:
        """The next rows, with as many new connections as that takes, for a limited time."""
        with self._errors(f"read {read}"):
            result, failed = self._keep_trying(lambda: self._fetch(read, asked), self._may_pass)
        self.reconnects += failed
        return result

    def _keep_trying(
        self, attempt: Callable[[], T], may_pass: Callable[[ConnectionLost | QueryError], bool]
    ) -> tuple[T, bool]:
        """What the attempt returns, and whether it took several, each with a new connection."""
        start, delay_s = 0.0, FIRST_DELAY_S
        while True:
            try:
                return attempt(), start > 0
            except (ConnectionLost, QueryError) as error:
                if not may_pass(error):
                    raise
                self._disconnect()
                start = start or time.monotonic()
                tried_s = time.monotonic() - start
                if self._interrupted.is_set():
                    raise
                if tried_s + delay_s > self._config.reconnect_timeout_s:
                    raise ConnectionLost(
                        f"{error}. Tried for {tried_s:.0f} s to get a new connection "
                        f"(reconnect_timeout_s={self._config.reconnect_timeout_s:g})",
                        error.sqlstate,
                    ) from None
            self._interrupted.wait(delay_s)
            delay_s = min(2 * delay_s, MOST_DELAY_S)

    def _may_pass(self, error: ConnectionLost | QueryError) -> bool:
        if isinstance(error, ConnectionLost):
            return True
        # A standby cancels a query whose rows the primary has cleaned up; the next one sees others.
        return self._short and error.sqlstate == RECOVERY_CONFLICT

    def _fetch(self, read: Read, asked: int) -> Result:
        """The next rows, in one round trip."""
        table = self._table()
        sql = ""
        if self._open_read is not read:
            sql = "CLOSE ALL; " if self._in_transaction else self._begin_sql()
            read.declare()
            rows = table.rows_sql(list(read.pending), read.done)
            sql += f"DECLARE fl_rows BINARY NO SCROLL CURSOR FOR {rows}; "
        sql += f"FETCH FORWARD {asked} FROM fl_rows"
        self._in_transaction = True
        if self._short:
            result = self._query(sql + "; COMMIT")[-1]
            self._in_transaction = False
            return result
        result = self._query(sql)[-1]
        self._open_read = read
        return result

    def _chunk(self, result: Result, asked: int, read: Read, columns: Sequence[Column]) -> Chunk:
        table = self._table()
        if len(result) > asked:
            raise SourceError(
                f"the server has sent {len(result)} rows where {asked} were asked for"
            )
        ranges = integers(result, 0) + (read.base - 1)  # ordinality counts from 1
        if ranges[0] < read.first or ranges[-1] >= read.end or (np.diff(ranges) < 0).any():
            raise SourceError("the server has sent rows in another order than that of the ranges")
        keys = keys_of(result, 1, table.key_type)
        images = []
        bad: dict[int, str] = {}
        for i, name in enumerate(self._config.images):
            blobs, missing = self._blobs(result, 2 + 2 * i, name)
            images.append(blobs)
            bad = missing | bad  # the first reason stays
        labels = []
        for i, column in enumerate(columns, start=2 + 2 * len(images)):
            values, missing = labels_of(result, i, table.label_types[column.name], column)
            labels.append(values)
            bad |= missing
        size = sum(int(np.maximum(blobs[:, 1], 0).sum()) for blobs in images)
        self._adapt(size, len(result))
        return Chunk(keys, ranges, images, labels, bad, owner=result)

    def _blobs(self, result: Result, at: int, name: str) -> tuple[NDArray[np.intp], dict[int, str]]:
        """Where the blobs of an image column lie, and why a row has none. at: the result's column
        of their sizes; they come after it."""
        blobs, limit = result.blobs(at + 1), self._config.max_blob_bytes
        missing = self._table().missing_image(name)
        bad = {}
        for row in np.flatnonzero(blobs[:, 1] < 0).tolist():
            size = result.value(row, at)
            bad[row] = f"column {name!r} is {missing}"
            if size is not None:
                bad[row] = too_large(name, str(int.from_bytes(size, "big")), limit)
        for row in np.flatnonzero(blobs[:, 1] > limit).tolist():  # a large object, known only now
            bad[row] = too_large(name, f"more than {limit}", limit)
        return blobs, bad

    def _adapt(self, size: int, rows: int) -> None:
        """So many rows next time as would have made ``fetch_bytes``; at most four times as many as
        these, which may have been small by chance."""
        wanted = self._fetch_bytes * rows // max(1, size)
        self._fetch_rows = max(1, min(wanted, 4 * self._fetch_rows, MOST_FETCH_ROWS))

    # ---- the transaction -------------------------------------------------------------------------

    def _connect(self) -> None:
        """Makes sure of a connection to the database that it has always been."""
        if self._connection.is_open:
            return
        self._connection.open()
        found = self._connection.identity()
        if found and self._identity and found != self._identity:
            self._disconnect()
            raise SourceError(OTHER_DATABASE)
        self._identity = self._identity or found

    def _table(self) -> PostgresTable:
        """The table, on a connection that is open."""
        self._connect()
        if self._found is None:
            self._found = PostgresTable(self._config, self._query)
        return self._found

    def _query(self, sql: str) -> list[Result]:
        return self._connection.query(sql)

    def _begin_sql(self, level: str = "READ COMMITTED") -> str:
        settings = PLANNING + (self._found.settings if self._found else "")
        if self._short:
            return f"BEGIN ISOLATION LEVEL {level} READ ONLY; {settings}"
        sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
        if self._snapshot is not None:
            sql += f"SET TRANSACTION SNAPSHOT {literal(self._snapshot.name)}; "
        return sql + LASTING + settings

    def _begin(self) -> None:
        """A transaction that sees the same rows all along, unless there is one."""
        if not self._in_transaction:
            self._in_transaction = True
            self._query(self._begin_sql("REPEATABLE READ"))

    def _roll_back(self) -> None:
        """Leaves the connection fit for another transaction, or closed."""
        self._open_read = None
        if self._in_transaction:
            self._in_transaction = False
            try:
                self._query("ROLLBACK")
            except (QueryError, ConnectionLost):
                self._connection.close()

    def _disconnect(self) -> None:
        self._connection.close()
        self._open_read, self._in_transaction = None, False

    # ---- errors and the end ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Errors become ours and say what was being done; the transaction ends with them."""
        problem = f"{self._where}: cannot {doing}"
        if self._closed:
            raise SourceError(f"{problem}: the source is closed")
        try:
            yield
        except (ConnectionLost, QueryError) as error:
            words = str(error)
            if isinstance(error, QueryError):
                self._roll_back()
            else:
                self._disconnect()
                words = "interrupted" if self._interrupted.is_set() else words
            words += advice(error.sqlstate, shared=self._snapshot is not None)
            raise SourceError(f"{problem}: {words}") from None
        except SourceError as error:
            self._roll_back()
            if str(error).startswith(self._config.url):
                raise
            raise SourceError(f"{problem}: {error}") from None

    def interrupt(self) -> None:
        self._interrupted.set()
        self._connection.interrupt()

    def close(self) -> None:
        self._closed = True
        self._disconnect()

    def __repr__(self) -> str:
        return f"<PostgresSource {self._where}, {'closed' if self._closed else 'open'}>"

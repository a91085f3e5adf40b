"""Rows from PostgreSQL 12 or later, in its binary format: images from a cursor, others by COPY.

What a cursor returns stays in libpq's memory, where the kernel reads the images.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import TypeVar

from ...errors import FastloaderWarning, SourceError
from ...fields.columns import Column
from ...options.config import Config
from ...plan.keys import Key, Keys, key_values
from ...plan.split import with_numbers, without_numbers
from ..protocol import Chunk, Snapshot
from ._libpq import QueryError, Result
from .advice import DIFFERENT, RECOVERY_CONFLICT, TOO_MANY, advice
from .chunks import chunk_of
from .connection import ConnectionLost
from .explain import begins_anywhere
from .label_columns import classes_of, label_columns
from .read import Read
from .repeatable import check_repeatable
from .slow import slow_reads
from .state import table_state
from .table import PostgresTable
from .transaction import Transactions
from .types import Bound, NullError, keys_of, text

T = TypeVar("T")

FETCH_BYTES = 4 << 20
"""The size of the blobs in one answer. Decoding them takes 50 ms, so the network may take as long
for the next answer."""

FIRST_FETCH_ROWS = 16
MOST_FETCH_ROWS = 10_000
KEYS_PER_FETCH = 100_000

FIRST_DELAY_S, MOST_DELAY_S = 0.1, 5.0
"""The time between attempts to get a connection back doubles from the first to the second."""

READ_KEYS = "read the keys"


class PostgresSource:
    """A table, view or query on a PostgreSQL server.

    See :class:`fastloader.source.protocol.Source` for its methods.

    With ``consistency="snapshot"`` everything happens in one transaction, whose snapshot other
    sources can share. With ``"latest"`` every fetch is a transaction of its own.

    If the connection is lost while rows are read, the source connects again and resumes after the
    last row that came. It does so in the same snapshot if the connection that holds it is alive.

    Parameters
    ----------
    config
        The loader's options.
    snapshot
        The snapshot of another source, or None.
    who
        The name of the connection in the server's list.
    identity
        The identity of the source that read the keys. Every connection must lead to the same
        database, of the same cluster or of a physical replica.
    """

    def __init__(
        self, config: Config, snapshot: Snapshot | None, *, who: str, identity: str = ""
    ) -> None:
        self._config = config
        self._is_shared = snapshot is not None
        self._transactions = Transactions(config, snapshot, who=who, identity=identity)
        self._where = config.place
        self._fetch_bytes = config.fetch_bytes or FETCH_BYTES
        self._fetch_rows = FIRST_FETCH_ROWS
        self._found: PostgresTable | None = None
        self._copies: bool | None = None  # once it is known
        self._interrupted = threading.Event()
        self._closed = False
        self.reconnects = 0

    # ---- the plan --------------------------------------------------------------------------------

    def keys(self) -> Iterator[Keys]:
        """Yield all keys; see :meth:`fastloader.source.protocol.Source.keys`.

        The keys of a query that may not be repeatable are read twice and compared. Warns of what
        makes reading slow.
        """
        with self._errors(READ_KEYS if self._config.query is None else "run the query"):
            # A wrong name or password stays wrong, but other clients may end their connections.
            table, _ = self._keep_trying(self._table, lambda error: error.sqlstate == TOO_MANY)
            self._transactions.begin()
            may_differ = check_repeatable(table, self._query)
            widths = table.key_widths(self._query)
        first, last, advised = None, None, False
        seen = blake2b()
        for part in self._keys_of(table.keys_sql, 0, widths, first_time=True):
            keys = part if table.split_type is None else without_numbers(part)[0]
            with self._errors(READ_KEYS):
                if not advised:
                    for words in slow_reads(table, keys, self._query):
                        warnings.warn(words, FastloaderWarning, stacklevel=2)
                    advised = True
            seen.update(keys.tobytes())
            first = keys[:1] if first is None else first
            last = keys[-1:]
            yield part
        if may_differ and first is not None and last is not None:
            ends = [(key_values(first)[0], key_values(last)[0])]
            again = blake2b()
            for keys in self._keys_of(table.rows_sql(ends, bare=True), 1, widths):
                again.update(keys.tobytes())
            if again.digest() != seen.digest():
                with self._errors(READ_KEYS):
                    raise SourceError(DIFFERENT)
        with self._errors(READ_KEYS):
            if self._transactions.are_short:
                self._transactions.commit()

    def _keys_of(
        self, sql: str, at: int, widths: list[int], *, first_time: bool = False
    ) -> Iterator[Keys]:
        """Yield the keys in the rows of a statement.

        Parameters
        ----------
        sql
            The statement.
        at
            The index of the first key column.
        widths
            The size of the longest text in each key column in bytes, or 0 for other types.
        first_time
            The statement is ``keys_sql``, and the server may scan the table for it. With a
            split, the keys have a last column of numbers.
        """
        table = self._table()
        with self._errors(READ_KEYS):
            declare = f"DECLARE fl_keys BINARY NO SCROLL CURSOR FOR {sql}"
            if first_time:
                self._query_amid(
                    "SET LOCAL cursor_tuple_fraction = 1; SET LOCAL enable_seqscan = on; ",
                    declare,
                    "SET LOCAL cursor_tuple_fraction TO DEFAULT; SET LOCAL enable_seqscan = off",
                )
            else:
                self._query(declare, table.params)
        full, last = True, None
        while full:
            with self._errors(READ_KEYS):
                (result,) = self._query(f"FETCH FORWARD {KEYS_PER_FETCH} FROM fl_keys")
                full = len(result) == KEYS_PER_FETCH
                if len(result) == 0:
                    break
                try:
                    keys = keys_of(result, at, table.key_types, widths)
                except NullError:
                    raise table.null_keys(self._query) from None
                if first_time and table.is_loose:
                    table.check_different(keys, last, result)
                last = keys[-1:]
                if first_time and table.split_type is not None:
                    keys = with_numbers(keys, table.numbers(result))
            yield keys
        with self._errors(READ_KEYS):
            self._query("CLOSE fl_keys")

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
        """Return the columns of :meth:`fastloader.source.protocol.Source.label_columns`."""
        with self._errors("look at the labels"):
            return label_columns(self._table(), keys, self._query)

    def classes(self, column: str, most: int) -> list[str | int]:
        """Return the values of :meth:`fastloader.source.protocol.Source.classes`."""
        with self._errors("read the classes"):
            return classes_of(self._table(), column, most, self._query)

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        """Return the server's version and the output of its EXPLAIN."""
        with self._errors("explain how it reads"):
            table = self._table()
            self._transactions.begin()
            (version,) = self._query("SHOW server_version")
            (plan,) = self._query(f"EXPLAIN {table.rows_sql(ranges)}", table.params)
        lines = (text(plan.value(row, 0)) for row in range(len(plan)))
        return f"PostgreSQL {text(version.value(0, 0))}", "\n".join(lines)

    def state(self) -> str:
        """Return the state of the table; see :func:`~.state.table_state`."""
        with self._errors("look at the state of the table"):
            table = self._table()
            self._transactions.begin()
            return table_state(table, self._query)

    def identity(self) -> str:
        """Return which database of which cluster this is."""
        with self._errors("tell which database this is"):
            self._transactions.connect()
            return self._transactions.identity

    def snapshot(self) -> Snapshot | None:
        """Export the snapshot of the transaction. It is None with ``consistency="latest"``."""
        if self._transactions.are_short:
            return None
        with self._errors("export the snapshot"):
            self._table()
            self._transactions.begin()
            name = self._query("SELECT pg_export_snapshot()")[0].value(0, 0)
            assert name is not None
            return Snapshot(name.decode(), *self._transactions.address())

    # ---- rows ------------------------------------------------------------------------------------

    def read(self, ranges: Iterable[tuple[Key, Key]], columns: Sequence[Column]) -> Iterator[Chunk]:
        """Yield the rows of the ranges; see :meth:`fastloader.source.protocol.Source.read`."""
        read = Read(ranges)
        while read.fill():
            limit = self._fetch_rows
            chunks = self._fetch_or_reconnect(read, limit, columns)
            self._adapt(chunks)
            for chunk in chunks:
                read.advance(int(chunk.ranges[-1]), key_values(chunk.keys[-1:])[0])
                yield chunk
            if sum(len(chunk.keys) for chunk in chunks) < limit:
                read.finish()
                self._transactions.cursor_of = None

    def _fetch_or_reconnect(self, read: Read, limit: int, columns: Sequence[Column]) -> list[Chunk]:
        """Return the next rows, with as many new connections as the time limit allows."""
        with self._errors(f"read {read}"):
            chunks, failed = self._keep_trying(
                lambda: self._fetch(read, limit, columns), self._may_pass
            )
        self.reconnects += failed
        return chunks

    def _keep_trying(
        self, attempt: Callable[[], T], may_pass: Callable[[ConnectionLost | QueryError], bool]
    ) -> tuple[T, bool]:
        """Return what ``attempt`` returns, and whether the first attempt failed.

        After an error that ``may_pass`` accepts, the next attempt gets a new connection. There are
        none after ``reconnect_timeout_s``.
        """
        start, delay_s = 0.0, FIRST_DELAY_S
        while True:
            try:
                return attempt(), start > 0
            except (ConnectionLost, QueryError) as error:
                if not may_pass(error):
                    raise
                self._transactions.disconnect()
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
        """Return whether another attempt to fetch rows may succeed."""
        if isinstance(error, ConnectionLost):
            return True
        # A standby cancels a query whose rows the primary has cleaned up. The next query sees
        # other rows, which only consistency="latest" allows.
        return self._transactions.are_short and error.sqlstate == RECOVERY_CONFLICT

    def _fetch(self, read: Read, limit: int, columns: Sequence[Column]) -> list[Chunk]:
        """Return the next rows, at most ``limit``, in one round trip.

        They are decoded as they come. Nothing is under way when they are returned, so a consumer
        may pause or stop between two chunks. Fewer rows than ``limit`` are the last ones of the
        pending ranges.
        """
        table = self._table()
        chunks: list[Chunk] = []
        results, left = 0, limit

        def decode(result: Result) -> None:
            nonlocal results, left
            results += 1
            if len(result):
                before = chunks[-1] if chunks else None
                chunks.append(chunk_of(result, read, before, asked=left, columns=columns,
                                       table=table, config=self._config))  # fmt: skip
                left -= len(result)

        if self._can_copy(table, read):
            self._copy(table, read, limit, decode)
        else:
            self._fetch_from_cursor(table, read, limit, decode)
            if results != 1:
                raise SourceError(f"the server sent {results} results where 1 was asked for")
        self._transactions.is_open = not self._transactions.are_short
        return chunks

    def _can_copy(self, table: PostgresTable, read: Read) -> bool:
        """Return whether to read with COPY rather than from a cursor.

        COPY takes less CPU time, but has no parameters, and each one is a query of its own. So it
        is for rows of which thousands come at once, and for plans that begin at any row.
        """
        if self._copies is None:
            self._copies = not self._config.blob_limits and table.params is None
            if self._copies:
                self._transactions.begin()
                sql = f"EXPLAIN (FORMAT JSON) {table.rows_sql([read.pending[0]])}"
                self._copies = begins_anywhere(json.loads(text(self._query(sql)[0].value(0, 0))))
                if self._transactions.are_short:
                    self._transactions.commit()
        return self._copies

    def _copy(
        self, table: PostgresTable, read: Read, limit: int, decode: Callable[[Result], None]
    ) -> None:
        """Read the next rows with COPY."""
        transactions = self._transactions
        before, after = transactions.around()
        rows = _rows_sql(table, read)
        sql = f"{before}COPY ({rows} LIMIT {limit}) TO STDOUT (FORMAT binary){after}"
        transactions.query(sql, each=decode)

    def _fetch_from_cursor(
        self, table: PostgresTable, read: Read, limit: int, decode: Callable[[Result], None]
    ) -> None:
        """Read the next rows from a cursor. Declares one if none is open."""
        transactions = self._transactions
        before, after = transactions.around()
        fetch = f"FETCH FORWARD {limit} FROM fl_rows{after}"
        if transactions.cursor_of is read:
            transactions.query(fetch, each=decode)
        else:
            declare = f"DECLARE fl_rows BINARY NO SCROLL CURSOR FOR {_rows_sql(table, read)}"
            self._query_amid(before or "CLOSE ALL; ", declare, fetch, decode)
        transactions.cursor_of = None if transactions.are_short else read

    def _adapt(self, chunks: Sequence[Chunk]) -> None:
        """Choose the number of rows of the next fetch, so that it has about ``fetch_bytes``.

        It is at most four times the last number, because these rows may be small by chance.
        """
        rows = sum(len(chunk.keys) for chunk in chunks)
        if rows:
            size = sum(its.nbytes for chunk in chunks for its in chunk.columns.values())
            wanted = self._fetch_bytes * rows // max(1, size)
            self._fetch_rows = max(1, min(wanted, 4 * self._fetch_rows, MOST_FETCH_ROWS))

    # ---- the connection --------------------------------------------------------------------------

    def _table(self) -> PostgresTable:
        """Return the table, on an open connection."""
        self._transactions.connect()
        if self._found is None:
            self._found = PostgresTable(self._config, self._query)
            self._transactions.settings = self._found.settings
        return self._found

    def _query(self, sql: str, params: Bound | None = None, /) -> list[Result]:
        return self._transactions.query(sql, params)

    def _query_amid(
        self, before: str, sql: str, after: str, each: Callable[[Result], None] | None = None
    ) -> list[Result]:
        """Run a statement about the rows between others, and return the results of those after it.

        It is one round trip, or three if the statement has parameters: then it can only be sent
        alone. ``before`` ends in a semicolon.
        """
        params = self._table().params
        if params is None:
            return self._transactions.query(f"{before}{sql}; {after}", each=each)
        if before:
            self._query(before)
        self._query(sql, params)
        return self._transactions.query(after, each=each)

    # ---- errors and the end ----------------------------------------------------------------------

    @contextlib.contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Raise SourceError for the errors of the block, and end the transaction.

        ``doing`` is what the message says cannot be done.
        """
        problem = f"{self._where}: cannot {doing}"
        if self._closed:
            raise SourceError(f"{problem}: the source is closed")
        try:
            yield
        except (ConnectionLost, QueryError) as error:
            words = str(error)
            if isinstance(error, QueryError):
                self._transactions.roll_back()
            else:
                self._transactions.disconnect()
                words = "interrupted" if self._interrupted.is_set() else words
            words += advice(error.sqlstate, shared=self._is_shared)
            raise SourceError(f"{problem}: {words}") from None
        except SourceError as error:
            self._transactions.roll_back()
            if str(error).startswith(self._config.url):
                raise
            raise SourceError(f"{problem}: {error}") from None

    def own_files(self) -> list[tuple[int, int]]:
        """Return none, because the server has the files."""
        return []

    def interrupt(self) -> None:
        """End whatever is under way, from any thread, and make no new attempts."""
        self._interrupted.set()
        self._transactions.interrupt()

    def close(self) -> None:
        """Close the connection. It may be called twice."""
        self._closed = True
        self._transactions.disconnect()

    def __repr__(self) -> str:
        return f"<PostgresSource {self._where}, {'closed' if self._closed else 'open'}>"


def _rows_sql(table: PostgresTable, read: Read) -> str:
    """Return the query for the rows that are still to come, and number its ranges."""
    read.declare()
    return table.rows_sql(list(read.pending), read.done)

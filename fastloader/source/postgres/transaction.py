"""The read-only transactions of a PostgreSQL source, and the connection they run on."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import SourceError
from ...options.config import Config
from ..protocol import Snapshot
from ._libpq import QueryError, Result
from .advice import OTHER_DATABASE
from .connection import Connection, ConnectionLost
from .literals import literal
from .read import Read
from .types import Bound

# Every setting is local to the transaction, so a pooler may give the connection to another client
# after it.
PLANNING = (
    "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL synchronize_seqscans = off; "
)
"""Settings for the planner, which does not know how short the key ranges are. It would compile a
cursor over a million uuids, for 120 to 200 ms. It would also scan the table for each range if
random_page_cost is high. If a query does scan a table, its rows come in the same order each time,
on which row_number() OVER () depends."""

LASTING = (
    "SELECT set_config(name, '0', true) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'transaction_timeout'); "
)
"""Turns timeouts off for transactions with a snapshot. A consumer may pause, and the connection
that holds the snapshot is always idle."""


class Transactions:
    """One transaction after another, on a connection that may be replaced.

    With ``consistency="snapshot"`` a transaction lasts as long as its connection and can share its
    snapshot. With ``"latest"`` it is short: every fetch has its own.

    Parameters
    ----------
    config
        The loader's options.
    snapshot
        The snapshot to use, or None to take a new one.
    who
        The name of the connection in the server's list.
    identity
        The identity that every connection must lead to, or "" to accept the first one's.

    Attributes
    ----------
    are_short
        Whether ``consistency`` is "latest".
    identity
        Which database this is; see :meth:`Connection.identity`.
    settings
        Statements for the beginning of each transaction, beyond the usual ones.
    is_open
        Whether a transaction is open.
    cursor_of
        The read whose cursor is open in the transaction, or None.
    """

    def __init__(
        self, config: Config, snapshot: Snapshot | None, *, who: str, identity: str
    ) -> None:
        self._connection = Connection(config, snapshot, who=who)
        self._snapshot = snapshot
        self.are_short = config.consistency == "latest"
        self.identity = identity
        self.settings = ""
        self.is_open = False
        self.cursor_of: Read | None = None

    def connect(self) -> None:
        """Connect to the server, unless a connection is open.

        Raises
        ------
        ConnectionLost
            If the server cannot be reached.
        SourceError
            If it has another database than the one before.
        """
        if self._connection.is_open:
            return
        self._connection.open()
        found = self._connection.identity()
        if found and self.identity and found != self.identity:
            self.disconnect()
            raise SourceError(OTHER_DATABASE)
        self.identity = self.identity or found

    def address(self) -> tuple[str, str, int]:
        """Return the server's address; see :meth:`Connection.address`."""
        return self._connection.address()

    def query(
        self,
        sql: str,
        params: Bound | None = None,
        each: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Run statements; see :meth:`Connection.query`."""
        return self._connection.query(sql, params, each)

    def begin_sql(self, level: str = "READ COMMITTED") -> str:
        """Return the statements that begin a transaction.

        Parameters
        ----------
        level
            The isolation level of a short transaction. Those with a snapshot have their own.
        """
        settings = PLANNING + self.settings
        if self.are_short:
            return f"BEGIN ISOLATION LEVEL {level} READ ONLY; {settings}"
        sql = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
        if self._snapshot is not None:
            sql += f"SET TRANSACTION SNAPSHOT {literal(self._snapshot.name)}; "
        return sql + LASTING + settings

    def around(self) -> tuple[str, str]:
        """Return what to send before and after the statements that read rows.

        For a short transaction, that is its begin and end. A transaction with a snapshot is begun
        now, unless it is open.
        """
        if self.are_short:
            self.is_open = True  # as soon as they are sent
            return self.begin_sql(), "; COMMIT"
        self.begin()
        return "", ""

    def begin(self) -> None:
        """Begin a transaction that sees the same rows throughout, unless one is open."""
        if not self.is_open:
            self.is_open = True
            self.query(self.begin_sql("REPEATABLE READ"))

    def commit(self) -> None:
        """Commit the transaction."""
        self.query("COMMIT")
        self.is_open = False

    def roll_back(self) -> None:
        """End the transaction. The connection is closed if that fails."""
        self.cursor_of = None
        if self.is_open:
            self.is_open = False
            try:
                self.query("ROLLBACK")
            except (QueryError, ConnectionLost):
                self._connection.close()

    def disconnect(self) -> None:
        """Close the connection, which ends the transaction. It may be called twice."""
        self._connection.close()
        self.cursor_of, self.is_open = None, False

    def interrupt(self) -> None:
        """End the query that is under way; see :meth:`Connection.interrupt`."""
        self._connection.interrupt()

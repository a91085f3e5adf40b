"""A connection to PostgreSQL.

psycopg2 makes it with libpq's own parameters. Queries then go through libpq itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from collections.abc import Callable
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...options.url import parse_dsn, without_password
from ..protocol import Snapshot
from .advice import TOO_MANY

KEEPALIVE = {
    "keepalives_idle": (socket.TCP_KEEPIDLE, 60),
    "keepalives_interval": (socket.TCP_KEEPINTVL, 10),
    "keepalives_count": (socket.TCP_KEEPCNT, 3),
}
"""TCP keepalive by libpq's names, in seconds, seconds and probes, where the user sets nothing. The
system's default of two hours is longer than routers remember a connection, and the connection that
holds the snapshot is always silent."""

_TOO_MANY = re.compile(
    r"too many (clients|connections)|remaining connection slots|no more connections allowed"
)
"""How PostgreSQL and PgBouncer say that they have no connection to spare. libpq does not tell the
SQLSTATE of a refused connection. Messages in other languages are not recognized."""

IDENTITY = """
SELECT concat_ws(' ', system_identifier,
                 (SELECT oid FROM pg_database WHERE datname = current_database()))
FROM pg_control_system()
"""
"""Returns the same for a physical replica as for its primary."""


class ConnectionLost(Exception):
    """No connection could be made, or it was lost.

    Parameters
    ----------
    words
        What libpq or the server said, without a password.
    sqlstate
        The code of the reason, if it is known.
    """

    def __init__(self, words: str, sqlstate: str | None = None) -> None:
        super().__init__(words)
        self.sqlstate = sqlstate or (TOO_MANY if _TOO_MANY.search(words) else None)


class Connection:
    """One connection, which may be opened again after it was lost.

    One thread at a time may use it, except for :meth:`interrupt`.

    Parameters
    ----------
    config
        The loader's options.
    snapshot
        A snapshot whose server to connect to, or None for the URL's.
    who
        The name of the connection in the server's list.
    """

    def __init__(self, config: Config, snapshot: Snapshot | None, *, who: str) -> None:
        self._url = config.url
        self._given = parse_dsn(config.url.secret)
        self._timeout_s = config.stall_timeout_s
        self._spread = config.consistency == "latest"
        self._snapshot = snapshot
        self._name = f"fastloader {who}".strip()
        self._connection: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    def open(self) -> None:
        """Connect to the server.

        Raises
        ------
        ConnectionLost
            If the server refuses or cannot be reached.
        SourceError
            If the parameters ask for several servers, or TLS would crash the process.
        """
        psycopg2 = _psycopg2(self._given)
        from ._libpq import Session

        try:
            connection = psycopg2.connect(self._url.secret, **self._parameters())
        except psycopg2.Error as error:
            raise ConnectionLost(without_password(str(error), self._url)) from None
        connection.autocommit = True
        self._connection, self._session = connection, Session(connection, self._timeout_s)
        self._keep_alive()
        parameters = connection.info.dsn_parameters
        if not self._spread and parameters.get("load_balance_hosts") == "random":
            self.close()
            raise SourceError(
                "load_balance_hosts=random uses several servers, but a snapshot is valid on one: "
                'pass consistency="latest" to spread the workers over replicas, or leave '
                "load_balance_hosts out to read from one server"
            )

    def query(
        self,
        sql: str,
        params: list[tuple[int, bytes | None]] | None = None,
        each: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """Run one or more statements and return the results of those that return rows.

        With parameters, it can only be one statement. With ``each``, calls that with each result as
        it comes, and returns none.

        Raises
        ------
        QueryError
            If a statement failed and the connection can still be used.
        ConnectionLost
            If the connection cannot be used any more.
        """
        from ._libpq import QueryError

        if self._connection is None:
            raise ConnectionLost("the connection is closed")
        try:
            return self._session.query(sql.encode(), params, each)
        except QueryError as error:
            error.message = without_password(error.message, self._url)
            if not error.lost:
                raise
            self.close()
            raise ConnectionLost(error.message) from None

    def identity(self) -> str:
        """Return which database of which cluster this is.

        It is "" if this user may not know. Call it outside of a transaction, which the server's
        refusal would end.
        """
        from ._libpq import QueryError

        try:
            results = self.query(IDENTITY)
        except QueryError:
            return ""
        known = bool(results) and len(results[0]) == 1
        return (results[0].value(0, 0) or b"").decode("utf-8", "replace") if known else ""

    def address(self) -> tuple[str, str, int]:
        """Return the server's host name, its IP address ("" for a Unix socket) and its port."""
        info = self._connection.info
        with _socket_of(self._connection) as end:
            hostaddr = "" if end.family == socket.AF_UNIX else end.getpeername()[0]
        return info.host, hostaddr, info.port

    def interrupt(self) -> None:
        """Make a query that is under way end with ConnectionLost. Any thread may call it."""
        connection = self._connection
        if connection is None:
            return
        # Another thread may close it at this moment, which ends the query as well.
        with contextlib.suppress(Exception), _socket_of(connection) as end:
            end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. It may be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _parameters(self) -> dict[str, Any]:
        """Return the connection parameters beyond those of the URL."""
        parameters: dict[str, Any] = {
            "client_encoding": "UTF8",
            "fallback_application_name": self._name,
        }
        if self._snapshot is not None:
            parameters |= {"host": self._snapshot.host, "port": self._snapshot.port}
            if self._snapshot.hostaddr:
                parameters["hostaddr"] = self._snapshot.hostaddr
        return parameters

    def _keep_alive(self) -> None:
        """Set the TCP keepalive options that the user has not set."""
        given = self._connection.info.dsn_parameters
        with _socket_of(self._connection) as end:
            if end.family == socket.AF_UNIX or given.get("keepalives") == "0":
                return
            for name, (option, value) in KEEPALIVE.items():
                if name not in given:
                    end.setsockopt(socket.IPPROTO_TCP, option, value)


def _socket_of(connection: Any) -> socket.socket:
    """Return a socket object for a duplicate of the connection's descriptor."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def _psycopg2(given: dict[str, str]) -> Any:
    """Import psycopg2. Raises SourceError if a TLS connection would crash the process."""
    import psycopg2

    order = list(sys.modules)  # in the order of their import
    tls = given.get("sslmode") != "disable" and not given.get("host", "").startswith("/")
    if tls and "tensorflow" in order and order.index("tensorflow") < order.index("psycopg2"):
        raise SourceError(
            "TensorFlow was imported before psycopg2, so libpq would call TensorFlow's TLS library "
            "instead of its own and crash the process. Import psycopg2 before tensorflow, or pass "
            "workers=1 or more; in tasks of Ray Data, import TensorFlow inside functions and "
            "set ray.data.DataContext.get_current().isolate_read_workers = True"
        )
    return psycopg2

"""A connection to PostgreSQL: made by psycopg2 with libpq's own parameters, used through libpq."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
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
"""By libpq's names, where the user says nothing: seconds, seconds and times. The system's own two
hours are longer than routers remember a connection, and that with the snapshot is always silent."""


_TOO_MANY = re.compile(
    r"too many (clients|connections)|remaining connection slots|no more connections allowed"
)
"""The words of PostgreSQL and of PgBouncer for it: libpq does not tell the SQLSTATE of a connection
that was refused. Those of a server that speaks another language are not recognized."""

IDENTITY = """
SELECT concat_ws(' ', system_identifier,
                 (SELECT oid FROM pg_database WHERE datname = current_database()))
FROM pg_control_system()
"""
"""Physical replicas have the system identifier of their primary."""


class ConnectionLost(Exception):
    """There is no connection, or no more.

    The words are libpq's or the server's, without a password. sqlstate: of the reason, if known.
    """

    def __init__(self, words: str, sqlstate: str | None = None) -> None:
        super().__init__(words)
        self.sqlstate = sqlstate or (TOO_MANY if _TOO_MANY.search(words) else None)


class Connection:
    """One connection, opened and opened again. One thread at a time, but for :meth:`interrupt`.

    snapshot: whose server to connect to. who: what the server's list of connections is to say.
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
        return self._connection is not None

    def open(self) -> None:
        """Connects. Raises ConnectionLost."""
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
                "load_balance_hosts=random asks for several servers, and a snapshot is good for "
                'one: pass consistency="latest" to spread the workers over replicas, or leave '
                "load_balance_hosts out to read from one of them"
            )

    def query(self, sql: str) -> list[Any]:
        """The results of the statements that return rows. Raises ConnectionLost, or QueryError
        where the connection can still be used."""
        from ._libpq import QueryError

        if self._connection is None:
            raise ConnectionLost("the connection is closed")
        try:
            return self._session.query(sql.encode())
        except QueryError as error:
            error.message = without_password(error.message, self._url)
            if not error.lost:
                raise
            self.close()
            raise ConnectionLost(error.message) from None

    def identity(self) -> str:
        """Return which database of which cluster this is; "" where this user may not know. Not for
        the middle of a transaction, which the server's refusal would end."""
        from ._libpq import QueryError

        try:
            results = self.query(IDENTITY)
        except QueryError:
            return ""
        known = bool(results) and len(results[0]) == 1
        return (results[0].value(0, 0) or b"").decode("utf-8", "replace") if known else ""

    def address(self) -> tuple[str, str, int]:
        """Host, its address ("" for a Unix socket) and port of the server at the other end."""
        info = self._connection.info
        with _socket_of(self._connection) as end:
            hostaddr = "" if end.family == socket.AF_UNIX else end.getpeername()[0]
        return info.host, hostaddr, info.port

    def interrupt(self) -> None:
        """A query under way ends with ConnectionLost. From any thread."""
        connection = self._connection
        if connection is None:
            return
        # It may be closed right now, which is as good.
        with contextlib.suppress(Exception), _socket_of(connection) as end:
            end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """May be called twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _parameters(self) -> dict[str, Any]:
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
        given = self._connection.info.dsn_parameters
        with _socket_of(self._connection) as end:
            if end.family == socket.AF_UNIX or given.get("keepalives") == "0":
                return
            for name, (option, value) in KEEPALIVE.items():
                if name not in given:
                    end.setsockopt(socket.IPPROTO_TCP, option, value)


def _socket_of(connection: Any) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))


def _psycopg2(given: dict[str, str]) -> Any:
    import psycopg2

    order = list(sys.modules)  # of being imported
    tls = given.get("sslmode") != "disable" and not given.get("host", "").startswith("/")
    if tls and "tensorflow" in order and order.index("tensorflow") < order.index("psycopg2"):
        raise SourceError(
            "libpq would call TensorFlow's TLS library in place of its own and crash the process, "
            "because TensorFlow was imported first. Import psycopg2 before tensorflow, or pass "
            "workers=1 or more; for tasks of Ray Data, import TensorFlow inside of functions and "
            "set ray.data.DataContext.get_current().isolate_read_workers = True"
        )
    return psycopg2

"""The database's address: a URL, a DSN or a path, and what of it may be shown.

Passwords stay in ``DatabaseUrl.secret``; no text or error message made here holds one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

_POSTGRES_URL = re.compile(r"postgres(?:ql)?(?:\+\w+)?://", re.IGNORECASE)
_DSN = re.compile(r"\s*[a-z_]+\s*=")
_SHOWN = ("user", "host", "hostaddr", "port", "dbname", "service")


class DatabaseUrl(str):
    """The address of a database, as a text that may be shown: it holds no password.

    For a SQLite file the text is ``sqlite:///`` and the absolute path. For PostgreSQL it is made of
    user, hosts, ports and the name of the database or service.

    Parameters
    ----------
    shown
        The text.
    secret
        What opens the database, password included; for PostgreSQL what the user gave, which libpq
        parses. None for the text itself.
    """

    __slots__ = ("secret",)
    secret: str

    def __new__(cls, shown: str, secret: str | None = None) -> DatabaseUrl:
        """Return the text with its secret."""
        url = super().__new__(cls, shown)
        url.secret = shown if secret is None else secret
        return url

    @property
    def database(self) -> str:
        """The name of the file, without its folder, or of the database, without its host."""
        path = self.partition("?")[0] if self.is_postgres else self
        return path.rpartition("/")[2]

    @property
    def is_postgres(self) -> bool:
        """Whether it is a PostgreSQL database and not a SQLite file."""
        return self.startswith("postgresql://")


def parse_url(value: Any) -> DatabaseUrl:
    """Return the address that a user gave as text or as a path.

    Raises
    ------
    ValueError
        It cannot be parsed. The message holds no part of what was given but the scheme.
    TypeError
        It is neither a text nor a path.
    """
    if isinstance(value, DatabaseUrl):
        return value
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError("must be a URL or a path")
    match = _POSTGRES_URL.match(text)
    if match:  # libpq does not know SQLAlchemy's "postgresql+psycopg2"
        return _postgres("postgresql://" + text[match.end() :])
    if isinstance(value, str) and _DSN.match(text) and not os.path.exists(text):
        return _postgres(text)
    scheme, separator, path = text.partition("://")
    if not separator:
        return _sqlite(text)
    if scheme != "sqlite":
        raise ValueError(
            f"names a database that is not supported: {scheme}; use sqlite:///path or postgresql://"
        )
    if not path.startswith("/") or len(path) < 2:
        raise ValueError("needs three slashes before a path, as in sqlite:///photos.db")
    return _sqlite(path[1:])


def _sqlite(path: str) -> DatabaseUrl:
    if path == ":memory:":
        raise ValueError("cannot be :memory:, which the workers could not see; use a file")
    return DatabaseUrl("sqlite:///" + os.path.abspath(path))


def _postgres(dsn: str) -> DatabaseUrl:
    values = parse_dsn(dsn)
    shown = {name: values[name] for name in _SHOWN if values.get(name)}
    # A password with an unescaped @ or / spills into another part, which would then be shown.
    ports = (values.get("port") or "").split(",")
    if any("@" in value for value in shown.values()) or not all(
        port.isdigit() or not port for port in ports
    ):
        raise ValueError(
            "cannot be parsed: in a URL, write special characters of a user name or a password "
            "as %40 for @, %2F for /, %3A for :"
        )
    return DatabaseUrl(_shown(shown), dsn)


def _shown(values: dict[str, str]) -> str:
    user = values["user"] + "@" if "user" in values else ""
    hosts = values.get("host") or values.get("hostaddr") or ""
    ports = values.get("port", "")
    where = f"{hosts}:{ports}" if ports else hosts
    service = f"?service={values['service']}" if "service" in values else ""
    return f"postgresql://{user}{where}/{values.get('dbname', '')}{service}"


def parse_dsn(dsn: str) -> dict[str, str]:
    """Return the parameters of a PostgreSQL URL or DSN, as libpq reads them.

    Raises
    ------
    ValueError
        libpq cannot parse it. The message does not quote it.
    """
    import psycopg2
    import psycopg2.extensions

    try:
        values: dict[str, str] = psycopg2.extensions.parse_dsn(dsn)
    except (psycopg2.ProgrammingError, UnicodeError):
        # libpq quotes what it could not parse, which may be half of a password.
        raise ValueError(
            "cannot be parsed by libpq: use postgresql://user:password@host:port/database, with "
            "special characters as %XX, or host=... dbname=..., with quotes around values that "
            "contain spaces; only libpq's own parameters are allowed"
        ) from None
    return values


def without_password(words: str, url: DatabaseUrl) -> str:
    """Return a message of libpq or the server in one line, with the password masked."""
    password = parse_dsn(url.secret).get("password") or ""
    text = " ".join(words.split())
    return text.replace(password, "***") if len(password) > 2 else text


def with_connect_timeout(
    url: DatabaseUrl, timeout_s: float, environ: Mapping[str, str]
) -> DatabaseUrl:
    """Return the address with a limit on the time to connect, unless the user has set one.

    Without it libpq waits forever for a host that accepts connections and then says nothing. The
    user's own limit may be in the address, in a variable or in a service file.
    """
    given = parse_dsn(url.secret)
    if {"connect_timeout", "service"} & set(given):
        return url
    if {"PGCONNECT_TIMEOUT", "PGSERVICE"} & set(environ):
        return url
    from psycopg2.extensions import make_dsn

    whole_s = max(2, round(timeout_s))  # libpq takes integers only, and waits 2 seconds for 1
    return DatabaseUrl(url, make_dsn(url.secret, connect_timeout=whole_s))

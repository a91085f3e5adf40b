"""Open the source that a URL names, and watch the file or server behind it.

The kinds of database are imported inside the functions, so that only the one in use is loaded.
"""

from __future__ import annotations

import io

from ..options.config import Config
from .protocol import Snapshot, Source


def open_source(
    config: Config, snapshot: Snapshot | None = None, *, who: str = "", identity: str = ""
) -> Source:
    """Open the database that ``config.url`` names.

    Parameters
    ----------
    config
        The loader's options.
    snapshot
        The snapshot of another source, in order to see what that one sees.
    who
        The name of this connection in the server's list of connections.
    identity
        The identity of the source that read the keys.

    Raises
    ------
    SourceError
        If the database cannot be opened, or is not the one with this identity, because a file was
        replaced or a host name leads to another server now.
    """
    if config.url.is_postgres:
        from .postgres.source import PostgresSource

        return PostgresSource(config, snapshot, who=who, identity=identity)
    from .sqlite.source import SQLiteSource

    return SQLiteSource(config, identity=identity)


def import_driver(config: Config) -> None:
    """Import the library of the database, before `worker_imports` or a transform import anything.

    TensorFlow has copies of SQLite and of a TLS library. A driver that is imported after it would
    call these.
    """
    if config.url.is_postgres:
        from .postgres import source
    else:
        from .sqlite import source  # type: ignore[no-redef]  # noqa: F401


def hold(config: Config) -> io.FileIO | None:
    """Return a descriptor that keeps the identity of a database file from passing to another file.

    It is None for a server, and for a file that cannot be found.
    """
    if config.url.is_postgres:
        return None
    from .sqlite.file import hold as hold_file
    from .sqlite.file import path_of

    try:
        return hold_file(path_of(config))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # opening the database raises the error that explains it


def state_holds(config: Config, state: str) -> bool:
    """Return whether sources still read the rows of this :meth:`~.protocol.Source.state`.

    It is called for each batch, so it only calls ``stat`` (0.01 ms) and opens nothing: closing a
    descriptor of a SQLite file would drop the process's locks, see ``sqlite/file.py``.
    """
    if config.url.is_postgres:
        return True  # the state belongs to a snapshot, which does not change
    from .sqlite.file import file_state, path_of

    return state == file_state(path_of(config))

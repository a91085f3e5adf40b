"""The SQLite file: which one it is, whether it has changed, and how it is opened.

POSIX locks belong to the process. When a process closes any descriptor of a database, of its
``-wal`` or of its ``-shm``, the locks of all its connections to that database are gone, and
another process writes where they read ("How To Corrupt An SQLite Database File", 2.2). So only
SQLite opens these files. Everything else comes from ``stat``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import sqlite3
import time
from typing import NamedTuple
from urllib.parse import quote

from ...errors import SourceError
from ...options.config import Config
from ...system.descriptors import forget_in_children

BUSY_TIMEOUT_S = 30.0
"""How long to wait for a writer that has locked the file."""

TICK_S = 0.02
"""Two changes that are this far apart have different times: the kernel's clock ticks every 0.004 or
0.01 s."""

COARSE_TICK_S = 2.0
"""The same on a file system that keeps whole seconds, as FAT and old versions of NFS do."""

SETTLE_TIMEOUT_S = 0.2
"""How long to wait, beyond a tick, for a file that is being written."""

FUTURE_S = 60.0
"""The clock of a file server may be ahead by less. A time further ahead is not that of a change."""

OPEN_TRIES = 10
"""How often a file is opened anew because another one has taken its place meanwhile."""

VOLATILE = ("random", "randomblob")
"""SQL functions that make a query return other rows each time. Connections refuse them."""


def path_of(config: Config) -> str:
    """Return the path of the database file. Links are resolved, as SQLite does: its other files lie
    beside the real one."""
    return os.path.realpath(config.url.removeprefix("sqlite:///"))


# ---- which file ----------------------------------------------------------------------------------


def identity_of(path: str) -> str:
    """Return which file is at this path now, and who says so: device and inode numbers mean
    something on one machine, in one mount namespace."""
    its = os.stat(path)
    return f"{_observer()} {its.st_dev}:{its.st_ino}"


def check_identity(path: str, identity: str, expected: str) -> None:
    """Raise SourceError if another file than the expected one is at this path.

    Nothing can be said of a file that another machine has seen, such as a copy on another node of a
    cluster, or if one of the identities is "".
    """
    observer, _, file = identity.rpartition(" ")
    other, _, other_file = expected.rpartition(" ")
    if observer == other and file and other_file and file != other_file:
        raise SourceError(
            f"{path}: the file was replaced by another one after the loader had read its keys and "
            f"column types. Make a new loader to read the new file"
        )


def hold(path: str) -> io.FileIO:
    """Return a descriptor that keeps the inode of the file from being used for another file.

    With O_PATH nothing is opened, so closing it drops no locks: see open(2).
    """
    # One bytecode opens and keeps it, so Ctrl-C cannot come between.
    (file,) = map(io.FileIO, map(os.open, [path], [os.O_PATH | os.O_CLOEXEC]))
    forget_in_children(file, io.FileIO.close)
    return file


@functools.cache
def _observer() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}:{os.stat('/proc/self/ns/mnt').st_ino}"
    except (FileNotFoundError, PermissionError):
        return os.uname().nodename


# ---- whether it has changed ----------------------------------------------------------------------


def file_state(path: str) -> str:
    """Return a text that differs after any change to the database, to this table or to another.

    It consists of what ``stat`` says of the file and of its write-ahead log. It may also differ
    where nothing has changed. Two changes within one tick of the clock look like one: see
    :func:`settled_state`.
    """
    found = []
    for name in (path, path + "-wal"):
        with contextlib.suppress(OSError):
            its = os.stat(name)
            # A program may set st_mtime back, but not st_ctime. That of a log says nothing: SQLite
            # sets the owner of a log that root reads, to what it is already.
            ctime_ns = its.st_ctime_ns if name == path else 0
            if its.st_size:
                found.append((its.st_dev, its.st_ino, its.st_size, its.st_mtime_ns, ctime_ns))
    return repr(found)


def settled_state(path: str) -> str:
    """Return :func:`file_state` once the last change is so old that the next one will show, or, for
    a file that is written all the time, a text that is never a state."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        state = file_state(path)
        unsettled_s = _unsettled_s(path)
        if not unsettled_s:
            return state
        if time.monotonic() > deadline:
            return f"changing at {time.time_ns()}"
        time.sleep(unsettled_s)


def _unsettled_s(path: str) -> float:
    """Return after how long the last change will be old enough."""
    left_s = 0.0
    for name in (path, path + "-wal"):
        with contextlib.suppress(OSError):
            changed_ns = os.stat(name).st_mtime_ns
            tick_s = TICK_S if changed_ns % 1_000_000_000 else COARSE_TICK_S
            age_s = time.time() - changed_ns / 1e9
            if -FUTURE_S < age_s < tick_s:
                left_s = max(left_s, min(tick_s, tick_s - age_s))
    return left_s


# ---- how it is opened ----------------------------------------------------------------------------


class Opened(NamedTuple):
    """A connection to a database file.

    identity: of the file.
    unlocked_state: of a file that had to be opened without locks. What is read of it is right as
        long as :func:`file_state` says the same. None for a file with locks.
    """

    connection: sqlite3.Connection
    identity: str
    unlocked_state: str | None


def connect(path: str) -> Opened:
    """Open the file read-only. Raises SourceError."""
    # SQLite itself would create a missing file.
    if not os.path.exists(path):
        raise SourceError(f"{path}: there is no such file (relative paths start at {os.getcwd()})")
    if os.path.isdir(path):
        raise SourceError(f"{path} is a folder; pass the SQLite file in it")
    try:
        for _ in range(OPEN_TRIES):
            before = identity_of(path)
            connection, unlocked_state = _connect(path)
            identity = identity_of(path) if os.path.exists(path) else ""
            if identity == before:
                return Opened(connection, identity, unlocked_state)
            connection.close()  # the file was replaced in between
    except (sqlite3.Error, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # the loader names the limit
        raise SourceError(f"{path}: cannot open it as a SQLite database: {error}") from error
    raise SourceError(f"{path}: the file is replaced all the time; read a copy of it")


def _connect(path: str) -> tuple[sqlite3.Connection, str | None]:
    uri = f"file://{quote(os.fsencode(path))}?mode=ro"
    try:
        return _opened(uri), None
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise
        if _is_filled(path + "-journal"):
            raise sqlite3.OperationalError(
                f"{error}. A transaction was interrupted, and {path}-journal holds what it had "
                f"overwritten. Open the database once where it may be written, with the sqlite3 "
                f"program for example, which undoes that transaction"
            ) from error
        if os.access(os.path.dirname(path), os.W_OK):
            raise
        # A database in WAL mode needs its -shm file. SQLite cannot make it in a folder that is
        # read-only. Without a log there is nothing to share, so the file is complete as it is.
        if _is_filled(path + "-wal"):
            raise sqlite3.OperationalError(
                f"{error}. Its latest changes are in the write-ahead log {path}-wal, and the "
                f"folder is read-only, so SQLite cannot make the -shm file that reading a log "
                f"needs. Run 'PRAGMA wal_checkpoint(TRUNCATE)' where the folder may be written, or "
                f"copy the file with its log to a folder that may be written"
            ) from error
        state = file_state(path)
        return _opened(uri + "&immutable=1"), state


def _is_filled(path: str) -> bool:
    """Return whether there is such a file with something in it."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_size > 0
    return False


def _opened(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    # Bytes that are no UTF-8 are a matter of their row, not of the whole read.
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    try:
        connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    # It is asked when a statement is compiled, also about what a view or a trigger calls.
    connection.set_authorizer(_authorized)
    return connection


def _authorized(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    is_volatile = action == sqlite3.SQLITE_FUNCTION and name in VOLATILE
    return sqlite3.SQLITE_DENY if is_volatile else sqlite3.SQLITE_OK


def words_of(error: sqlite3.Error, key: str) -> str:
    """Return SQLite's words, or ours for a function that is refused. key: the key column."""
    words = str(error)
    if not words.startswith("not authorized to use function"):
        return words
    return (
        f"it calls {words.rpartition(' ')[2]}(), so it returns other rows each time. Pass "
        f"shuffle=True for another order in each epoch; take a sample with a function of the key, "
        f"e.g. WHERE {key} % 10 < 8"
    )

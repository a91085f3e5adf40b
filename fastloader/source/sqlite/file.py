"""The SQLite file: which one it is, whether it has changed, and how it is opened.

POSIX locks belong to the process. When a process closes any descriptor of a database, of its
``-wal`` or of its ``-shm``, all its connections to that database lose their locks, and another
process may write where they read ("How To Corrupt An SQLite Database File", 2.2). So only SQLite
opens these files. Everything else comes from ``stat``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import time
from typing import NamedTuple
from urllib.parse import quote

from ...errors import SourceError
from ...options.config import Config
from ...system.descriptors import forget_in_children
from ._sqlite import Database, SQLiteError

BUSY_TIMEOUT_S = 30.0
"""The time to wait for a writer that has locked the file."""

TICK_S = 0.02
"""Two changes that are this far apart have different timestamps, because the kernel's clock ticks
every 0.004 or 0.01 s."""

COARSE_TICK_S = 2.0
"""The same on a file system that keeps whole seconds, such as FAT and old versions of NFS."""

SETTLE_TIMEOUT_S = 0.2
"""The time to wait, beyond a tick, for a file that is being written."""

FUTURE_S = 60.0
"""The clock of a file server may be ahead by less than this. A timestamp that is further ahead is
not the time of a change."""

OPEN_TRIES = 10
"""The number of times that a file is opened because it was replaced while it was opened."""

BUSY, LOCKED = 5, 6
"""SQLite's codes for a file that a writer has locked."""


def path_of(config: Config) -> str:
    """Return the path of the database file, with links resolved.

    SQLite resolves them too: the ``-wal`` and ``-shm`` files lie next to the real file.
    """
    return os.path.realpath(config.url.removeprefix("sqlite:///"))


# ---- which file ----------------------------------------------------------------------------------


def identity_of(path: str) -> str:
    """Return which file is at this path now, and who observed it.

    Device and inode numbers are only comparable on one machine and in one mount namespace.
    """
    its = os.stat(path)
    return f"{_observer()} {its.st_dev}:{its.st_ino}"


def check_identity(path: str, identity: str, expected: str) -> None:
    """Raise SourceError if another file than the expected one is at this path.

    Identities that were observed on different machines, such as those of copies on the nodes of a
    cluster, cannot be compared and pass. So does "".

    Parameters
    ----------
    path
        The path, for the message.
    identity, expected
        What :func:`identity_of` returned now and for the file that is expected.
    """
    observer, _, file = identity.rpartition(" ")
    other, _, other_file = expected.rpartition(" ")
    if observer == other and file and other_file and file != other_file:
        raise SourceError(
            f"{path}: the file was replaced by another one after the loader read its keys and "
            f"column types. Make a new loader to read the new file"
        )


def inodes_of(path: str, identity: str) -> list[tuple[int, int]]:
    """Return device and inode of each file that only SQLite may open, under whatever name.

    Parameters
    ----------
    path
        The path of the database.
    identity
        The identity of the file that is open, which another file may have replaced at the path.
    """
    device, _, inode = identity.rpartition(" ")[2].partition(":")
    found = [(int(device), int(inode))] if inode else []
    for suffix in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            its = os.stat(path + suffix)
            found.append((its.st_dev, its.st_ino))
    return found


def hold(path: str) -> io.FileIO:
    """Return a descriptor that keeps the file's inode from being used for another file.

    O_PATH does not open the file itself, so closing the descriptor drops no locks; see open(2).
    """
    # A single bytecode opens the file and keeps it, so Ctrl-C cannot leak the descriptor.
    (file,) = map(io.FileIO, map(os.open, [path], [os.O_PATH | os.O_CLOEXEC]))
    forget_in_children(file, io.FileIO.close)
    return file


@functools.cache
def _observer() -> str:
    """Return the boot of this machine and the mount namespace, or the host's name without /proc."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()}:{os.stat('/proc/self/ns/mnt').st_ino}"
    except (FileNotFoundError, PermissionError):
        return os.uname().nodename


# ---- whether it has changed ----------------------------------------------------------------------


def file_state(path: str) -> str:
    """Return a text that is different after any change to the database, even to another table.

    It consists of what ``stat`` says about the file and its write-ahead log. It may also be
    different if nothing has changed. Two changes within one tick of the clock look like one; see
    :func:`settled_state`.
    """
    found = []
    for name in (path, path + "-wal"):
        with contextlib.suppress(OSError):
            its = os.stat(name)
            # A program can set st_mtime back, but not st_ctime. The st_ctime of a log means
            # nothing: when root reads it, SQLite sets its owner to what it already is.
            ctime_ns = its.st_ctime_ns if name == path else 0
            if its.st_size:
                found.append((its.st_dev, its.st_ino, its.st_size, its.st_mtime_ns, ctime_ns))
    return repr(found)


def settled_state(path: str) -> str:
    """Return :func:`file_state` once the last change is so old that the next one will show.

    For a file that is written all the time, return a text that is never a state.
    """
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
    """Return the seconds until the last change is old enough, 0 if it already is."""
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

    Attributes
    ----------
    database
        The connection, which is read-only.
    identity
        The identity of the file; see :func:`identity_of`.
    unlocked_state
        None, or the state of a file that had to be opened without locks. What is read from it is
        right as long as :func:`file_state` returns the same.
    """

    database: Database
    identity: str
    unlocked_state: str | None


def connect(path: str) -> Opened:
    """Open the file read-only.

    Raises
    ------
    SourceError
        If the file does not exist, is not a database or is replaced all the time.
    OSError
        If the process or the system has no descriptor left; see ``system/limits.py``.
    """
    # SQLite's own message names neither the path nor the folder that it is relative to.
    if not os.path.exists(path):
        raise SourceError(f"{path}: no such file (relative paths start at {os.getcwd()})")
    if os.path.isdir(path):
        raise SourceError(f"{path} is a folder; pass the SQLite file in it")
    try:
        for _ in range(OPEN_TRIES):
            before = identity_of(path)
            database, unlocked_state = _connect(path)
            identity = identity_of(path) if os.path.exists(path) else ""
            if identity == before:
                return Opened(database, identity, unlocked_state)
            database.close()  # the file was replaced while it was opened
    except (SQLiteError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise  # limit_error names the limit
        raise SourceError(f"{path}: cannot open it as a SQLite database: {error}") from error
    raise SourceError(f"{path}: the file is replaced again and again; read a copy of it")


def _connect(path: str) -> tuple[Database, str | None]:
    """Return a connection and its ``unlocked_state``. Raises SQLiteError with a remedy."""
    uri = f"file://{quote(os.fsencode(path))}?mode=ro"
    try:
        return _opened(uri), None
    except SQLiteError as error:
        if error.code & 0xFF in (BUSY, LOCKED):
            raise
        if _is_filled(path + "-journal"):
            raise SQLiteError(
                f"{error}. A transaction was interrupted, and {path}-journal holds the pages that "
                f"it overwrote. Open the database once where it can be written, for example with "
                f"the sqlite3 program, to roll that transaction back",
                error.code,
            ) from error
        if os.access(os.path.dirname(path), os.W_OK):
            raise
        # A database in WAL mode needs its -shm file, which SQLite cannot create in a read-only
        # folder. If the log is empty, the database file is complete and can be read without it.
        if _is_filled(path + "-wal"):
            raise SQLiteError(
                f"{error}. The latest changes are in the write-ahead log {path}-wal, and the "
                f"folder is read-only, so SQLite cannot create the -shm file that it needs to read "
                f"a log. Run 'PRAGMA wal_checkpoint(TRUNCATE)' where the folder is writable, or "
                f"copy the file with its log to a writable folder",
                error.code,
            ) from error
        state = file_state(path)
        return _opened(uri + "&immutable=1"), state


def _is_filled(path: str) -> bool:
    """Return whether the file exists and is not empty."""
    with contextlib.suppress(OSError):
        return os.stat(path).st_size > 0
    return False


def _opened(uri: str) -> Database:
    """Return a connection that has read from the file."""
    database = Database(uri, BUSY_TIMEOUT_S)
    try:
        # Finds more of a damaged page before it is used, for 3 % of the time ("Defense Against The
        # Dark Arts").
        database.execute("PRAGMA cell_size_check = ON")
        database.execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except SQLiteError:
        database.close()
        raise
    return database


def words_of(error: SQLiteError, key: str) -> str:
    """Return SQLite's message, or a better one for a function that is refused.

    Parameters
    ----------
    error
        SQLite's error.
    key
        The name of the key column, for the remedy.
    """
    words = str(error)
    if not words.startswith("not authorized to use function"):
        return words
    return (
        f"it calls {words.rpartition(' ')[2]}(), so it returns other rows each time. Pass "
        f"shuffle=True for another order in each epoch; take a sample with a function of the key, "
        f"for example WHERE {key} % 10 < 8"
    )

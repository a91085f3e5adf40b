"""Every exception and warning of fastloader. There is one root, and all can be pickled."""

from __future__ import annotations

import traceback
from typing import Any


class FastloaderError(Exception):
    """The root of all exceptions of this package. Catch it to catch any of them.

    All of them can be pickled. An error that a worker process meets is raised in the training
    process, at the batch that it belongs to.
    """


class ConfigError(FastloaderError, ValueError):
    """An option cannot be used, or what a method was asked for cannot be done with the options.

    The option may be an argument or an environment variable. A missing package, and a limit of the
    system such as that of open files, are reported in the same way. It is a ValueError, too. The
    message names the option and the values that are allowed.
    """


class UsageError(ConfigError, TypeError):
    """The loader was used in a way that it does not support. It is a TypeError, too.

    It is raised for an argument that is no option (``labels=`` instead of ``label=``), and when
    something takes the loader for a list or an array, as ``model.fit(loader)`` and
    ``DataLoader(loader)`` do. The message says what to write instead.
    """


class SourceError(FastloaderError):
    """The database refused, or it does not have what was asked for.

    There is no such file, server, table or column; a column has a type that cannot be used; the
    database is locked or damaged; or a connection was lost and could not be restored in time. The
    message has the database's own words and, where there is one, the remedy.
    """


class PlanError(FastloaderError):
    """The epochs cannot be planned, because of the table's keys or the number of its rows.

    Keys are NULL, not unique or of an unsupported type, or there are too few rows for a batch or
    for the shards. Use another column as `key`, or repair the table.
    """


class StateError(FastloaderError, ValueError):
    """A state cannot be loaded, because it is damaged or belongs to other batches.

    It is a ValueError, too. The message names what is different: the table's keys, or an option
    such as `batch_size`. Make the loader with the options that it had then, or start anew.
    """


class RowError(FastloaderError):
    """A row cannot be delivered, and ``on_error`` is "raise".

    Its image is missing, damaged or too large, a value does not fit its type, or the row is gone.
    Repair the row, or pass ``on_error="skip"`` or ``"fill"``; ``loader.bad_rows`` then lists such
    rows. ``fastloader check`` finds all of them at once.

    Attributes
    ----------
    key : int, str or tuple
        The row's key. A UUID is text. The key of several columns is a tuple.
    reason : str
        What is wrong with the row.

    Examples
    --------
    >>> from fastloader import FastLoader, RowError
    >>> with FastLoader("damaged.db") as loader:
    ...     try:
    ...         for images, labels in loader:
    ...             pass
    ...     except RowError as error:
    ...         print(error.key, error.reason)
    3 empty image (the blob is empty)
    """

    def __init__(self, key: int | str | tuple[int | str, ...], reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return RowError, (self.key, self.reason)  # not args, because Ray appends to them

    def __str__(self) -> str:
        what = f"row with key {self.key}: {self.reason}"
        if NOT_AN_IMAGE in self.reason:  # then most rows are like it
            return what
        return (
            f"{what}. Repair or delete the row, or pass "
            f'on_error="skip" (drop such rows) or "fill" (zeros in their place); '
            f"loader.bad_rows then lists them"
        )


class TransformError(RowError):
    """A function of `transform` has failed on a row or a batch, and ``on_error`` is "raise".

    It has raised an exception, or returned something else than the entries of a batch. The reason
    has the traceback as text, because nothing that a worker sends is unpickled. Repair the
    function, or pass ``on_error="skip"`` or ``"fill"``. A function of batches has the key of the
    batch's first row.

    Attributes
    ----------
    key : int, str or tuple
        The row's key.
    reason : str
        The name of the function, what went wrong, and the traceback.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return TransformError, (self.key, self.reason)

    def __str__(self) -> str:
        return (
            f"row with key {self.key}: {self.reason}\nRepair the function, or pass "
            f'on_error="skip" (drop such rows) or "fill" (zeros in their place). With workers=0 it '
            f"runs in this process, where a debugger can follow it"
        )


class WorkerDied(FastloaderError):
    """A worker process died more often than ``max_restarts`` allows in one epoch.

    SIGKILL usually means that memory ran out: use fewer workers or slots, or a smaller batch. The
    next iteration starts a new process.

    Attributes
    ----------
    worker : int
        The worker's number.
    batch : int
        The first batch that it had not delivered.
    how : str
        Its exit code or signal in words.
    last_words : str
        The end of what it wrote to stderr.
    key : int, str, tuple or None
        The key of the row that a function of `transform` had, or of the first row of its batch;
        None if no such function was running.
    """

    def __init__(
        self,
        worker: int,
        batch: int,
        how: str,
        last_words: str,
        key: int | str | tuple[int | str, ...] | None = None,
    ) -> None:
        super().__init__(worker, batch, how, last_words, key)
        self.worker = worker
        self.batch = batch
        self.how = how
        self.last_words = last_words
        self.key = key

    def __str__(self) -> str:
        said = f" Its last words:\n{self.last_words}" if self.last_words else " It said nothing."
        doing = (
            ""
            if self.key is None
            else f" while a function of transform had the row with key {self.key},"
        )
        return (
            f"worker {self.worker} {self.how}{doing} before it delivered batch {self.batch}, and "
            f"max_restarts is used up. SIGKILL usually means that memory ran out: use fewer "
            f"workers or slots, or a smaller batch_size.{said}"
        )


class WorkerError(FastloaderError):
    """A worker raised an exception that fastloader did not expect, which is a bug.

    The message is its traceback. Please report it.
    """


class SupersededError(FastloaderError):
    """An iterator was used after a newer iteration of the same loader had begun.

    A loader serves one iteration at a time. For two at once, make two loaders.
    """


class ClosedError(FastloaderError, ValueError):
    """The loader was closed, or belongs to another process. It is a ValueError, too.

    In a fork of the process that made the loader, make another one.
    """


class CopyError(FastloaderError, TypeError):
    """A loader cannot be copied, nor pickled for another process. It is a TypeError, too.

    ``copy.deepcopy`` and a DataLoader with spawned workers try to. Make a loader in each process,
    with the same options.
    """


class FastloaderWarning(UserWarning):
    """Something works, but not as well as it could, or not as it was probably meant.

    No index serves the keys, the server compresses images for nothing, or an environment variable
    is misspelled and has no effect. The message says what to do. Filter it as any other warning:
    ``warnings.filterwarnings("error", category=FastloaderWarning)`` makes it an error.
    """


CLOSED = "the loader is closed: make a new FastLoader"
"""The message of ClosedError."""

NOT_AN_IMAGE = "not the bytes of an image"
"""In the reasons for rows whose column was filled with something else than images."""

THE_PATH = "; path "
"""In the reasons for rows whose file was not read, before the file's path."""

KERNEL_STATUS: dict[int, tuple[str, str]] = {
    1: ("partial image", ""),
    2: ("empty image", ""),
    3: ("unknown image format", ""),
    4: ("corrupt image", ""),
    5: ("truncated image", ""),
    6: ("unsupported image", ""),
    7: ("image too large", "raise max_pixels to allow it"),
    8: ("image too complex", "raise max_scans or max_chunks to allow it"),
    9: ("out of memory", "use fewer workers or a smaller batch_size"),
    10: (
        'values that filter="nearest" would not keep',
        "store class numbers as 8-bit gray; for colors pass channels=3 or another filter",
    ),
}
"""For every fl_status of csrc/kernel.h, the words before the kernel's own message, and what a user
can do about it."""

PARTIAL = 1
"""The status of an image that was decoded although its blob ends early or is damaged. What is
missing is gray."""

NO_MEMORY = 9
"""The status of an image that may be good, because the machine ran out of memory."""

OTHER_VALUES = 10
"""The status of an image whose stored values ``filter="nearest"`` would not keep."""

UNKNOWN_FORMAT = 3
"""The status of a blob in a format that the kernel does not decode."""


def kernel_reason(status: int, message: str) -> str:
    """Return the reason for a bad or partial row, from the kernel's status and message."""
    name, advice = KERNEL_STATUS[status]
    return f"{name} ({message}{'; ' + advice if advice else ''})"


def unexpected(error: Exception) -> FastloaderError:
    """Return the error itself if it is fastloader's, or else a WorkerError with its traceback."""
    if isinstance(error, FastloaderError):
        return error
    return WorkerError("".join(traceback.format_exception(error)))

"""Everything that fastloader raises. One root, all of them picklable."""

from __future__ import annotations

import traceback
from typing import Any


class FastloaderError(Exception):
    """The root of all exceptions of this package."""


class ConfigError(FastloaderError, ValueError):
    """An option, given as an argument or in an environment variable, cannot be used."""


class SourceError(FastloaderError):
    """The database refused: no such file, table or column, or it is locked or unreadable."""


class PlanError(FastloaderError):
    """The keys cannot be planned: there are none, or they are NULL, duplicate or unsupported."""


class StateError(FastloaderError, ValueError):
    """A state was saved by a loader with other batches, or is not a state at all."""


class RowError(FastloaderError):
    """A row cannot be delivered, and ``on_error`` is "raise".

    Attributes
    ----------
    key
        The row's key. A uuid is text.
    reason
        What is wrong with the row.
    """

    def __init__(self, key: int | str, reason: str) -> None:
        super().__init__(key, reason)
        self.key = key
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return RowError, (self.key, self.reason)  # not args, because Ray appends to them

    def __str__(self) -> str:
        return (
            f"row with key {self.key}: {self.reason}. Repair or delete the row, or pass "
            f'on_error="skip" (drop such rows) or "fill" (zeros in their place); '
            f"loader.bad_rows then lists them"
        )


class WorkerDied(FastloaderError):
    """A worker process died more often than ``max_restarts`` allows in one epoch.

    Attributes
    ----------
    worker
        The worker's number.
    batch
        The first batch that it had not delivered.
    how
        Its exit code or signal in words.
    last_words
        The end of what it wrote to stderr.
    """

    def __init__(self, worker: int, batch: int, how: str, last_words: str) -> None:
        super().__init__(worker, batch, how, last_words)
        self.worker = worker
        self.batch = batch
        self.how = how
        self.last_words = last_words

    def __str__(self) -> str:
        said = f" Its last words:\n{self.last_words}" if self.last_words else " It said nothing."
        return (
            f"worker {self.worker} {self.how} before it delivered batch {self.batch}, and "
            f"max_restarts is used up. SIGKILL usually means that memory ran out: use fewer "
            f"workers or slots, or a smaller batch_size.{said}"
        )


class WorkerError(FastloaderError):
    """A worker raised an exception that fastloader did not expect, which is a bug.

    The message is its traceback.
    """


class SupersededError(FastloaderError):
    """An iterator was used after a newer iteration of the same loader had begun."""


class ClosedError(FastloaderError, ValueError):
    """The loader was closed, or belongs to another process."""


class CopyError(FastloaderError, TypeError):
    """A loader cannot be copied, and it cannot be pickled for another process."""


class FastloaderWarning(UserWarning):
    """Something works, but not as well as it could."""


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

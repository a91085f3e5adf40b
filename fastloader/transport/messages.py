"""What the two processes on a pipe say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import (
    ConfigError,
    FastloaderError,
    PlanError,
    RowError,
    SourceError,
    TransformError,
    WorkerError,
)
from ..observe.clock import Span
from ..observe.stats import Pictures
from ..plan.keys import Key, Keys, key_values

SURVEY, SPEC, FREE, START = 1, 2, 3, 4  # from the loader
SURVEYED, READY, ERROR, AWAKE = 5, 6, 7, 8  # from the worker

NEVER = -1
"""The epoch of an error that does not belong to a batch."""


class Record(NamedTuple):
    """One message on a pipe, in either direction.

    ``kind`` says which of these it is. Fields that a kind does not name are 0. A payload is a value
    that :func:`fastloader.transport.serial.pack` has packed.

    * SURVEY: payload, the Config. To the process that surveys.
    * SPEC: payload, the worker's Specification. Sent once, before all that follow.
    * FREE: slot.
    * START: run, the number of the run; epoch and batch, from which on the worker makes all of its
      batches, of this epoch and of those that follow. It drops whatever else it was doing.
      first_row, the number of rows of this epoch that its batch 0 begins after; payload, the
      Portion of a mixture that the worker's loader is in, if it is in one.
    * AWAKE: the process that surveys has started. Its first record.
    * SURVEYED: payload, the Survey. The keys are in the plan's memory.
    * READY: run, epoch, batch, slot; payload, the rest of the batch as Filled; tail, the items that
      have no room in the slot.
    * ERROR: run, epoch and batch that cannot be delivered; payload, the exception as Failure. The
      worker waits for the next START. With epoch NEVER it could not begin at all, and ends.
    """

    kind: int
    run: int = 0
    epoch: int = 0
    batch: int = 0
    slot: int = 0
    payload: bytes = b""
    tail: bytes = b""
    first_row: int = 0


_BY_NAME: dict[str, type[FastloaderError]] = {
    cls.__name__: cls
    for cls in (ConfigError, SourceError, PlanError, RowError, TransformError, WorkerError)
}


class Failure(NamedTuple):
    """An exception on its way to the loader: the name of its class and its arguments.

    Only classes of :mod:`fastloader.errors` travel.
    """

    name: str
    arguments: tuple[Key, ...]

    @classmethod
    def of(cls, error: FastloaderError) -> Failure:
        """Return the exception as plain data."""
        return cls(type(error).__name__, error.args)

    def error(self) -> FastloaderError:
        """Return the exception.

        Raises
        ------
        KeyError
            No such exception travels.
        TypeError
            The exception takes other arguments.
        """
        return _BY_NAME[self.name](*self.arguments)


class Turn(NamedTuple):
    """One iteration of the loader.

    A run is a series of epochs, each of which began when all of the one before it had been handed
    out. A worker proceeds from one epoch of a run to the next by itself.

    Attributes
    ----------
    run
        The number of the run.
    epoch
        The epoch.
    first_row
        The number of rows of the epoch that its batch 0 begins after: 0, unless it is the rest of
        an epoch that began with other batches.
    """

    run: int
    epoch: int
    first_row: int = 0


class Times(NamedTuple):
    """What a batch has cost its worker, in seconds: each stage, and CPU time of all threads."""

    fetch_s: float = 0.0
    source_wait_s: float = 0.0
    decode_s: float = 0.0
    transform_s: float = 0.0
    slot_wait_s: float = 0.0
    cpu_s: float = 0.0


NO_TIMES = Times()


@dataclass
class Filled:
    """What a slot holds now, and what belongs to the batch but has no place in a slot.

    Attributes
    ----------
    rows
        How many rows are delivered.
    bad
        (key, reason) of the rows that were dropped or filled.
    partial
        (key, reason) of the rows whose images end early and were filled up with gray.
    spilled
        The ragged columns whose items have no room in the slot, with the bytes of their items,
        which the tail holds in this order.
    dropped
        Rows that a transform has dropped.
    passed_over
        Rows in the key ranges that are not in the plan: new since the keys were read.
    reconnects
        How often the source has reconnected since the last batch.
    cached
        Rows that came out of the cache.
    images
        What was decoded, by format.
    spans
        If there is a trace: the spans of the worker's clock since the last batch, and those of its
        fetching thread.
    notes
        What the log should say once about the cache's file. A note is in every batch from then on.
    times
        What the batch has cost.
    tail
        The items of the columns in ``spilled``. It follows the others on a pipe.
    """

    rows: int
    bad: list[tuple[Key, str]] = field(default_factory=list)
    partial: list[tuple[Key, str]] = field(default_factory=list)
    spilled: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    passed_over: int = 0
    reconnects: int = 0
    cached: int = 0
    images: dict[str, Pictures] = field(default_factory=dict)
    spans: list[list[Span]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    times: Times = NO_TIMES
    tail: bytes = b""

    def fits(self, batch_size: int) -> bool:
        """Return whether these can be the rows of a batch with room for ``batch_size``."""
        sizes = self.spilled.values()
        return (
            0 <= self.rows <= batch_size
            and all(size >= 0 for size in sizes)
            and sum(sizes) == len(self.tail)
        )

    def parts(self) -> dict[str, memoryview]:
        """Return the items of each column in ``spilled``."""
        found, rest = {}, memoryview(self.tail)
        for name, size in self.spilled.items():
            found[name], rest = rest[:size], rest[size:]
        return found


def by_key(keys: Keys, reasons: dict[int, str]) -> list[tuple[Key, str]]:
    """Return (key, reason) in the order of the positions.

    Parameters
    ----------
    reasons
        By position in ``keys``.
    """
    positions = sorted(reasons)
    shown = key_values(keys[positions]) if positions else []
    return [(key, reasons[i]) for key, i in zip(shown, positions, strict=True)]

"""What a loader asks of those that make its batches.

A feeder gives out some of a loader's batches. There are two that keep a ring:
:class:`fastloader.consumer.supervisor.Supervisor` has a worker process fill it, and
:class:`fastloader.consumer.in_process.InProcess` fills it in the thread that asks for a batch. The
feeder of a mixture, :class:`fastloader.consumer.mixed.Mixed`, takes batches from other loaders. All
live in the training process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from ..batches.schema import Arrays, Schema
from ..options.config import Config
from ..plan.mixture import Portion
from ..plan.plan import Plan
from ..transport.messages import Filled, Turn
from ..transport.process import Process
from ..transport.ring import Ring


class Taken(NamedTuple):
    """A batch on its way from a ring to the consumer.

    Attributes
    ----------
    arrays
        The columns of the batch: views of its slot, or copies.
    filled
        What a slot cannot hold: text, bad rows, times.
    """

    arrays: Arrays
    filled: Filled


class Feeder(Protocol):
    """Gives out some of the batches of a loader.

    Several threads may use it. A signal handler may call :meth:`stop` and :meth:`close`, whatever
    it has interrupted.
    """

    @property
    def process(self) -> Process | None:
        """The process that fills the ring; None if this one does."""

    def begin(self, turn: Turn, first_batch: int) -> None:
        """Prepare to give out the batches of an epoch, from the first one on.

        In the run that is under way, the epoch follows the last one and its batches are being made
        already. For another run, drop what is under way and start there.
        """

    def take(self, turn: Turn, batch: int) -> Taken:
        """Wait for a batch and return it.

        Raises
        ------
        SupersededError
            Another turn has begun.
        ClosedError
            The keeper was stopped.
        FastloaderError
            The batch cannot be delivered.
        """

    def peek(self, turn: Turn, batch: int) -> Taken | None:
        """Wait for a batch and return a copy of it, which :meth:`take` still returns afterwards.

        A feeder makes at least the first of its batches that nobody has taken, whatever the
        consumer holds. It may never make a later one without a :meth:`take`.

        Returns
        -------
        Taken or None
            None if the batch was taken already.

        Raises
        ------
        SupersededError, ClosedError, FastloaderError
            As :meth:`take`.
        """

    def poll(self, turn: Turn, batch: int) -> bool:
        """Return whether :meth:`take` would return or raise without waiting."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when :meth:`poll` may have a new answer."""

    def stop(self) -> None:
        """Tell the process, and all threads that wait, to end. Does not wait for them."""

    def close(self, *, patient: bool = True) -> None:
        """Release everything, after :meth:`stop`.

        It may be called twice, and in the middle of itself.

        Parameters
        ----------
        patient
            Wait for what is ending.
        """


class Keeper(Feeder, Protocol):
    """The keeper of one ring.

    Attributes
    ----------
    ring
        The ring that it fills.
    """

    ring: Ring

    def join(self, portion: Portion) -> None:
        """Make a part of a mixture in all turns that begin from now on, for good."""


class Budget(Protocol):
    """The restarts of workers; see :class:`fastloader.consumer.restarts.RestartBudget`."""

    @property
    def total(self) -> int:
        """Workers that were replaced so far."""

    def begin(self) -> None:
        """Begin an epoch, with the full budget."""


class Staff(Protocol):
    """Who makes the batches that a :class:`~fastloader.consumer.delivery.Delivery` hands out.

    There are two: :class:`fastloader.consumer.crew.Crew`, which reads a table, and
    :class:`fastloader.consumer.mixed.Mixers`.

    Attributes
    ----------
    is_mixture
        Whether batches are those of other loaders, which report what is wrong with them.
    config
        The options in force.
    plan
        The plan of this loader's shard.
    schema
        What a batch holds.
    """

    is_mixture: bool
    config: Config
    plan: Plan
    schema: Schema

    @property
    def rows(self) -> int:
        """The number of rows to load."""

    @property
    def feeders(self) -> Sequence[Feeder]:
        """Batch ``j`` comes from feeder ``j % len(feeders)``."""

    @property
    def budget(self) -> Budget:
        """The restarts of all workers."""

    @property
    def rings(self) -> list[Ring]:
        """The rings that batches lie in."""

    def about(self) -> dict[str, Any]:
        """Return everything that decides about the batches of an epoch, ready for JSON."""

    def before_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called on closing, while the rings still exist. It may run twice."""

    def close(self, *, patient: bool = True) -> None:
        """End the processes and release everything."""

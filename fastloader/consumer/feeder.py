"""What a loader asks of the keeper of one ring.

There are two keepers. :class:`fastloader.consumer.supervisor.Supervisor` has a worker process fill
the ring; :class:`fastloader.consumer.in_process.InProcess` fills it in the thread that asks for a
batch. Both live in the training process.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from ..batches.schema import Arrays
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
    """The keeper of one ring.

    Several threads may use it. A signal handler may call :meth:`stop` and :meth:`close`, whatever
    it has interrupted.

    Attributes
    ----------
    ring
        The ring that the keeper fills.
    """

    ring: Ring

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

"""What a worker has announced and nobody has taken yet.

The inbox runs in the training process, inside the gate of the worker's supervisor. It knows no
process, no pipe and no lock, so a test can feed it records in any order (``tests/test_inbox.py``).

Every slot of a ring is in exactly one place. The worker has it, or the inbox has it, or it is
leased to the consumer. Each change of place is one record or one call: READY moves a slot from the
worker to the inbox; :meth:`Inbox.take` moves it to the caller; the slots that :meth:`Inbox.put` and
:meth:`Inbox.begin` return are the worker's again, once the caller has sent FREE.

Workers decode hostile bytes, so what they send is not trusted. A record that would put a slot in
two places, or announce a batch twice, raises PipeBroken and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..errors import FastloaderError
from ..transport.messages import ERROR, NEVER, READY, Failure, Filled, Record
from ..transport.pipes import PipeBroken
from ..transport.serial import unpack


class Announced(NamedTuple):
    """What a worker has announced for one batch.

    Attributes
    ----------
    slot
        The slot that holds the batch; None for an error.
    what
        The rest of the batch, or the error in its place.
    """

    slot: int | None
    what: Filled | FastloaderError


class Inbox:
    """The announcements of one worker, for the run that is under way.

    A call that was cut short, as by Ctrl-C, leaves the inbox usable but may forget a record. The
    worker then has to be replaced: the new one gets all slots but :attr:`slots` and those that are
    leased, and starts at :attr:`expected`. It may announce again what is in the inbox already.

    Parameters
    ----------
    workers
        The number of workers, which is the distance between two batches of this one.
    batch_size
        The number of rows that a slot has room for.
    is_the_workers
        Whether there is such a slot and it is not leased.

    Attributes
    ----------
    run
        The run of iterations that is under way. Records of any other run are out of date.
    expected
        Epoch and batch: the worker has announced all of its batches before this one, and none from
        here on.
    """

    def __init__(
        self, *, workers: int, batch_size: int, is_the_workers: Callable[[int], bool]
    ) -> None:
        self._workers = workers
        self._batch_size = batch_size
        self._is_the_workers = is_the_workers
        self._announced: dict[tuple[int, int], Announced] = {}  # by epoch and batch
        self.run = 0
        self.expected = (0, 0)

    @property
    def slots(self) -> set[int]:
        """The slots whose batches were announced and not taken."""
        return set(_slots_of(self._announced.values()))

    def __contains__(self, where: tuple[int, int]) -> bool:
        """Return whether there is an announcement for an epoch and a batch."""
        return where in self._announced

    def begin(self, run: int, epoch: int, first_batch: int) -> list[int]:
        """Begin another run, and return the slots of the older one, which are free now."""
        stale, self._announced = self._announced, {}
        self.run, self.expected = run, (epoch, first_batch)
        return _slots_of(stale.values())

    def put(self, record: Record) -> list[int]:
        """Take in a record, and return the slots that are free again because of it.

        Raises
        ------
        PipeBroken
            The worker must not have sent such a record.
        FastloaderError
            The worker could not begin at all; this is what it says.
        """
        announced = self._understood(record)
        if isinstance(announced.what, FastloaderError) and record.epoch == NEVER:
            raise announced.what
        if record.run != self.run:
            return _slots_of([announced])
        where = (record.epoch, record.batch)
        if where < self.expected:
            raise PipeBroken
        # The same batch of a worker that was replaced makes way for this one.
        older = self._announced.get(where)
        self._announced[where] = announced
        # Only now, or a batch that nobody has might never be made again.
        self.expected = (record.epoch, record.batch + self._workers)
        return [] if older is None else _slots_of([older])

    def take(self, where: tuple[int, int]) -> Announced | None:
        """Remove and return what was announced for an epoch and a batch; None if nothing was."""
        return self._announced.pop(where, None)

    def look(self, where: tuple[int, int]) -> Announced | None:
        """Return what was announced for an epoch and a batch, and leave it here."""
        return self._announced.get(where)

    def was_taken(self, where: tuple[int, int]) -> bool:
        """Return whether a batch was announced, and then taken."""
        return where < self.expected and where not in self._announced

    def clear(self) -> None:
        """Drop all announcements, for good."""
        self._announced.clear()

    def _understood(self, record: Record) -> Announced:
        """Return what a record announces, or raise PipeBroken if it makes no sense."""
        try:
            if record.kind == ERROR:
                return Announced(None, unpack(record.payload, Failure).error())
            if record.kind == READY and self._may_announce(record.slot):
                filled = unpack(record.payload, Filled)
                filled.tail = record.tail
                if filled.fits(self._batch_size):
                    return Announced(record.slot, filled)
        except Exception as error:
            raise PipeBroken from error
        raise PipeBroken

    def _may_announce(self, slot: int) -> bool:
        """Return whether the worker may announce a batch in this slot."""
        return self._is_the_workers(slot) and slot not in self.slots


def _slots_of(announcements: Iterable[Announced]) -> list[int]:
    return [its.slot for its in announcements if its.slot is not None]

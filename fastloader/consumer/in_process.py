"""Fills a ring without a worker process, in the thread that asks for a batch."""

from __future__ import annotations

from functools import partial

from ..plan.mixture import Portion
from ..system.limits import limits_named
from ..transport.memory import create_memory
from ..transport.messages import Filled, Turn
from ..transport.process import Process
from ..transport.ring import Layout, Ring
from ..worker.producer import Producer
from .feeder import Taken
from .gate import Gate


class InProcess(Gate):
    """The keeper of the ring with ``workers=0``. See :class:`fastloader.consumer.feeder.Feeder`.

    Parameters
    ----------
    producer
        Makes the batches.
    layout
        What a slot of the new ring holds.
    slots
        How many slots it has.
    """

    process: Process | None = None

    def __init__(self, producer: Producer, layout: Layout, slots: int) -> None:
        super().__init__()
        with create_memory("ring") as memory:
            self.ring = Ring(memory, layout, slots, allocate=True)
        self._producer = producer
        # What the producer makes next: run, epoch and batch. None if that is not known, because it
        # was not told yet, or was cut short, as by Ctrl-C.
        self._next: tuple[int, int, int] | None = None
        # A batch that was made for peek() and not taken yet: what it is, its slot, the rest of it.
        self._made: tuple[tuple[int, int, int], int, Filled] | None = None

    def join(self, portion: Portion) -> None:
        """See :meth:`fastloader.consumer.feeder.Keeper.join`."""
        self._producer.join(portion)

    def begin(self, turn: Turn, first_batch: int) -> None:  # noqa: ARG002 # take() names the batch
        """See :meth:`fastloader.consumer.feeder.Feeder.begin`."""
        self._turn = turn  # a batch that is being filled for an older turn notices

    def take(self, turn: Turn, batch: int) -> Taken:
        """See :meth:`fastloader.consumer.feeder.Feeder.take`."""
        return self._run(partial(self._take, turn, batch))

    def peek(self, turn: Turn, batch: int) -> Taken | None:
        """See :meth:`fastloader.consumer.feeder.Feeder.peek`."""
        return self._run(partial(self._peek, turn, batch))

    def _take(self, turn: Turn, batch: int) -> Taken:
        self._check(turn)
        slot, filled = self._make(turn, batch)
        self._made = None
        return Taken(self.ring.hand_out(slot, filled.rows, filled.parts())[0], filled)

    def _peek(self, turn: Turn, batch: int) -> Taken | None:
        self._check(turn)
        where = (turn.run, turn.epoch, batch)
        is_made = self._made is not None and self._made[0] == where
        is_next = self._next is None or self._next[0] != turn.run or where >= self._next
        if not (is_made or is_next):
            return None
        slot, filled = self._make(turn, batch)
        self._made = (where, slot, filled)
        return Taken(self.ring.copied(slot, filled.rows, filled.parts()), filled)

    def _make(self, turn: Turn, batch: int) -> tuple[int, Filled]:
        """Return the slot that the batch is in and the rest of it, made now if it was not yet."""
        where = (turn.run, turn.epoch, batch)
        if self._made is not None and self._made[0] == where:
            return self._made[1:]
        self._made = None
        if self._next != where:
            self._producer.start(turn.epoch, batch, first_row=turn.first_row)
        self._next = None
        self.ring.take_back()
        slot = next(s for s in range(self.ring.slots) if self.ring.is_the_workers(s))
        with limits_named(f"make batch {batch}"):
            filled = self._producer.fill(
                self.ring.slot(slot), lambda: self._is_shut or turn != self._turn
            )
        self._check(turn)
        assert filled is not None, f"no batch {batch}"
        self._next = (turn.run, *self._producer.following)
        return slot, filled

    def poll(self, turn: Turn, batch: int) -> bool:  # noqa: ARG002 # take() never waits for others
        """See :meth:`fastloader.consumer.feeder.Feeder.poll`."""
        return True

    def fileno(self) -> int:
        """Return -1: there is nothing to wait for."""
        return -1

    def stop(self) -> None:
        """See :meth:`fastloader.consumer.feeder.Feeder.stop`."""
        self._is_shut = True
        self._producer.interrupt()

    def _put_away(self, *, patient: bool = True) -> None:
        self._producer.close(patient=patient)
        self.ring.close()

    def __repr__(self) -> str:
        return f"<InProcess, {'closed' if self._is_shut else 'open'}>"

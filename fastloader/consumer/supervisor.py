"""Keeps a ring filled by a worker process, which it starts and replaces.

It gives out the batches of one epoch at a time, while the worker is at work on those of the next
one.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from ..errors import FastloaderError, WorkerDied, from_json
from ..system.descriptors import standard_files_taken
from ..system.limits import limits_named
from ..transport import messages, pipes
from ..transport.memory import create_memory
from ..transport.messages import Filled, Record, Turn
from ..transport.process import CHECK_S, Process, end
from ..transport.ring import Layout, Ring
from .feeder import Gate, RestartBudget, Taken


class Announced(NamedTuple):
    """What a worker has sent: a batch in a slot, or the error in its place. run: that it is of."""

    run: int
    slot: int | None
    what: Filled | FastloaderError


class Supervisor(Gate):
    """One worker process and its ring. See :class:`fastloader.consumer.feeder.Feeder`.

    Nobody waits inside its gate, which guards the announced batches, the leases and the process.

    The process starts at once, so that it is awake when :meth:`configure` tells it what to do.
    """

    ring: Ring

    def __init__(self, worker: int, workers: int, plan: io.FileIO, budget: RestartBudget) -> None:
        super().__init__()
        self._worker = worker
        self._workers = workers
        self._plan = plan
        self._budget = budget
        self._memory = create_memory(f"ring-{worker}")
        self._expected = (0, 0)  # from which epoch and batch on the worker has announced nothing
        self._ready: dict[tuple[int, int], Announced] = {}  # announced, by epoch and batch
        # False while something is being done that leaves a worker of no use if it is cut short:
        # Ctrl-C may come between any two steps. Then there has to be a new one.
        self._is_sound = True
        self._process = self._started()

    def configure(self, spec: bytes, layout: Layout, slots: int) -> None:
        """Allocate the ring and tell the worker. Raises ConfigError without memory for it."""
        self.ring = Ring(self._memory, layout, slots, allocate=True)
        self._spec = spec
        self._introduce(range(slots))

    @property
    def process(self) -> Process:
        """The worker's process, which is another one once it has been replaced."""
        return self._process

    def begin(self, turn: Turn, first_batch: int) -> None:
        """See :meth:`fastloader.consumer.feeder.Feeder.begin`."""
        self._run(partial(self._begin, turn, first_batch))

    def take(self, turn: Turn, batch: int) -> Taken:
        """See :meth:`fastloader.consumer.feeder.Feeder.take`."""
        taken = self._run(partial(self._take, turn, batch))
        while taken is None:
            # Another thread may hear the worker first, or close the pipe: so for a limited time.
            is_silent = not self._process.channel.wait(CHECK_S)
            taken = self._run(partial(self._take, turn, batch, hear=True, is_silent=is_silent))
        self._process.log_output()
        return taken

    def poll(self, turn: Turn, batch: int) -> bool:
        """See :meth:`fastloader.consumer.feeder.Feeder.poll`."""
        return self._run(partial(self._poll, turn, batch))

    def fileno(self) -> int:
        """See :meth:`fastloader.consumer.feeder.Feeder.fileno`."""
        return self._process.channel.fileno()

    def stop(self) -> None:
        """See :meth:`fastloader.consumer.feeder.Feeder.stop`."""
        self._is_shut = True
        self._process.channel.shut_down()

    def _put_away(self, *, patient: bool = True) -> None:
        # There may be one that was started while the others were told to end.
        self._process.kill(patient=patient)
        self._process.close()
        self._memory.close()
        self._ready.clear()
        if hasattr(self, "ring"):  # or configure() was never reached
            self.ring.close()

    # ---- batches -----------------------------------------------------------------------------

    def _begin(self, turn: Turn, first_batch: int) -> None:
        was_sound, self._is_sound = self._is_sound, False
        restart = turn.run != self._turn.run
        self._turn = turn
        if restart:
            self._expected = (turn.epoch, first_batch)
            stale, self._ready = self._ready, {}
            self._free_slots_of(stale.values())
            self._send(Record(messages.START, *turn, first_batch))
        self._is_sound = was_sound

    def _take(
        self, turn: Turn, batch: int, *, hear: bool = False, is_silent: bool = False
    ) -> Taken | None:
        """The batch, or None if it is not there yet. hear: take in first what the worker has said.
        is_silent: it has said nothing for so long that it may have ended."""
        self._check(turn)
        if not self._is_sound:
            self._replace()
            self._check(turn)
        self._is_sound = False
        if slots := self.ring.take_back():
            self._free(slots)
        where = (turn.epoch, batch)
        if hear and not self._hear(is_silent=is_silent) and where not in self._ready:
            self._bury(batch)
        announced = self._ready.pop(where, None)
        taken = None
        if announced is not None and isinstance(announced.what, Filled):
            taken = self._hand_over(announced.slot, announced.what)
        self._is_sound = True
        if announced is not None and isinstance(announced.what, FastloaderError):
            raise announced.what
        return taken

    def _poll(self, turn: Turn, batch: int) -> bool:
        if self._is_shut or turn != self._turn or not self._is_sound:
            return True
        self._is_sound = False
        self._free(self.ring.take_back())
        has_ended = not self._hear(is_silent=True)
        self._is_sound = True
        return has_ended or (turn.epoch, batch) in self._ready

    def _hear(self, *, is_silent: bool) -> bool:
        """Take in what the worker has announced. Returns whether it still runs, as far as is known:
        the end of the pipe says so at once, unless a fork keeps it open."""
        has_ended = is_silent and self._process.has_ended()
        try:
            for record in self._process.channel.received():
                self._put(record)
        except (EOFError, pipes.PipeBroken):
            has_ended = True
        self._process.take_output()
        return not has_ended

    def _put(self, record: Record) -> None:
        announced = self._understood(record)
        if isinstance(announced.what, FastloaderError) and record.epoch == messages.NEVER:
            raise announced.what
        if record.run != self._turn.run:
            self._free_slots_of([announced])
            return
        # In its place there may be the same batch of a worker that was replaced, which makes way.
        where = (record.epoch, record.batch)
        older = self._ready.pop(where, None)
        self._ready[where] = announced
        # Only now, or a batch that nobody has might never be made again.
        self._expected = (record.epoch, record.batch + self._workers)
        if older is not None:
            self._free_slots_of([older])

    def _understood(self, record: Record) -> Announced:
        """What a record says. Raises PipeBroken if it says nothing: workers decode hostile bytes,
        so what they send is not trusted either."""
        slot, fits = record.slot, record.rows <= self.ring.layout.batch_size
        try:
            if record.kind == messages.ERROR:
                return Announced(record.run, None, from_json(record.payload))
            if record.kind == messages.READY and fits and self.ring.is_the_workers(slot):
                return Announced(record.run, slot, Filled.from_payload(record.rows, record.payload))
        except Exception as error:
            raise pipes.PipeBroken from error
        raise pipes.PipeBroken

    def _hand_over(self, slot: int | None, filled: Filled) -> Taken:
        assert slot is not None
        arrays, leased = self.ring.hand_out(slot, filled.rows)
        if not leased:
            self._free([slot])
        return Taken(arrays, filled)

    def _free_slots_of(self, those: Iterable[Announced]) -> None:
        self._free([its.slot for its in those if its.slot is not None])

    def _free(self, slots: Iterable[int]) -> None:
        if records := [Record(messages.FREE, slot=slot) for slot in slots]:
            self._send(*records)

    def _send(self, *records: Record) -> None:
        # To a worker that is dead or closed: the next one who reads finds out, and says so.
        with contextlib.suppress(BrokenPipeError):
            self._process.channel.send(*records)

    # ---- the process -------------------------------------------------------------------------

    def _started(self) -> Process:
        name = f"worker {self._worker}"
        return Process("fastloader.worker.worker", [self._memory, self._plan], name=name)

    def _introduce(self, free: Iterable[int]) -> None:
        free_slots = (Record(messages.FREE, slot=slot) for slot in free)
        self._send(Record(messages.SPEC, payload=self._spec), *free_slots)

    def _bury(self, batch: int) -> None:
        """The worker died on its own: replace it, or give up."""
        if self._is_shut:
            return
        self._process.channel.shut_down()  # it may live, and have sent what is no record
        end([self._process])
        if not self._budget.spend():
            # It stays unsound: a later epoch starts with a new process and a new budget.
            raise WorkerDied(self._worker, batch, self._process.how, self._process.last_words)
        self._replace()

    def _replace(self) -> None:
        """Start a new process, which goes on at the first batch that the old one had not
        announced."""
        self._process.kill()
        self._process.close()
        if self._is_shut:
            return
        with limits_named(f"start worker {self._worker} again"), standard_files_taken():
            process = self._started()
        self._process = process
        self.ring.take_back()
        kept = self.ring.leased | {its.slot for its in self._ready.values()}
        self._introduce(slot for slot in range(self.ring.slots) if slot not in kept)
        self._send(Record(messages.START, self._turn.run, *self._expected))

    def __repr__(self) -> str:
        state = "closed" if self._is_shut else f"process {self._process.pid}"
        return f"<Supervisor of worker {self._worker}, {state}>"

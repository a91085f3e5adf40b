"""Keeps a ring filled: by a worker process that it starts and replaces, or in this process.

Both kinds have the same methods. Both give out the batches of one epoch at a time, and are at work
on those of the next one meanwhile.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from . import pipes
from .errors import ClosedError, FastloaderError, SupersededError, WorkerDied, from_json
from .pipes import Record
from .process import Process
from .producer import Filled, Producer
from .ring import Arrays, Layout, Ring, create_memory

NOTHING = Record(0)


class Taken(NamedTuple):
    """A batch on its way to the consumer: its columns in the ring, and the rest of it."""

    arrays: Arrays
    filled: Filled


class Turn(NamedTuple):
    """One iteration of the loader: its epoch, in a run of epochs each of which began when all of
    the one before it had been handed out. A worker goes from one to the next by itself."""

    run: int
    epoch: int


class Feeder(Protocol):
    """What a loader asks of one ring's keeper. Safe to use from several threads."""

    ring: Ring

    def begin(self, turn: Turn, first_batch: int) -> None:
        """Gets ready to give out an epoch's batches from the first one on. In the run that is under
        way the epoch follows the last one, and is being worked on already; for another run, drops
        what is under way and starts there."""

    def take(self, turn: Turn, batch: int) -> Taken:
        """Waits for a batch. Raises SupersededError once another turn has begun."""

    def poll(self, turn: Turn, batch: int) -> bool:
        """Whether :meth:`take` would not wait."""

    def fileno(self) -> int:
        """Of what becomes readable when :meth:`poll` may have a new answer."""

    def close(self) -> None:
        """May be called twice."""


class RestartBudget:
    """How many workers may still be replaced in this epoch, over all of them."""

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._left = max_restarts
        self.total = 0

    def begin(self) -> None:
        self._left = self._max_restarts

    def spend(self) -> bool:
        self._left -= 1
        self.total += self._left >= 0
        return self._left >= 0


def _check(turn: Turn, current: Turn, closed: bool) -> None:
    if closed:
        raise ClosedError("the loader is closed")
    if turn != current:
        raise SupersededError(
            f"this iteration (epoch {turn.epoch}) has ended because a newer one (epoch "
            f"{current.epoch}) of the same loader has begun; a loader serves one at a time. For "
            f"two at once, make two loaders"
        )


class Supervisor:
    """One worker process and its ring. The process starts at once, so that it is awake when
    :meth:`configure` tells it what to do."""

    ring: Ring

    def __init__(self, worker: int, workers: int, plan: io.FileIO, budget: RestartBudget) -> None:
        self._worker = worker
        self._workers = workers
        self._plan = plan
        self._budget = budget
        self._memory = create_memory(f"ring-{worker}")
        self._closed = False
        self._turn = Turn(0, -1)
        self._expected = (0, 0)  # from which epoch and batch on the worker has announced nothing
        self._ready: dict[tuple[int, int], Record] = {}  # announced, by epoch and batch
        self._broken = False  # the process must be replaced before anything else
        # _reading is held while waiting for the worker and guards _ready and the ring's leases.
        # _lock is never held for long; it guards the turn and what is sent to whom.
        self._reading = threading.Lock()
        self._lock = threading.Lock()
        self._process = self._started()

    def configure(self, spec: bytes, layout: Layout, slots: int) -> None:
        """Allocates the ring and tells the worker. Raises ConfigError without memory for it."""
        self.ring = Ring(self._memory, layout, slots, allocate=True)
        self._spec = spec
        with self._lock:
            self._introduce(range(slots))

    def begin(self, turn: Turn, first_batch: int) -> None:
        with self._lock:
            restart = turn.run != self._turn.run
            self._turn = turn
            if restart:
                self._expected = (turn.epoch, first_batch)
                self._send(Record(pipes.START, *turn, first_batch))

    def take(self, turn: Turn, batch: int) -> Taken:
        with self._reading, self._careful():
            return self._take(turn, batch)

    def poll(self, turn: Turn, batch: int) -> bool:
        with self._reading, self._careful():
            if self._broken or self._closed or turn != self._turn:
                return True
            self._free(self.ring.take_back())
            try:
                while (record := self._process.channel.receive(0)) is not None:
                    self._put(record)
            except (EOFError, pipes.PipeBroken):
                return True
            self._drop_stale()
            return (turn.epoch, batch) in self._ready

    def fileno(self) -> int:
        return self._process.channel.fileno()

    @contextlib.contextmanager
    def _careful(self) -> Iterator[None]:
        try:
            yield
        except FastloaderError:
            raise
        except BaseException:
            # Ctrl-C may have come between any two steps: start over with a new process.
            self._broken = True
            raise

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._process.channel.close_outgoing()
        self._process.end()
        with self._reading:  # whoever waited has been woken by the end of the pipe
            self._process.close()
            self._memory.close()
            self._ready.clear()
            if hasattr(self, "ring"):  # or configure() was never reached
                self.ring.close()

    # ---- batches -----------------------------------------------------------------------------

    def _take(self, turn: Turn, batch: int) -> Taken:
        if self._broken:
            _check(turn, self._turn, self._closed)
            self._replace()
        self._free(self.ring.take_back())
        while True:
            _check(turn, self._turn, self._closed)
            self._drop_stale()
            if (turn.epoch, batch) in self._ready:
                return self._hand_over(self._ready.pop((turn.epoch, batch)))
            try:
                record = self._process.channel.receive()
            except (EOFError, pipes.PipeBroken):
                if not self._closed:
                    self._bury(batch)
                continue
            assert record is not None
            self._put(record)

    def _put(self, record: Record) -> None:
        """Takes in what the worker has announced."""
        with self._lock:
            if record.run == self._turn.run:
                self._expected = (record.epoch, record.batch + self._workers)
                # In its place there may be the same batch of an older run, which makes way.
                where = (record.epoch, record.batch)
                self._ready[where], record = record, self._ready.get(where, NOTHING)
        self._free_slots_of([record])

    def _hand_over(self, record: Record) -> Taken:
        if record.kind == pipes.ERROR:
            raise from_json(record.payload)
        filled = Filled.from_payload(record.rows, record.payload)
        arrays, leased = self.ring.hand_out(record.slot, filled.rows)
        if not leased:
            self._free([record.slot])
        return Taken(arrays, filled)

    def _drop_stale(self) -> None:
        stale = [record for record in self._ready.values() if record.run != self._turn.run]
        for record in stale:
            del self._ready[record.epoch, record.batch]
        self._free_slots_of(stale)

    def _free_slots_of(self, records: list[Record]) -> None:
        self._free([record.slot for record in records if record.kind == pipes.READY])

    def _free(self, slots: list[int]) -> None:
        with self._lock:
            for slot in slots:
                self._send(Record(pipes.FREE, slot=slot))

    def _send(self, record: Record) -> None:
        # To a worker that is dead or closed: the next one who reads finds out, and says so.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._process.channel.send(record)

    # ---- the process -------------------------------------------------------------------------

    def _started(self) -> Process:
        return Process("fastloader.worker", [self._memory, self._plan])

    def _introduce(self, free: Iterable[int]) -> None:
        self._send(Record(pipes.SPEC, payload=self._spec))
        for slot in free:
            self._send(Record(pipes.FREE, slot=slot))

    def _bury(self, batch: int) -> None:
        """The worker died on its own: replaces it, or gives up."""
        self._process.end()
        if not self._budget.spend():
            self._broken = True  # a later epoch starts with a new process and a new budget
            raise WorkerDied(self._worker, batch, self._process.how, self._process.last_words)
        self._replace()

    def _replace(self) -> None:
        """A new process goes on at the first batch that the old one had not announced."""
        self._process.kill()
        self._drop_stale()
        with self._lock:
            if self._closed:
                return
            self._process.close()
            self._process = self._started()
            self._broken = False
            self.ring.take_back()
            kept = self.ring.leased | {record.slot for record in self._ready.values()}
            self._introduce(slot for slot in range(self.ring.slots) if slot not in kept)
            self._send(Record(pipes.START, self._turn.run, *self._expected))

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"process {self._process.pid}"
        return f"<Supervisor of worker {self._worker}, {state}>"


class InProcess:
    """``workers=0``: fills its ring in the thread that asks for a batch, through the same code."""

    def __init__(self, producer: Producer, layout: Layout, slots: int) -> None:
        with create_memory("ring") as memory:
            self.ring = Ring(memory, layout, slots, allocate=True)
        self._producer = producer
        self._turn = Turn(0, -1)
        self._closed = False
        self._filling = threading.Lock()

    def begin(self, turn: Turn, first_batch: int) -> None:
        restart = turn.run != self._turn.run
        self._turn = turn  # what is being filled notices, and gives the lock up
        if restart:
            with self._filling:
                if self._turn == turn:
                    self._producer.start(turn.epoch, first_batch)

    def take(self, turn: Turn, batch: int) -> Taken:
        with self._filling:
            self.ring.take_back()
            _check(turn, self._turn, self._closed)
            leased = self.ring.leased
            slot = next(s for s in range(self.ring.slots) if s not in leased)
            filled = self._producer.fill(self.ring.slot(slot), lambda: turn != self._turn)
            _check(turn, self._turn, self._closed)
            assert filled is not None, f"no batch {batch}"
            return Taken(self.ring.hand_out(slot, filled.rows)[0], filled)

    def poll(self, turn: Turn, batch: int) -> bool:  # noqa: ARG002 # it never waits for anybody
        return True

    def fileno(self) -> int:
        raise AssertionError("there is nothing to wait for")

    def close(self) -> None:
        with self._filling:
            if not self._closed:
                self._closed = True
                self._producer.close()
                self.ring.close()

    def __repr__(self) -> str:
        return f"<InProcess, {'closed' if self._closed else 'open'}>"

"""Keeps a ring filled by a worker process, which it starts and replaces.

It runs in the training process. It gives out the batches of one epoch at a time, while the worker
is already making those of the next one. What the worker has announced is in an :class:`Inbox`; what
the consumer holds is in the :class:`Ring`; the process and its pipe are here.
"""

from __future__ import annotations

import contextlib
import io
import signal
from collections.abc import Callable, Iterable
from functools import partial

from ..errors import FastloaderError, WorkerDied
from ..options.config import Config
from ..plan.keys import Key
from ..plan.mixture import Portion
from ..system.descriptors import standard_files_taken
from ..system.limits import limits_named
from ..transport import messages, pipes
from ..transport.memory import create_memory
from ..transport.messages import Filled, Record, Turn
from ..transport.process import CHECK_S, Process, end
from ..transport.ring import Layout, Ring
from ..transport.serial import pack
from ..worker.note import Note
from .feeder import Taken
from .gate import Gate
from .inbox import Inbox
from .restarts import RestartBudget

ABORT_S = 2 * CHECK_S
"""How long a process that is ended may take to write where it is."""


class _NotYet:
    """Stands for a batch that the worker has not announced."""


class Supervisor(Gate):
    """A worker process and its ring. See :class:`fastloader.consumer.feeder.Feeder`.

    The gate guards the inbox, the leases and the process. Nobody waits inside it.

    The process starts at once, so that it is awake when :meth:`configure` tells it what to do.

    Parameters
    ----------
    worker
        The number of the worker.
    config
        The options of the loader.
    plan
        The memory with the keys, which the worker shares.
    budget
        The restarts of all workers.

    Attributes
    ----------
    ring
        The worker's ring, once :meth:`configure` was called.
    """

    ring: Ring
    _inbox: Inbox

    def __init__(self, worker: int, config: Config, plan: io.FileIO, budget: RestartBudget) -> None:
        super().__init__()
        self._worker = worker
        self._config = config
        self._plan = plan
        self._budget = budget
        self._memory = create_memory(f"ring-{worker}")
        # False during every step that, cut short by Ctrl-C between any two bytecodes, would leave
        # the worker and this process with different ideas of the slots. While it is False, the
        # worker is of no use any more and the next call replaces it.
        self._is_sound = True
        self._timed_out = False
        self._portion = b""
        self._process = self._started()

    def configure(
        self, spec: bytes, layout: Layout, slots: int, key_at: Callable[[int], Key | None]
    ) -> None:
        """Allocate the ring and tell the worker what to do.

        Parameters
        ----------
        spec
            What the worker is told.
        layout, slots
            What a slot holds, and how many there are.
        key_at
            Returns the key of the row at a position, which may be anything.

        Raises
        ------
        ConfigError
            There is no memory for the ring.
        """
        ring = Ring(self._memory, layout, slots, allocate=True)
        self._inbox = Inbox(
            workers=self._config.workers,
            batch_size=layout.batch_size,
            is_the_workers=ring.is_the_workers,
        )
        Note(ring.note).leave()
        self.ring = ring
        self._spec, self._key_at = spec, key_at
        self._introduce(range(slots))

    @property
    def process(self) -> Process:
        """The worker's process; another one once the worker has been replaced."""
        return self._process

    def join(self, portion: Portion) -> None:
        """See :meth:`fastloader.consumer.feeder.Keeper.join`."""
        self._portion = pack(portion)

    def begin(self, turn: Turn, first_batch: int) -> None:
        """See :meth:`fastloader.consumer.feeder.Feeder.begin`."""
        self._run(partial(self._begin, turn, first_batch))

    def take(self, turn: Turn, batch: int) -> Taken:
        """See :meth:`fastloader.consumer.feeder.Feeder.take`."""
        taken = self._wait_for(partial(self._take, turn, batch))
        assert taken is not None
        return taken

    def peek(self, turn: Turn, batch: int) -> Taken | None:
        """See :meth:`fastloader.consumer.feeder.Feeder.peek`."""
        return self._wait_for(partial(self._take, turn, batch, peek=True))

    def _wait_for(self, take: Callable[..., Taken | _NotYet | None]) -> Taken | None:
        taken = self._run(take)
        while isinstance(taken, _NotYet):
            # For a limited time, since another thread may hear the worker first, or close the pipe.
            is_silent = not self._process.channel.wait(CHECK_S)
            taken = self._run(partial(take, hear=True, is_silent=is_silent))
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
        # The process may have been started while the others were told to end.
        self._process.kill(patient=patient)
        self._process.close()
        self._memory.close()
        if hasattr(self, "ring"):  # or configure() was never reached
            self._inbox.clear()
            self.ring.close()

    # ---- batches -----------------------------------------------------------------------------

    def _begin(self, turn: Turn, first_batch: int) -> None:
        was_sound, self._is_sound = self._is_sound, False
        self._turn = turn
        if turn.run != self._inbox.run:
            self._free(self._inbox.begin(turn.run, turn.epoch, first_batch))
            self._start(turn.epoch, first_batch)
        self._is_sound = was_sound

    def _take(
        self,
        turn: Turn,
        batch: int,
        *,
        peek: bool = False,
        hear: bool = False,
        is_silent: bool = False,
    ) -> Taken | _NotYet | None:
        """Return the batch, if it is there.

        Parameters
        ----------
        turn, batch
            The batch that is wanted.
        peek
            Return a copy and leave the batch where it is; None if it was taken before.
        hear
            Take in what the worker has sent, first.
        is_silent
            The worker has sent nothing for so long that it may have ended.
        """
        self._check(turn)
        if not self._is_sound:
            self._replace()
            self._check(turn)
        self._is_sound = False
        if slots := self.ring.take_back():
            self._free(slots)
        where = (turn.epoch, batch)
        runs = not hear or self._hear(is_silent=is_silent)
        if not (runs or where in self._inbox or (peek and self._inbox.was_taken(where))):
            self._bury(batch)
        announced = self._inbox.look(where) if peek else self._inbox.take(where)
        taken: Taken | _NotYet | None = _NotYet()
        if announced is not None and isinstance(announced.what, Filled):
            taken = self._hand_over(announced.slot, announced.what, peek=peek)
        elif peek and self._inbox.was_taken(where):
            taken = None
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
        return has_ended or (turn.epoch, batch) in self._inbox

    def _hear(self, *, is_silent: bool) -> bool:
        """Take in what the worker has sent. Return whether it still runs, as far as is known.

        The end of the pipe says so at once, unless a fork keeps the pipe open.
        """
        has_ended = is_silent and self._process.has_ended()
        if is_silent and not has_ended and self._config.transform:
            self._end_if_stuck()
        try:
            for record in self._process.channel.received():
                if slots := self._inbox.put(record):
                    self._free(slots)
        except (EOFError, pipes.PipeBroken):
            has_ended = True
        self._process.take_output()
        return not has_ended

    def _hand_over(self, slot: int | None, filled: Filled, *, peek: bool) -> Taken:
        assert slot is not None
        if peek:
            return Taken(self.ring.copied(slot, filled.rows, filled.parts()), filled)
        arrays, leased = self.ring.hand_out(slot, filled.rows, filled.parts())
        if not leased:
            self._free([slot])
        return Taken(arrays, filled)

    def _free(self, slots: Iterable[int]) -> None:
        if records := [Record(messages.FREE, slot=slot) for slot in slots]:
            self._send(*records)

    def _send(self, *records: Record) -> None:
        # If the worker is dead or the pipe is closed, whoever reads next finds out and says so.
        with contextlib.suppress(BrokenPipeError):
            self._process.channel.send(*records)

    # ---- the process -------------------------------------------------------------------------

    def _started(self) -> Process:
        return Process(
            "fastloader.worker.worker",
            [self._memory, self._plan],
            name=f"worker {self._worker}",
            echoes=bool(self._config.transform),
        )

    def _end_if_stuck(self) -> None:
        """End the process if a function of the user's has been running for too long.

        SIGABRT makes it write where it is, whatever it does. If that does not end it, SIGKILL does.
        """
        runs_s, limit_s = Note(self.ring.note).runs_s, self._config.transform_timeout_s
        if runs_s > limit_s:
            self._timed_out = True
            is_stopped = runs_s > limit_s + ABORT_S
            self._process.send_signal(signal.SIGKILL if is_stopped else signal.SIGABRT)

    def _introduce(self, free: Iterable[int]) -> None:
        """Tell a new process what to do, and which slots are its own."""
        free_slots = (Record(messages.FREE, slot=slot) for slot in free)
        self._send(Record(messages.SPEC, payload=self._spec), *free_slots)

    def _bury(self, batch: int) -> None:
        """Replace a worker that died on its own, or give up.

        Raises
        ------
        WorkerDied
            The budget of restarts is spent. The supervisor stays unsound, so a later epoch starts
            with a new process and a new budget.
        """
        if self._is_shut:
            return
        self._process.channel.shut_down()  # it may live, and have sent what is no record
        end([self._process])
        note, how = Note(self.ring.note), self._process.how
        if self._timed_out:
            how = f"was ended after {self._config.transform_timeout_s:g} s (transform_timeout_s)"
        if not self._budget.spend():
            key = self._key_at(note.position)
            raise WorkerDied(self._worker, batch, how, self._process.last_words, key)
        self._replace()

    def _replace(self) -> None:
        """Start a new process at the first batch that the old one had not announced."""
        self._process.kill()
        self._process.take_output()
        self._timed_out = False
        Note(self.ring.note).leave()
        self._process.close()
        if self._is_shut:
            return
        with limits_named(f"start worker {self._worker} again"), standard_files_taken():
            process = self._started()
        process.inherit_output(self._process)
        self._process = process
        self.ring.take_back()
        kept = self.ring.leased | self._inbox.slots
        self._introduce(slot for slot in range(self.ring.slots) if slot not in kept)
        self._start(*self._inbox.expected)

    def _start(self, epoch: int, batch: int) -> None:
        """Have the worker make the batches of the run from this one on."""
        # Only the epoch that a run begins with can begin after some rows.
        first_row = self._turn.first_row if epoch == self._turn.epoch else 0
        start = Record(messages.START, self._turn.run, epoch, batch, first_row=first_row)
        self._send(start._replace(payload=self._portion))

    def __repr__(self) -> str:
        state = "closed" if self._is_shut else f"process {self._process.pid}"
        return f"<Supervisor of worker {self._worker}, {state}>"

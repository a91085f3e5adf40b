"""From slots to the consumer: who waits for which batch, and what is counted on the way.

It runs in the training process. :class:`fastloader.FastLoader` is its public face; adapters use it
directly (see :mod:`fastloader.consumer.batch_source`).
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import select
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from ..batches.schema import Arrays, Entry, leaves_out_empty
from ..errors import ClosedError, FastloaderError, SupersededError
from ..observe.clock import Clock, Lap
from ..observe.stats import Stats
from ..options.config import Config
from ..transport.messages import Turn
from .course import Course
from .feeder import Feeder, Staff, Taken
from .gate import NO_TURN, superseded
from .place import Iteration

logger = logging.getLogger("fastloader")

GetValues = Callable[[Entry, Arrays], Any]
"""Returns what a batch holds for an entry, given the arrays of a slot."""

POLL_S = 1.0
"""How long to wait for any worker before polling all of them again.

A worker that sends something wakes the consumer at once, unless another thread has read it."""


class Delivery(Course):
    """Hands out the batches of a loader, to any number of threads at once.

    :meth:`stats`, :meth:`close` and the loader's ``state_dict`` take no lock, so that a signal
    handler can call them whatever it has interrupted.
    """

    def __init__(self, config: Config, start: Callable[[Config], Staff]) -> None:
        super().__init__(config, start)
        self._leaves_out_empty = leaves_out_empty(self.config)
        self._closing: int | None = None  # the thread that is closing the loader
        self._iterator: Callable[[], Generator[Any, None, None] | None] = lambda: None
        self._over: Iteration | None = None  # an iteration that has come to its end before its time

    # ---- epochs ----------------------------------------------------------------------------------

    def iterate(self, *, ahead: bool, keep: object, epoch: int | None = None) -> Iterator[Any]:
        """Begin the next epoch and return an iterator over its batches.

        Batches that :func:`leaves_out_empty` leaves out are not among them.

        Parameters
        ----------
        ahead
            Whether batches will be pulled before the consumer wants them.
        keep
            An object that must live as long as the iterator.
        epoch
            The epoch to begin instead of the next one.
        """
        with self.lock:  # so that peek() sees the iteration together with its iterator
            iteration = self.begin(ahead=ahead, epoch=epoch)
            batches: Iterable[int] = range(iteration.first, len(iteration.plan))
            if not self.config.deterministic:
                batches = self._as_they_come(iteration)
            elements = self._elements(
                iteration, batches, empty=not self._leaves_out_empty, row="consumer", keep=keep
            )
            self._iterator = weakref.ref(elements)
        return elements

    def elements_of(
        self, turn: Turn, feeder: int, values: GetValues = Entry.values
    ) -> Iterator[Any]:
        """Return an iterator over the batches of one feeder, for adapters that interleave them.

        Batches without rows are among them. The iterator ends with SupersededError if another turn
        has begun.

        Parameters
        ----------
        values
            Returns what the batch holds for an entry, given the arrays of a slot.
        """
        iteration = self.progress.iteration
        if iteration is None or iteration.turn != turn:  # the first pull raises the error
            iteration = Iteration(turn, 0, self.plan)
        batches = iteration.plan.batches_of(feeder, len(self.feeders), iteration.first)
        return self._elements(
            iteration, batches, empty=True, row=f"consumer {feeder}", values=values
        )

    def count_anew(self) -> None:
        """Have the next epoch begin a new count of batches; see :class:`Progress`."""
        with self.lock:
            self.progress.count_anew()

    # ---- batches ---------------------------------------------------------------------------------

    def _elements(
        self,
        iteration: Iteration,
        batches: Iterable[int],
        *,
        empty: bool,
        row: str,
        keep: object = None,  # noqa: ARG002 # being an argument keeps it
        values: GetValues = Entry.values,
    ) -> Generator[Any, None, None]:
        """Yield batches by their numbers, with what the consumer gets for each.

        Parameters
        ----------
        iteration
            The iteration that the batches belong to.
        batches
            Their numbers.
        empty
            Whether to yield batches whose rows were all skipped.
        row
            The name of the consumer's row in a trace.
        keep
            An object that must live as long as the iterator.
        values
            Returns what the batch holds for an entry.
        """
        clock = Clock(traced=self._trace is not None)
        lap = Lap(clock)
        about = {"epoch": iteration.turn.epoch}
        try:
            for batch in batches:
                clock.enter("wait")
                if self._trace is not None:  # the previous batch
                    self._trace.spans(row, clock.spans(), **about)
                about["batch"] = batch
                taken = [self.take(iteration, batch, lap)]
                if taken[0].filled.rows or empty:
                    # Popped, or this frame would keep a lease on each batch until the next one.
                    yield self._element(taken.pop(), clock, values)
        finally:
            # The garbage collector may run this in the middle of anything, so it takes no lock.
            clock.enter(None)
            self.tally.leave_behind(lap.end())
            if self._trace is not None:
                self._trace.spans(row, clock.spans(), **about)

    def take(self, iteration: Iteration, batch: int, lap: Lap) -> Taken:
        """Wait for a batch of an iteration, count it, and return it.

        Parameters
        ----------
        lap
            What the consumer has spent on the batch before.
        """
        self.check_usable()
        worker = batch % len(self.feeders)
        try:
            taken = self.feeders[worker].take(iteration.turn, batch)
        except ClosedError:
            if self.closed:
                raise
            raise superseded(iteration.turn, NO_TURN) from None  # only the crew is gone
        except SupersededError:
            raise
        except FastloaderError:
            self._over = iteration  # its worker makes no more batches of it
            raise
        filled = taken.filled
        with self.lock:
            is_seen = filled.rows > 0 or not self._leaves_out_empty
            number, is_last = self.progress.hand_out(iteration, batch, is_seen)
            new, cut = self.tally.add(filled, number, time.perf_counter(), lap.end())
            line = self.tally.end_of_epoch() if is_last else ""
        if not self.crew.is_mixture:  # the loaders have reported it
            self.tally.report(batch, filled, new, cut)
        if line:
            logger.info(line)
        if self._trace is not None:
            for row, spans in zip(
                (f"worker {worker}", f"worker {worker} fetch"), filled.spans, strict=True
            ):
                self._trace.spans(row, spans, epoch=iteration.turn.epoch, batch=batch)
        return taken

    def _as_they_come(self, iteration: Iteration) -> Iterator[int]:
        """Yield the numbers of an epoch's batches, each once its worker has made it."""
        feeders = range(len(self.feeders))
        plan = iteration.plan
        left = {f: [*plan.batches_of(f, len(feeders), iteration.first)][::-1] for f in feeders}
        while left := {feeder: batches for feeder, batches in left.items() if batches}:
            ready = [f for f in left if self.feeders[f].poll(iteration.turn, left[f][-1])]
            for feeder in ready:
                yield left[feeder].pop()
            if not ready:
                _wait_for_any([self.feeders[feeder] for feeder in left])

    def _element(self, taken: Taken, clock: Clock, values: GetValues = Entry.values) -> Any:
        """Return what the consumer gets for a batch."""
        clock.enter("hand_over")
        element = self.crew.schema.arranged(lambda entry: values(entry, taken.arrays))
        clock.enter("consumer")
        return element

    # ---- a look at what comes next ---------------------------------------------------------------

    def peek(self) -> Any:
        """Return a copy of the batch that comes next. See :meth:`fastloader.FastLoader.peek`.

        The batch stays with its feeder, which delivers it when its turn comes. So nothing is
        counted here, and nothing is made that is not delivered later.
        """
        deadline = None
        while True:
            self.check_usable()
            with self.lock:
                self.check_alone()
                iteration, first = self._what_comes_next()
            with contextlib.suppress(SupersededError):  # an iteration began just now: that one
                taken = self._peek(iteration, first)
                if taken is not None:
                    return self._element(taken, Clock(traced=False))
                # Another thread has taken the last batch and counts it now, if it gets there.
                deadline = deadline or time.monotonic() + POLL_S
                if time.monotonic() > deadline:
                    self._over = iteration
                time.sleep(0.001)

    def _what_comes_next(self) -> tuple[Iteration, int]:
        """Return the iteration under way, or the next one, and where to look for its next batch."""
        iteration = self.progress.under_way
        if iteration is not None and iteration is not self._over:
            if iteration.ahead:
                return iteration, iteration.first
            iterator = self._iterator()
            if iterator is not None and inspect.getgeneratorstate(iterator) != inspect.GEN_CLOSED:
                in_order = self.config.deterministic
                return iteration, self.progress.following if in_order else iteration.first
        self._keep_up(None)
        iteration = self.progress.prepare()
        for feeder in self.feeders:
            feeder.begin(iteration.turn, iteration.first)
        return iteration, iteration.first

    def _peek(self, iteration: Iteration, first: int) -> Taken | None:
        """Return the first batch that was not taken yet; None if all were.

        It is one that the consumer will see, if there is one among the next batches of the workers:
        a worker may have room for no more than one of its batches.
        """
        found: dict[int, Taken] = {}
        for batch in range(first, len(iteration.plan)):
            feeder = batch % len(self.feeders)
            if feeder in found and self.config.workers:
                continue
            taken = self.feeders[feeder].peek(iteration.turn, batch)
            if taken is not None:
                found[feeder] = taken
                if taken.filled.rows or not self._leaves_out_empty:
                    return taken
            if len(found) == len(self.feeders) and self.config.workers:
                break
        return next(iter(found.values()), None)

    # ---- what was delivered ----------------------------------------------------------------------

    def stats(self) -> Stats:
        """See :meth:`fastloader.FastLoader.stats`."""
        self.check_ours()
        rings = self.crew.rings
        totals = self.tally.now()
        numbers: dict[str, Any] = {**totals.seconds, **totals.counts}
        return Stats(
            leases=self._retired.leases + sum(ring.leases for ring in rings),
            copies=self._retired.copies + sum(ring.copies for ring in rings),
            leased=sum(len(ring.leased) for ring in rings),
            pictures=dict(totals.pictures),
            restarts=self._retired.restarts + self.crew.budget.total,
            rows_added=self.crew.rows - self._rows_at_first,
            **numbers,
        )

    def aliases(self, address: int) -> bool:
        """Return whether an address lies in a ring, so that what is there was not copied."""
        return any(ring.contains(address) for ring in self.crew.rings)

    # ---- the end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """See :meth:`fastloader.FastLoader.close`."""
        if not self.is_ours:
            return
        self.closed = True
        # A signal handler that has interrupted another call of close() must not wait: signals may
        # come faster than workers end, each on top of the one before.
        this = threading.get_ident()
        outer, self._closing = self._closing, this
        try:
            self.crew.close(patient=outer != this)
        finally:
            self._closing = outer
        if self._trace is not None:
            self._trace.flush()


def _wait_for_any(feeders: Sequence[Feeder]) -> None:
    """Wait until one of the feeders may have something to say, for at most ``POLL_S``."""
    poll = select.poll()  # select.select() fails with descriptors from 1024 on
    for feeder in feeders:
        try:
            poll.register(feeder, select.POLLIN)
        except ValueError:  # it is being closed, and taking from it raises the error
            return
    poll.poll(POLL_S * 1000)

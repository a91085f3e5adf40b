"""From slots to the consumer: who waits for which batch, and what is counted on the way."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ClosedError, ConfigError
from ..fields.batch import arranged, leaves_out_empty
from ..fields.columns import Column
from ..fields.slots import slot_image
from ..observe.clock import Clock, Lap
from ..observe.stats import Stats
from ..observe.trace import Trace
from ..options.config import Config
from ..transport.messages import Turn
from .crew import Crew
from .feeder import Feeder, Taken
from .progress import Iteration, Progress
from .tally import Tally, logger

POLL_S = 1.0
"""How long to wait for some worker before looking at all of them again. One that has something to
say wakes us at once, unless another thread has listened to it in between."""


class Delivery:
    """Hands out a loader's batches, to several threads at once if they like.

    crew: whose batches they are. progress: where the loader is. tally: what it has done.
    lock: guards what changes these two. closed: whether it is; and so is the loader.

    :meth:`stats`, :meth:`close` and the loader's ``state_dict`` take no lock, so that a signal
    handler can call them whatever it has interrupted.
    """

    def __init__(self, config: Config) -> None:
        self._trace = _trace(config)
        self.crew = crew = Crew(config)
        self._config = crew.config
        self._leaves_out_empty = leaves_out_empty(crew.config)
        self._plan, self._feeders = crew.plan, crew.feeders
        self._pid = os.getpid()
        self.closed = False
        self._closing: int | None = None  # the thread that does it
        self.lock = threading.RLock()
        self.progress = Progress(crew.plan)
        self.tally = Tally(crew.config, self._trace)

    # ---- epochs ----------------------------------------------------------------------------------

    def begin(self, *, ahead: bool) -> Iteration:
        """ahead: whether batches will be pulled before the consumer wants them."""
        self.check_usable()
        with self.lock:
            iteration = self.progress.begin(ahead=ahead)
            self.tally.begin(iteration.turn.epoch)
            self.crew.budget.begin()
            for feeder in self._feeders:
                feeder.begin(iteration.turn, iteration.first)
            return iteration

    def iterate(self, *, ahead: bool, keep: object) -> Iterator[Any]:
        """The next epoch, without the batches that :func:`leaves_out_empty` leaves out. keep: what
        shall live as long as the iterator."""
        iteration = self.begin(ahead=ahead)
        batches: Iterable[int] = range(iteration.first, len(self._plan))
        if not self._config.deterministic:
            batches = self._as_they_come(iteration)
        return self._elements(
            iteration, batches, empty=not self._leaves_out_empty, row="consumer", keep=keep
        )

    def elements_of(self, turn: Turn, feeder: int) -> Iterator[Any]:
        """The batches of one feeder, the empty ones too, for adapters that interleave them."""
        iteration = self.progress.iteration
        if iteration is None or iteration.turn != turn:  # the first pull will say what is wrong
            iteration = Iteration(turn, 0)
        batches = self._plan.batches_of(feeder, len(self._feeders), iteration.first)
        return self._elements(iteration, batches, empty=True, row=f"consumer {feeder}")

    # ---- batches ---------------------------------------------------------------------------------

    def _elements(
        self,
        iteration: Iteration,
        batches: Iterable[int],
        *,
        empty: bool,
        row: str,
        keep: object = None,  # noqa: ARG002 # by being an argument
    ) -> Iterator[Any]:
        """These batches; those whose rows were all skipped only if ``empty``. row: in a trace."""
        clock = Clock(traced=self._trace is not None)
        lap = Lap(clock)
        about = {"epoch": iteration.turn.epoch}
        try:
            for batch in batches:
                clock.enter("wait")
                if self._trace is not None:  # the batch before
                    self._trace.spans(row, clock.spans(), **about)
                about["batch"] = batch
                taken = [self._take(iteration, batch, lap)]
                if taken[0].filled.rows or empty:
                    # Popped, because a batch that only this frame refers to is one kept in vain.
                    yield self._element(taken.pop(), clock)
        finally:
            # Perhaps the garbage collector runs this, in the middle of anything: no locks here.
            clock.enter(None)
            self.tally.leave_behind(lap.end())
            if self._trace is not None:
                self._trace.spans(row, clock.spans(), **about)

    def _take(self, iteration: Iteration, batch: int, lap: Lap) -> Taken:
        self.check_usable()
        worker = batch % len(self._feeders)
        taken = self._feeders[worker].take(iteration.turn, batch)
        filled = taken.filled
        with self.lock:
            is_seen = filled.rows > 0 or not self._leaves_out_empty
            number, is_last = self.progress.hand_out(iteration, batch, is_seen)
            new, cut = self.tally.add(filled, number, time.perf_counter(), lap.end())
            line = self.tally.end_of_epoch() if is_last else ""
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
        """The numbers of an epoch's batches, each when its worker has it."""
        feeders = range(len(self._feeders))
        left = {
            f: [*self._plan.batches_of(f, len(feeders), iteration.first)][::-1] for f in feeders
        }
        while left := {feeder: batches for feeder, batches in left.items() if batches}:
            ready = [f for f in left if self._feeders[f].poll(iteration.turn, left[f][-1])]
            for feeder in ready:
                yield left[feeder].pop()
            if not ready:
                _wait_for_any([self._feeders[feeder] for feeder in left])

    def _element(self, taken: Taken, clock: Clock) -> Any:
        """What the consumer gets for a batch."""
        clock.enter("hand_over")
        config = self._config
        images = {image: taken.arrays[slot_image(image)] for image in config.images}
        columns = {column.name: _values(taken, column) for column in self.crew.columns}
        keys = _values(taken, self.crew.key_column) if config.with_keys else None
        element = arranged(config, images, columns, keys)
        clock.enter("consumer")
        return element

    # ---- what was done ---------------------------------------------------------------------------

    def stats(self) -> Stats:
        """See :meth:`fastloader.FastLoader.stats`."""
        self.check_ours()
        rings = [feeder.ring for feeder in self._feeders]
        totals = self.tally.now()
        numbers: dict[str, Any] = {**totals.seconds, **totals.counts}
        return Stats(
            leases=sum(ring.leases for ring in rings),
            copies=sum(ring.copies for ring in rings),
            leased=sum(len(ring.leased) for ring in rings),
            pictures=dict(totals.pictures),
            restarts=self.crew.budget.total,
            **numbers,
        )

    # ---- the end ---------------------------------------------------------------------------------

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that made the loader, and not a fork of it."""
        return os.getpid() == self._pid

    def check_usable(self) -> None:
        """Raise ClosedError if the loader is closed, or another process's."""
        if self.closed:
            raise ClosedError("the loader is closed")
        self.check_ours()

    def check_ours(self) -> None:
        """Raise ClosedError in a fork of the process that made the loader."""
        if not self.is_ours:
            raise ClosedError(
                f"this loader belongs to process {self._pid}, of which this one is a fork; make "
                f"one loader in each process"
            )

    def close(self) -> None:
        """See :meth:`fastloader.FastLoader.close`."""
        if not self.is_ours:
            return
        self.closed = True
        # Called by a signal handler that has interrupted another call, it does not wait: signals
        # may come faster than workers end, each on top of the one before.
        this = threading.get_ident()
        outer, self._closing = self._closing, this
        try:
            self.crew.close(patient=outer != this)
        finally:
            self._closing = outer
        if self._trace is not None:
            self._trace.flush()


def _values(taken: Taken, column: Column) -> NDArray[Any]:
    if column.is_text:
        return np.array(taken.filled.text[column.name], object)
    return taken.arrays[column.name]


def _trace(config: Config) -> Trace | None:
    if config.trace is None:
        return None
    try:
        return Trace(config.trace, config.where)
    except OSError as error:
        raise ConfigError(
            f"trace={config.trace!r} cannot be written: {error.strerror}; name a file in a folder "
            f"that is there"
        ) from None


def _wait_for_any(feeders: list[Feeder]) -> None:
    """Until one of them may have something to say. Not with select(), which knows no descriptor
    from 1024 on."""
    poll = select.poll()
    for feeder in feeders:
        try:
            poll.register(feeder, select.POLLIN)
        except ValueError:  # it is being closed, which it will say itself
            return
    poll.poll(POLL_S * 1000)

"""Fills slots with batches: the one place where plan, source, cache, kernel and slots meet.

It runs on the decoding thread: a worker's main thread, or with ``workers=0`` the thread that asks
for a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np

from ..batches.schema import Arrays, Outputs, Schema
from ..cache.file import Place
from ..cache.rows import CachedRows
from ..fields.columns import Column
from ..observe.clock import Clock, Lap
from ..options.config import Config
from ..plan.keys import dtype_name
from ..plan.mixture import Portion
from ..plan.order import Positions, Rows
from ..source.opening import import_driver
from ..source.protocol import Snapshot
from ..transport.messages import Filled, Times
from .assignment import Assignment
from .batch_builder import Batch, BatchBuilder
from .fetcher import Fetcher
from .note import Note
from .planned import Planned
from .read_ahead import ReadAhead
from .transformer import Transformer


class Producer:
    """Makes the batches of one worker, one after the other, epoch after epoch.

    The rows of the next epoch are fetched while the last ones of this epoch are decoded.

    Parameters
    ----------
    config
        The loader's options.
    planned
        The rows of the table, and the plan of their batches.
    columns
        The label columns, as the survey has found them.
    snapshot
        What to read from.
    identity
        The identity of the database that the keys are from.
    worker, workers
        Batches ``j`` with ``j % workers == worker`` are this producer's.
    place
        The place of the cache, if there is one.
    outputs
        What a transform leaves, as the survey has found it.
    note
        Where to note which row a transform has.

    Attributes
    ----------
    epoch, batch
        The batch that was made last, or is being made.
    clock
        The clock of the decoding thread, at ``decode`` or ``source_wait`` during :meth:`fill`.
    """

    def __init__(
        self,
        config: Config,
        planned: Planned,
        columns: tuple[Column, ...],
        *,
        snapshot: Snapshot | None = None,
        identity: str = "",
        worker: int = 0,
        workers: int = 1,
        place: Place | None = None,
        outputs: Outputs = (),
        note: Note | None = None,
    ) -> None:
        import_driver(config)
        schema = Schema(config, columns, dtype_name(planned.keys.dtype), outputs)
        self._builder = BatchBuilder(config, schema)
        self._transformer: Transformer | None = None
        if config.transform:
            note = Note(np.zeros(2, np.int64)) if note is None else note
            self._transformer = Transformer(config, schema, self._builder, note)
        self._cached = None if place is None else CachedRows(config, place)
        self._assignment = Assignment(planned, worker=worker, workers=workers, cached=self._cached)
        self.clock = Clock(traced=config.trace is not None)
        self._fetcher = Fetcher(
            config, self._assignment, columns, snapshot=snapshot, identity=identity,
            who=f"worker {worker}",
        )  # fmt: skip
        self._ahead = ReadAhead(self._fetcher, self.clock, config.place)
        self._batches: Iterator[tuple[int, int]] = iter(())
        self._last_epoch: int | None = None
        self._one_epoch = config.follow is not None  # the next one may have other rows
        self.epoch, self.batch = 0, 0
        self._next_range = 0  # the number of the next batch's first range in its epoch's read
        self._reconnects = 0
        self._is_traced = config.trace is not None
        self._lap = Lap(self.clock, self._fetcher.clock)
        # Without workers this is the process of the training, which does other things, too.
        self._cpu_s = time.process_time if config.workers else time.thread_time

    def join(self, portion: Portion) -> None:
        """Make a part of a mixture, from the next :meth:`start` on."""
        self._assignment.join(portion)

    def start(
        self,
        epoch: int,
        first_batch: int,
        *,
        first_row: int = 0,
        last_epoch: int | None = None,
    ) -> None:
        """Go to the first batch of an epoch at or after ``first_batch``, whatever was under way.

        Parameters
        ----------
        first_row
            The number of rows that the epoch's first batch begins after; see
            :meth:`fastloader.plan.plan.Plan.rest`.
        last_epoch
            After it nothing is made; None to make batches without end.
        """
        if self._one_epoch and last_epoch is None:
            last_epoch = epoch
        self._last_epoch = last_epoch
        self._assignment.start(epoch, first_row)
        if self._cached is not None:
            self._cached.start()
        self._batches = self._assignment.batches(epoch, first_batch, last_epoch)
        self.epoch = epoch
        self._next_range = 0
        self._ahead.start(epoch, first_batch, last_epoch)

    @property
    def following(self) -> tuple[int, int]:
        """Epoch and number of the batch after the one that was made last."""
        return self._assignment.following(self.epoch, self.batch)

    def fill(self, slot: Arrays, cancelled: Callable[[], bool] = lambda: False) -> Filled | None:
        """Make the next batch in a slot. :attr:`epoch` and :attr:`batch` say then which one it is.

        Parameters
        ----------
        slot
            The arrays of the slot, with room for ``batch_size`` rows.
        cancelled
            Asked between stretches of rows.

        Returns
        -------
        Filled or None
            What is in the slot. None if there is no batch left, or once ``cancelled()``.

        Raises
        ------
        RowError
            A row is bad, and ``on_error="raise"``.
        SourceError
            The rows cannot be read.
        """
        following = next(self._batches, None)
        if following is None:
            return None
        cpu_start_s = self._cpu_s()
        self.clock.enter("decode")
        if following[0] != self.epoch:
            self._next_range = 0
        self.epoch, self.batch = following
        while True:
            rows, fetched = self._assignment.rows(*following)
            positions = rows.positions
            batch = self._begin(slot, rows, fetched)
            if not self._decode(batch, cancelled):
                return None
            if self._transformer is not None and self._transformer.before_cache:
                self._transform(batch, positions[fetched], 0, self._transformer.before_cache)
            if self._complete(batch, rows, fetched):
                break
            # Rows that should be in the cache are not: again, without them.
            first_row = self._assignment.plan(self.epoch).first_row
            self.start(*following, first_row=first_row, last_epoch=self._last_epoch)
            next(self._batches)  # this one
        if self._transformer is not None:
            self._transform(batch, positions, self._transformer.before_cache)
        filled = self._builder.settle(batch)
        filled.cached = len(positions) - len(fetched)
        self._account(filled, cpu_start_s)
        return filled

    def _begin(self, slot: Arrays, rows: Rows, fetched: Positions) -> Batch:
        missing = rows.at(fetched)
        self._next_range += len(self._assignment.ranges(missing.positions))
        return self._builder.begin(
            slot, self._assignment.keys(missing.positions), rows=len(rows.positions),
            epoch=self.epoch, draws=missing.draws, next_range=self._next_range,
        )  # fmt: skip

    def _decode(self, batch: Batch, cancelled: Callable[[], bool]) -> bool:
        """Add the rows that have to be fetched, chunk by chunk. Returns False once cancelled."""
        ahead = self._ahead
        while self._builder.wants_rows(batch):
            if cancelled():
                return False
            if ahead.have_chunk(self.epoch):
                ahead.offset = self._builder.add(batch, ahead.chunk, ahead.offset)
            else:
                self._builder.end_of_rows(batch)
        return True

    def _transform(
        self, batch: Batch, positions: Positions, first: int, last: int | None = None
    ) -> None:
        """Run some groups of the functions of a transform."""
        assert self._transformer is not None
        self.clock.enter("transform")
        self._transformer.run(batch, positions, first, last)
        self.clock.enter("decode")

    def _complete(self, batch: Batch, rows: Rows, fetched: Positions) -> bool:
        """Have the cache put the other rows between them. Returns False if they are not there."""
        if self._cached is None or self._builder.has_failed(batch):
            return True
        places, positions = fetched.tolist(), rows.positions
        self._builder.spread(batch, places, self._assignment.keys(positions), rows.draws)
        # Bad and partial rows are not kept: they are to be found and reported each time.
        bad = {*batch.bad, *batch.partial}
        if not self._cached.complete(
            (self.epoch, self._assignment.plan(self.epoch).first_row, self.batch),
            positions,
            decoded=places,
            targets=batch.targets,
            ragged=batch.ragged,
            bad=bad,
        ):
            return False
        self._builder.finish_images(batch)
        return True

    def _account(self, filled: Filled, cpu_start_s: float) -> None:
        """Note in ``filled`` what the batch has cost, and what has happened meanwhile."""
        filled.notes = [] if self._cached is None else self._cached.notes
        reconnects = self._fetcher.reconnects
        filled.reconnects = reconnects - self._reconnects
        self._reconnects = reconnects
        self.clock.settle()
        filled.times = Times(**self._lap.end(), cpu_s=self._cpu_s() - cpu_start_s)
        if self._is_traced:
            filled.spans = [self.clock.spans(), self._fetcher.clock.spans()]

    def interrupt(self) -> None:
        """Have a fetch that is under way end soon, with SourceError. From any thread."""
        self._ahead.interrupt()

    def close(self, *, patient: bool = True) -> None:
        """Give everything back. May be called twice, and in the middle of itself.

        Parameters
        ----------
        patient
            Wait until the fetching thread has ended.
        """
        self._ahead.close(patient=patient)
        if self._cached is not None:
            self._cached.close()
        self._assignment.close()

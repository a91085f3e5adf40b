"""Fills slots with batches: the one place where plan, source, kernel and ring's slots meet.

The rows of a chunk are decoded while a second thread fetches the next chunk. Both do their work
without the GIL.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np

from ..cache.file import Place
from ..cache.rows import CachedRows
from ..errors import RowError
from ..fields.columns import Column, store
from ..fields.image import ImageDecoder, StoredImages
from ..fields.slots import KEYS, Arrays, key_column, slot_image, stored_image
from ..observe.clock import Clock, Lap
from ..observe.stats import together
from ..options.config import Config
from ..plan.keys import Keys, array_equal, key_values
from ..plan.order import Positions
from ..plan.plan import KeyRange, Plan, key_ranges
from ..source.opening import open_source
from ..source.protocol import Chunk, Snapshot, Source
from ..transport.messages import Filled, Times, by_key
from .fetch_thread import FetchThread, Outcome

logger = logging.getLogger("fastloader")

CLOSE_TIMEOUT_S = 5.0
"""A read that was interrupted may take so long to end, where a disk or a server does not answer."""

GONE = "the row is gone: it was there when the keys were read"
OF_A_QUERY = ". The query may not return the same rows each time it is run"


class Fetched(NamedTuple):
    """Rows of an epoch; of one that has none left, None."""

    epoch: int
    chunk: Chunk | None


@dataclass
class _Batch:
    """A batch on its way into a slot: where it goes, and by position in it what is wrong.

    positions: of its rows in the key column. fetched: the places of those that have to be fetched.
    keys: first of these, in the end of all.
    """

    positions: Positions
    fetched: list[int]
    keys: Keys
    targets: Arrays
    bad: dict[int, str] = field(default_factory=dict)
    partial: dict[int, str] = field(default_factory=dict)
    passed_over: int = 0


class Producer:
    """Reads, decodes and resizes the batches of one worker, one after the other, epoch after epoch:
    the rows of the next epoch are fetched while the last ones of this one are decoded.

    config: the loader's. keys: of the table, in its order, (rows,).
    columns: the label columns, as the survey found them.
    snapshot: to read from. identity: of the database that the keys are from.
    worker, workers: batches j with j % workers == worker are this producer's.
    place: of the cache, if there is one.

    clock: of the thread that calls :meth:`fill`, at ``decode`` or ``source_wait`` meanwhile.
    """

    def __init__(
        self,
        config: Config,
        keys: Keys,
        columns: tuple[Column, ...],
        *,
        snapshot: Snapshot | None = None,
        identity: str = "",
        worker: int = 0,
        workers: int = 1,
        place: Place | None = None,
    ) -> None:
        self._config, self._keys = config, keys
        self._plan = Plan.of(config, len(keys))
        self._columns, self._key_column = columns, key_column(keys.dtype.str)
        self._gone = GONE + (OF_A_QUERY if config.query is not None else "")
        self._worker, self._workers = worker, workers
        self._decoders = [(image, ImageDecoder(image, config)) for image in config.images]
        self._stored = {
            image: StoredImages(image, config)
            for image in config.images
            if place is not None and config.is_random(image)
        }
        self._cached = None if place is None else CachedRows(config, place)
        # The thread that opens the source is the one that reads from it: sqlite3 insists.
        self._fetcher = FetchThread("fastloader-fetch")
        self._open = partial(
            open_source, config, snapshot, who=f"worker {worker}", identity=identity
        )
        self._source: Source | None = None
        self._chunks: Iterator[Fetched] | None = None
        self._next: Outcome[Fetched] | None = None
        self._fetched = Fetched(0, None)
        self._offset = 0  # of the first row of the chunk that is not in a batch yet
        self._batches: Iterator[tuple[int, int]] = iter(())
        self._range = 0  # number of the next batch's first range in its epoch's read
        self._reconnects = 0
        self.epoch, self.batch = 0, 0
        self._last_epoch: int | None = None
        self._is_traced = config.trace is not None
        self.clock = Clock(traced=self._is_traced)
        self._fetch_clock = Clock(traced=self._is_traced)
        self._lap = Lap(self.clock, self._fetch_clock)
        # Without workers the process is that of the training, which does other things too.
        self._cpu_s = time.process_time if config.workers else time.thread_time

    def start(self, epoch: int, first_batch: int, *, last_epoch: int | None = None) -> None:
        """Goes to the producer's first batch of the epoch at or after ``first_batch``, whatever it
        was doing. last_epoch: after which there is nothing; None to go on for ever."""
        self._last_epoch = last_epoch
        if self._cached is not None:
            self._cached.start()
        self._batches = self._sequence(epoch, first_batch)
        self.epoch = epoch
        self._range = 0
        self._fetched = Fetched(epoch, None)
        # The fetch that is under way, if any, ends first: there is one thread.
        self._next = self._fetcher.submit(partial(self._restart, epoch, first_batch))

    @property
    def following(self) -> tuple[int, int]:
        """Epoch and number of this producer's next batch after the one that was made last."""
        batch = self.batch + self._workers
        if batch < len(self._plan):
            return self.epoch, batch
        return self.epoch + 1, self._worker

    def _sequence(self, epoch: int, first_batch: int) -> Iterator[tuple[int, int]]:
        """(epoch, batch) of all that this producer makes."""
        batches = self._plan.batches_of(self._worker, self._workers)
        while batches and self._is_wanted(epoch):
            yield from ((epoch, batch) for batch in batches if batch >= first_batch)
            epoch, first_batch = epoch + 1, 0

    def _is_wanted(self, epoch: int) -> bool:
        return self._last_epoch is None or epoch <= self._last_epoch

    def fill(self, slot: Arrays, cancelled: Callable[[], bool] = lambda: False) -> Filled | None:
        """Puts the next batch into ``slot``; which one it is, ``epoch`` and ``batch`` say then.
        None if this producer has none, or once ``cancelled()``.

        Raises RowError for the first bad row where ``on_error="raise"``, SourceError otherwise.
        """
        following = next(self._batches, None)
        if following is None:
            return None
        cpu_start_s = self._cpu_s()
        self.clock.enter("decode")
        if following[0] != self.epoch:
            self._range = 0
        self.epoch, self.batch = following
        while True:
            into = self._begin(slot)
            if not self._decode(into, cancelled):
                return None
            if self._complete(into):
                break
            # Rows that should be in the cache are not: again, without them.
            self.start(self.epoch, self.batch, last_epoch=self._last_epoch)
            next(self._batches)  # this one
        if KEYS in into.targets:
            into.targets[KEYS][: len(into.keys)] = key_values(into.keys)
        filled = self._settle(into)
        filled.cached = len(into.positions) - len(into.fetched)
        filled.notes = [] if self._cached is None else self._cached.notes
        filled.text = {
            name: values[: filled.rows].tolist()
            for name, values in into.targets.items()
            if values.dtype == object
        }
        if self._source is not None:
            filled.reconnects = self._source.reconnects - self._reconnects
            self._reconnects += filled.reconnects
        for _, decoder in self._decoders:
            filled.images = together(filled.images, decoder.take_images())
        self.clock.settle()
        filled.times = Times(**self._lap.end(), cpu_s=self._cpu_s() - cpu_start_s)
        if self._is_traced:
            filled.spans = [self.clock.spans(), self._fetch_clock.spans()]
        return filled

    def _begin(self, slot: Arrays) -> _Batch:
        """What is to be done for the batch."""
        positions = self._plan.positions(self.epoch, self.batch)
        fetched = np.arange(len(positions))
        if self._cached is not None:
            fetched = np.flatnonzero(self._cached.missing(self.epoch, self.batch, positions))
        missing = positions[fetched]
        self._range += len(key_ranges(self._keys, missing))
        columns = [*self._columns, *([self._key_column] if self._config.with_keys else [])]
        text: dict[str, Any] = {
            c.name: np.empty(len(positions), object) for c in columns if c.is_text
        }
        stored: Arrays = {}
        for image, its in self._stored.items():
            stored.update(zip(stored_image(image), (its.images, its.seen), strict=True))
        targets = {**slot, **text, **stored}
        return _Batch(positions, fetched.tolist(), self._keys[missing], targets)

    def _decode(self, into: _Batch, cancelled: Callable[[], bool]) -> bool:
        """Makes the rows that have to be fetched, one after the other. False once cancelled."""
        at, keys = 0, into.keys
        while at < len(keys):
            if cancelled():
                return False
            if not self._have_chunk():
                into.bad.update((i, self._gone) for i in range(at, len(keys)))
                break
            at = self._take(into, at)
            if into.bad and self._config.on_error == "raise":
                break
        return True

    def _complete(self, into: _Batch) -> bool:
        """Has the cache put the other rows between them. False if they are not there."""
        if self._cached is None or (into.bad and self._config.on_error == "raise"):
            return True
        into.bad = {into.fetched[i]: reason for i, reason in into.bad.items()}
        into.partial = {into.fetched[i]: reason for i, reason in into.partial.items()}
        into.keys = self._keys[into.positions]
        # Those that are bad or partial are to be found and said each time.
        bad = {*into.bad, *into.partial}
        if not self._cached.complete(
            self.epoch, self.batch, into.positions, into.fetched, into.targets, bad=bad
        ):
            return False
        for image, its in self._stored.items():
            its.finish(into.targets[slot_image(image)], into.keys, self.epoch)
        return True

    def interrupt(self) -> None:
        """Have a fetch that is under way end soon, with SourceError. From any thread."""
        source, following = self._source, self._next
        if source is not None and following is not None and not following.is_there():
            source.interrupt()

    def close(self, *, patient: bool = True) -> None:
        """Give everything back. May be called twice, and in the middle of itself.

        patient: wait until the fetching thread has ended.
        """
        self.interrupt()
        self._fetcher.submit(self._close_source)  # which may only now be on its way to be opened
        self._fetcher.close()
        if patient and not self._fetcher.wait(CLOSE_TIMEOUT_S):
            logger.warning("%s: a read that does not end is left to itself", self._config.where)
        if self._cached is not None:
            self._cached.close()
        self._keys = self._keys[:0].copy()  # and with the view the plan's memory

    def _close_source(self) -> None:
        """Runs on the fetching thread."""
        if self._source is not None:
            self._source.close()

    # ---- rows --------------------------------------------------------------------------------

    def _restart(self, epoch: int, first_batch: int) -> Fetched:
        """Runs on the fetching thread."""
        if self._source is None:
            self._source = self._open()
        if self._chunks is not None:
            self._chunks.close()  # type: ignore[attr-defined]  # a generator
        self._chunks = self._read(self._source, epoch, first_batch)
        return self._fetch()

    def _fetch(self) -> Fetched:
        """Runs on the fetching thread."""
        assert self._chunks is not None
        self._fetch_clock.enter("fetch")
        try:
            return next(self._chunks)
        finally:
            self._fetch_clock.enter(None)

    def _read(self, source: Source, epoch: int, first_batch: int) -> Iterator[Fetched]:
        """Runs on the fetching thread: the rows of one epoch after the other."""
        while self._is_wanted(epoch):
            rest: Fetched | None = Fetched(epoch, None)
            for chunk in source.read(self._ranges(epoch, first_batch), self._columns):
                yield Fetched(epoch, chunk)
                rest = None
            if rest is not None:  # or a table without any of its rows would never be done
                yield rest
            epoch, first_batch = epoch + 1, 0
        yield from repeat(Fetched(epoch, None))

    def _ranges(self, epoch: int, first_batch: int) -> Iterator[KeyRange]:
        for batch in self._plan.batches_of(self._worker, self._workers, first_batch):
            positions = self._plan.positions(epoch, batch)
            if self._cached is not None:
                positions = positions[self._cached.missing(epoch, batch, positions)]
            yield from key_ranges(self._keys, positions)

    def _have_chunk(self) -> bool:
        """Makes sure of a chunk with rows left; False when the source has no more in this epoch."""
        while self._chunk is None or self._offset == len(self._chunk.keys):
            if self._fetched.epoch > self.epoch:
                return False
            assert self._next is not None
            if not self._next.is_there():
                self.clock.enter("source_wait")
            self._fetched, self._offset = self._next.take(), 0
            self.clock.enter("decode")
            self._next = self._fetcher.submit(self._fetch)
        return self._fetched.epoch == self.epoch

    @property
    def _chunk(self) -> Chunk | None:
        return self._fetched.chunk

    def _take(self, into: _Batch, at: int) -> int:
        """Moves rows of the chunk into the batch from position ``at`` on; the next position."""
        chunk, keys = self._chunk, into.keys
        assert chunk is not None
        count = min(len(keys) - at, len(chunk.keys) - self._offset)
        rows = slice(self._offset, self._offset + count)
        if not array_equal(chunk.keys[rows], keys[at : at + count]):
            # Some row came or went since the keys were read: one row at a time, for this stretch.
            if chunk.ranges[self._offset] >= self._range:  # the first row of the next batch
                into.bad.update((i, self._gone) for i in range(at, len(keys)))
                return len(keys)
            rows = slice(self._offset, self._offset + 1)
            ahead = np.flatnonzero(keys[at:] == chunk.keys[self._offset])
            if len(ahead) == 0:
                into.passed_over += 1
                self._offset += 1
                return at
            into.bad.update((i, self._gone) for i in range(at, at + int(ahead[0])))
            at, count = at + int(ahead[0]), 1
        self._put(chunk, rows, into, at)
        self._offset += count
        return at + count

    def _put(self, chunk: Chunk, rows: slice, into: _Batch, at: int) -> None:
        """Decodes these rows of the chunk into the batch from position ``at`` on."""
        for column, values in zip(self._columns, chunk.labels, strict=True):
            for i, reason in store(column, values[rows], into.targets[column.name][at:]).items():
                into.bad[at + i] = reason
        for (image, decoder), blobs in zip(self._decoders, chunk.images, strict=True):
            pictures, seen = into.targets[slot_image(image)][at:], None
            if image in self._stored:
                pictures, seen = (into.targets[name][at:] for name in stored_image(image))
            failed, cut = decoder.decode(blobs[rows], pictures, chunk.keys[rows], self.epoch, seen)
            for found, reasons in ((failed, into.bad), (cut, into.partial)):
                for i, reason in found.items():
                    reasons.setdefault(at + i, reason)
        for row, reason in chunk.bad.items():
            if rows.start <= row < rows.stop:
                into.bad[at + row - rows.start] = reason

    def _settle(self, batch: _Batch) -> Filled:
        """What ``on_error`` says of the bad rows."""
        keys, targets = batch.keys, batch.targets
        cut = {i: reason for i, reason in batch.partial.items() if i not in batch.bad}
        filled = Filled(len(keys), by_key(keys, batch.bad), by_key(keys, cut))
        filled.passed_over = batch.passed_over
        if batch.bad and self._config.on_error == "raise":
            raise RowError(*filled.bad[0])
        if batch.bad and self._config.on_error == "fill":
            for name, target in targets.items():
                if name != KEYS:
                    target[sorted(batch.bad)] = "" if target.dtype == object else 0
        elif batch.bad:
            kept = [i for i in range(len(keys)) if i not in batch.bad]
            filled.rows = len(kept)
            for target in targets.values():
                target[: len(kept)] = target[kept]
        return filled

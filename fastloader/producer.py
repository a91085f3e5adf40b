"""Fills slots with batches: the one place where plan, source, kernel and ring's slots meet.

The rows of a chunk are decoded while a second thread fetches the next chunk. Both do their work
without the GIL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._kernel import Decoder
from .columns import Column, store
from .config import MAX_SCANS, Config
from .errors import RowError, kernel_reason
from .plan import Plan, key_ranges
from .ring import IMAGES, KEYS, Arrays
from .source import Chunk, Source, open_source

GONE = "the row is gone: it was there when the keys were read"


@dataclass
class Filled:
    """What a slot holds now, and what a slot cannot hold.

    rows: delivered ones.
    bad: (key, reason) of the rows that were dropped or filled.
    text: the values of each text column.
    passed_over: rows of the key range that are not in the plan: new since the keys were read.
    """

    rows: int
    bad: list[tuple[int, str]] = field(default_factory=list)
    text: dict[str, list[str]] = field(default_factory=dict)
    passed_over: int = 0

    def to_payload(self) -> bytes:
        """All but the number of rows as JSON, or nothing where there is nothing to say."""
        if not (self.bad or self.text or self.passed_over):
            return b""
        return json.dumps([self.bad, self.text, self.passed_over]).encode()

    @classmethod
    def from_payload(cls, rows: int, payload: bytes) -> Filled:
        if not payload:
            return cls(rows)
        bad, text, passed_over = json.loads(payload)
        return cls(rows, [(key, reason) for key, reason in bad], text, passed_over)


class Producer:
    """Reads, decodes and resizes the batches of one worker, one after the other.

    config: the loader's. keys: of the table, sorted, int64 (rows,).
    columns: the label columns, as the survey found them.
    worker, workers: batches j with j % workers == worker are this producer's.
    """

    def __init__(
        self,
        config: Config,
        keys: NDArray[np.int64],
        columns: tuple[Column, ...],
        *,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._config = config
        self._keys = keys
        self._plan = Plan(len(keys), config.batch_size, config.drop_remainder)
        self._columns = columns
        self._worker = worker
        self._workers = workers
        self._decoder = Decoder(*config.size, max_pixels=config.max_pixels, max_scans=MAX_SCANS)
        # The thread that opens the source is the one that reads from it: sqlite3 insists.
        self._fetcher = ThreadPoolExecutor(1, "fastloader-fetch")
        self._source: Source | None = None
        self._chunks: Iterator[Chunk] | None = None
        self._next: Future[Chunk | None] | None = None
        self._chunk: Chunk | None = None
        self._offset = 0  # of the first row of the chunk that is not in a batch yet
        self._batches: Iterator[int] = iter(())

    def start(self, first_batch: int) -> None:
        """Goes to the producer's first batch at or after ``first_batch``, whatever it was doing."""
        batches = self._plan.batches_of(self._worker, self._workers, first_batch)
        ranges = (r for batch in batches for r in key_ranges(self._batch_keys(batch)))
        self._batches = iter(batches)
        self._chunk = None
        # The fetch that is under way, if any, ends first: there is one thread.
        self._next = self._fetcher.submit(self._restart, ranges)

    def fill(self, slot: Arrays, cancelled: Callable[[], bool] = lambda: False) -> Filled | None:
        """Puts the next batch into ``slot``. None if there is none or once ``cancelled()``.

        Raises RowError for the first bad row where ``on_error="raise"``, SourceError otherwise.
        """
        batch = next(self._batches, None)
        if batch is None:
            return None
        keys = self._batch_keys(batch).tolist()
        text: dict[str, Any] = {
            c.name: np.empty(len(keys), object) for c in self._columns if c.is_text
        }
        targets: Arrays = {**slot, **text}
        filled = Filled(len(keys))
        bad: dict[int, str] = {}
        at = 0
        while at < len(keys):
            if cancelled():
                return None
            if not self._have_chunk():
                bad.update((i, GONE) for i in range(at, len(keys)))
                break
            at += self._take(keys, at, targets, bad, filled)
            if bad and self._config.on_error == "raise":
                break
        if KEYS in targets:
            targets[KEYS][: len(keys)] = keys
        if bad:
            self._settle(bad, keys, targets, filled)
        filled.text = {name: values[: filled.rows].tolist() for name, values in text.items()}
        return filled

    def close(self) -> None:
        """May be called twice."""
        if self._source is not None:
            self._fetcher.submit(self._source.close)
            self._source = None
        self._fetcher.shutdown()

    def _batch_keys(self, batch: int) -> NDArray[np.int64]:
        return self._keys[self._plan.positions(batch)]

    # ---- rows --------------------------------------------------------------------------------

    def _restart(self, ranges: Iterator[tuple[int, int]]) -> Chunk | None:
        """Runs on the fetching thread."""
        if self._source is None:
            self._source = open_source(self._config)
        if self._chunks is not None:
            self._chunks.close()  # type: ignore[attr-defined]  # a generator
        self._chunks = self._source.read(ranges)
        return next(self._chunks, None)

    def _have_chunk(self) -> bool:
        """Makes sure of a chunk with rows left; False when the source has no more."""
        while self._chunk is None or self._offset == len(self._chunk.keys):
            if self._next is None:
                return False
            self._chunk, self._offset, fetched = self._next.result(), 0, self._chunks
            assert fetched is not None
            last = self._chunk is None
            self._next = None if last else self._fetcher.submit(next, fetched, None)
        return True

    def _take(
        self, keys: list[int], at: int, targets: Arrays, bad: dict[int, str], filled: Filled
    ) -> int:
        """Moves rows of the chunk into the batch from position ``at`` on; how many positions."""
        chunk = self._chunk
        assert chunk is not None
        count = min(len(keys) - at, len(chunk.keys) - self._offset)
        stop = self._offset + count
        if list(chunk.keys[self._offset : stop]) == keys[at : at + count]:
            self._put(chunk, slice(self._offset, stop), at, targets, bad)
            self._offset = stop
            return count
        # Some row came or went since the keys were read: one row at a time, for this stretch.
        key = chunk.keys[self._offset]
        if key == keys[at]:
            self._put(chunk, slice(self._offset, self._offset + 1), at, targets, bad)
            self._offset += 1
            return 1
        if key > keys[at]:
            bad[at] = GONE
            return 1
        filled.passed_over += 1
        self._offset += 1
        return 0

    def _put(
        self, chunk: Chunk, rows: slice, at: int, targets: Arrays, bad: dict[int, str]
    ) -> None:
        """Decodes these rows of the chunk into the targets from position ``at`` on."""
        for column, values in zip(self._columns, chunk.labels, strict=True):
            for i, reason in store(column, values[rows], targets[column.name][at:]).items():
                bad[at + i] = reason
        blobs = list(chunk.images[rows])
        for i, blob in enumerate(blobs):
            if not isinstance(blob, bytes):
                kind = "NULL" if blob is None else f"{type(blob).__name__}, not a blob"
                bad[at + i] = f"column {self._config.image!r} is {kind}"
                blobs[i] = b""
        for i, status, message in self._decoder.decode(blobs, targets[IMAGES][at:]):
            bad.setdefault(at + i, kernel_reason(status, message))

    def _settle(
        self, bad: dict[int, str], keys: list[int], targets: Arrays, filled: Filled
    ) -> None:
        """What ``on_error`` says of the bad rows, by position."""
        filled.bad = [(keys[i], bad[i]) for i in sorted(bad)]
        if self._config.on_error == "raise":
            raise RowError(*filled.bad[0])
        if self._config.on_error == "fill":
            for name, target in targets.items():
                if name != KEYS:
                    target[list(bad)] = "" if target.dtype == object else 0
            return
        kept = [i for i in range(len(keys)) if i not in bad]
        filled.rows = len(kept)
        for target in targets.values():
            target[: len(kept)] = target[kept]

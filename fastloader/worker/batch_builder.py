"""Decodes chunks of rows into the arrays of a slot, and settles what becomes of bad rows.

It runs on the decoding thread and knows neither threads nor databases nor files.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..batches.schema import LEVEL, OFFSETS, Arrays, Schema, is_key, stored_image
from ..errors import RowError, TransformError
from ..fields.image_decoder import ImageDecoder, StoredImages
from ..fields.ragged_rows import RaggedRows
from ..fields.scalars import store_texts
from ..fields.value import ValueField
from ..observe.stats import together
from ..options.config import Config
from ..plan.keys import Keys, array_equal, column_values, key_numbers, same
from ..plan.order import Draws, Positions, mixed
from ..source.protocol import Chunk
from ..transport.messages import Filled, by_key

GONE = "the row is gone: it was there when the keys were read"
GONE_OR_OTHER = "the row is gone or no longer meets where=: it was there when the keys were read"
OF_A_QUERY = ". The query may not return the same rows each time it is run"


@dataclass
class Batch:
    """A batch on its way into a slot.

    Attributes
    ----------
    epoch
        Its epoch, which random crops and flips depend on, together with :meth:`numbers`.
    keys
        The keys of the rows to be added, in their order, (n,). Once cached rows are among them, the
        keys of all rows.
    next_range
        The number, in the read of the epoch, of the first key range that belongs to the next batch.
    slot
        The arrays of the slot.
    targets
        The arrays to fill whose rows have a fixed size, by their names in a slot.
    ragged
        The rows of the other columns, by their names in a slot.
    draws
        The draws of the rows with these keys; see :class:`fastloader.plan.order.Rows`.
    at
        How many rows are done.
    bad, partial
        What is wrong with a row, by its position in ``keys``.
    passed_over
        Rows that were read but are not in the plan.
    raised
        The positions of bad rows on which a transform has failed.
    dropped
        The positions of rows that a transform has dropped.
    cleared
        The positions of bad rows that were filled, and reported.
    positions
        The positions of the rows in the keys of the table, once a transform runs.
    filled
        What the batch holds, as far as it is known.
    """

    epoch: int
    keys: Keys
    next_range: int
    slot: Arrays
    targets: Arrays
    ragged: dict[str, RaggedRows]
    draws: Draws | None = None
    at: int = 0
    bad: dict[int, str] = field(default_factory=dict)
    partial: dict[int, str] = field(default_factory=dict)
    passed_over: int = 0
    raised: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    cleared: list[int] = field(default_factory=list)
    positions: Positions = field(default_factory=lambda: np.empty(0, np.int64))
    filled: Filled = field(default_factory=lambda: Filled(0))

    def numbers(self, rows: slice = slice(None)) -> NDArray[np.uint64]:  # a constant
        """Return a number for some of the rows, uint64 (n,), of its key and its draw."""
        numbers = key_numbers(self.keys[rows])
        return numbers if self.draws is None else numbers ^ mixed(self.draws[rows])


class BatchBuilder:
    """Makes batches: :meth:`begin`, :meth:`add` while :meth:`wants_rows`, :meth:`settle`.

    Parameters
    ----------
    config
        The loader's options.
    schema
        What a batch holds.
    """

    def __init__(self, config: Config, schema: Schema) -> None:
        context = config.context
        entries = dict.fromkeys(entry for level in schema.levels for entry in level)
        self._ragged = [entry.in_slot for entry in entries if entry.column.is_ragged]
        self._fixed = [entry.slot for entry in entries if not entry.column.is_ragged]
        # Where entries are that a transform replaces.
        self._replaced = {
            entry.slot: np.empty(entry.column.room(config.batch_size), entry.column.numpy_dtype)
            for entry in entries
            if entry.slot.startswith(LEVEL)
        }
        self._delivered_ragged = [e.slot for e in schema.entries if e.column.is_ragged]
        self._max_blob_bytes = config.max_blob_bytes
        self._values = [
            (value, schema.of_field(value))
            for value in config.all_fields
            if isinstance(value, ValueField)
        ]
        self._decoders = [
            (entry, image.in_chunk, ImageDecoder(image, context)) for entry, image in schema.images
        ]
        self._keys = [entry.in_slot for entry in schema.entries if is_key(entry.slot)]
        self._is_random = any(image.is_random for _, image in schema.images)
        self._stored = {
            entry: StoredImages(image, context, config.batch_size)
            for entry, image in schema.images
            if context.is_cached and image.is_random
        }
        self._on_error = config.on_error
        self._gone = GONE if config.where is None else GONE_OR_OTHER
        if config.query is not None:
            self._gone += OF_A_QUERY

    def begin(
        self,
        slot: Arrays,
        keys: Keys,
        *,
        rows: int,
        epoch: int,
        next_range: int,
        draws: Draws | None = None,
    ) -> Batch:
        """Return a batch without rows.

        Parameters
        ----------
        slot
            The arrays of the slot, with room for ``batch_size`` rows.
        keys
            The keys of the rows to add.
        rows
            How many rows the batch has, with those that come out of the cache.
        draws
            The draws of the rows to add.
        """
        slot = {**slot, **self._replaced} if self._replaced else slot
        targets = {name: slot[name] for name in self._fixed}
        for entry, its in self._stored.items():
            targets.update(zip(stored_image(entry), (its.images, its.seen), strict=True))
        ragged = {its.name: RaggedRows(its, slot[its.name], rows) for its in self._ragged}
        return Batch(epoch, keys, next_range, slot, targets, ragged, draws)

    def wants_rows(self, batch: Batch) -> bool:
        """Return whether rows are missing; with ``on_error="raise"``, no more after a bad one."""
        return batch.at < len(batch.keys) and not self.has_failed(batch)

    def has_failed(self, batch: Batch) -> bool:
        """Return whether :meth:`settle` will raise RowError."""
        return bool(batch.bad) and self._on_error == "raise"

    def add(self, batch: Batch, chunk: Chunk, offset: int) -> int:
        """Add rows of a chunk, from ``offset`` on.

        Returns
        -------
        int
            The offset of the first row that was not used. The batch may want more of the chunk.
        """
        at, keys = batch.at, batch.keys
        count = min(len(keys) - at, len(chunk.keys) - offset)
        if not array_equal(chunk.keys[offset : offset + count], keys[at : at + count]):
            # Some row came or went since the keys were read: one row at a time, for this stretch.
            if chunk.ranges[offset] >= batch.next_range:
                self.end_of_rows(batch)
                return offset
            ahead = np.flatnonzero(same(keys[at:], chunk.keys[offset : offset + 1]))
            if len(ahead) == 0:
                batch.passed_over += 1
                return offset + 1
            count, at = 1, at + int(ahead[0])
            batch.bad.update((i, self._gone) for i in range(batch.at, at))
        self._decode(batch, chunk, slice(offset, offset + count), at)
        batch.at = at + count
        return offset + count

    def end_of_rows(self, batch: Batch) -> None:
        """Take note that the source has no more rows of the batch."""
        batch.bad.update((i, self._gone) for i in range(batch.at, len(batch.keys)))
        batch.at = len(batch.keys)

    def _decode(self, batch: Batch, chunk: Chunk, rows: slice, at: int) -> None:
        """Decode these rows of the chunk into the batch, from position ``at`` on."""
        targets = batch.targets
        for taker, (entry, *valid) in self._values:
            values = chunk.columns[taker.in_chunk][rows].up_to(self._max_blob_bytes)
            target = batch.ragged[entry.slot] if entry.column.is_ragged else targets[entry.slot]
            mask = targets[valid[0].slot] if valid else None
            for i, reason in taker.store(entry.column, values, target, at, mask).items():
                batch.bad[at + i] = reason
        count = rows.stop - rows.start
        numbers = np.zeros(count, np.uint64)
        if self._is_random:
            numbers = batch.numbers(slice(at, at + count))
        for entry, column, decoder in self._decoders:
            images, seen = targets[entry.slot][at:], None
            if entry in self._stored:
                images, seen = (targets[name][at:] for name in stored_image(entry))
            blobs = chunk.columns[column][rows]
            failed, cut = decoder.decode(blobs, images, numbers, batch.epoch, seen)
            for found, reasons in ((failed, batch.bad), (cut, batch.partial)):
                for i, reason in found.items():
                    reasons.setdefault(at + i, reason)
        for row, reason in chunk.bad.items():
            if rows.start <= row < rows.stop:
                batch.bad[at + row - rows.start] = reason

    def spread(
        self, batch: Batch, places: list[int], keys: Keys, draws: Draws | None = None
    ) -> None:
        """Make room for cached rows between those that were added.

        Parameters
        ----------
        places
            The new position of each row that was added.
        keys, draws
            The keys and the draws of all rows.
        """
        batch.bad = {places[i]: reason for i, reason in batch.bad.items()}
        batch.partial = {places[i]: reason for i, reason in batch.partial.items()}
        batch.raised = {places[i] for i in batch.raised}
        for its in batch.ragged.values():
            its.spread(places)
        batch.keys, batch.draws, batch.at = keys, draws, len(keys)

    def finish_images(self, batch: Batch) -> None:
        """Make the images of random columns out of what a cache keeps of them."""
        for entry, its in self._stored.items():
            its.finish(batch.targets[entry.slot], batch.numbers(), batch.epoch)

    def condense(self, batch: Batch) -> None:
        """Do with the bad rows what ``on_error`` asks for, and leave out those that were dropped.

        Raises
        ------
        RowError
            A row is bad, and ``on_error="raise"``.
        """
        filled, count = batch.filled, len(batch.keys)
        cut = {i: reason for i, reason in batch.partial.items() if i not in batch.bad}
        bad = by_key(batch.keys, batch.bad)
        if self.has_failed(batch):
            raise (TransformError if min(batch.bad) in batch.raised else RowError)(*bad[0])
        filled.bad += bad
        filled.partial += by_key(batch.keys, cut)
        gone = set(batch.dropped)
        filled.dropped += len(gone)
        if self._on_error == "fill":
            batch.cleared = sorted({*batch.cleared, *batch.bad})
            self._clear(batch, batch.cleared)
        else:
            gone |= batch.bad.keys()
        batch.bad, batch.partial = {}, {}
        batch.raised, batch.dropped = set(), set()
        if not gone:
            return
        kept = np.delete(np.arange(count), sorted(gone))
        for target in batch.targets.values():
            target[: len(kept)] = target[kept]
        for its in batch.ragged.values():
            its.keep(kept)
        batch.cleared = np.searchsorted(kept, [i for i in batch.cleared if i not in gone]).tolist()
        batch.keys, batch.at = batch.keys[kept], len(kept)
        batch.draws = None if batch.draws is None else batch.draws[kept]
        batch.positions = batch.positions[kept] if len(batch.positions) else batch.positions

    def settle(self, batch: Batch) -> Filled:
        """Finish a batch.

        Returns
        -------
        Filled
            What the batch holds. Its rows are the first ones of the slot.

        Raises
        ------
        RowError
            A row is bad, and ``on_error="raise"``.
        """
        self.condense(batch)
        self._store_keys(batch)
        filled, kept = batch.filled, np.arange(len(batch.keys))
        filled.rows = len(kept)
        filled.passed_over = batch.passed_over
        for name in self._delivered_ragged:
            rows = batch.ragged[name]
            spilled = rows.finish(kept, batch.slot[name + OFFSETS])
            if spilled is not None:
                filled.spilled[name] = spilled.nbytes
                filled.tail += spilled.tobytes()
        for *_, decoder in self._decoders:
            filled.images = together(filled.images, decoder.take_images())
        return filled

    def _store_keys(self, batch: Batch) -> None:
        """Store the keys, if they are delivered."""
        if self._keys:
            for column, values in zip(self._keys, column_values(batch.keys), strict=True):
                if column.is_ragged:
                    store_texts(values, batch.ragged[column.name])
                else:
                    batch.targets[column.name][: len(values)] = values

    @staticmethod
    def _clear(batch: Batch, rows: list[int]) -> None:
        """Make everything but the keys of these rows zero or empty."""
        for name, target in batch.targets.items():
            if not is_key(name):
                target[rows] = 0
        for name, its in batch.ragged.items():
            if not is_key(name):
                its.lengths[rows] = 0

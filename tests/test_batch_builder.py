"""Batches are built of chunks: rows that are gone, new or bad, wherever the chunks end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fastloader.batches.schema import IMAGE as IMAGE_PREFIX
from fastloader.batches.schema import KEYS, OFFSETS, Arrays, Schema, stored_image
from fastloader.errors import RowError
from fastloader.fields.columns import Column
from fastloader.fields.scalars import decoded_texts
from fastloader.fields.values import Values
from fastloader.options.config import Config, make_config
from fastloader.plan.keys import Keys
from fastloader.plan.plan import key_ranges
from fastloader.source.protocol import Chunk
from fastloader.transport.messages import Filled
from fastloader.transport.ring import Layout
from fastloader.worker.batch_builder import GONE, OF_A_QUERY, Batch, BatchBuilder

LABELS = (Column("label", "int64"), Column("text", "text"))
IMAGE = f"{IMAGE_PREFIX}x image_data"
BATCH_SIZE = 6

GOOD, BROKEN, NULL, MISSING, CUT = range(5)
"""What there may be in a row: bad are those with a broken image, a NULL label, or no image at all;
partial is the one whose image ends early."""
REASONS = {
    BROKEN: "unknown image format",
    NULL: "column 'label' holds NULL",
    MISSING: "no image",
    CUT: "partial image",
}


@cache
def blob(level: int, kind: int = GOOD) -> bytes:
    """Return the blob of a gray image, or of one that is broken or missing."""
    if kind in (BROKEN, MISSING):
        return b"this is not an image" if kind == BROKEN else b""
    file = io.BytesIO()
    size = (64, 64) if kind == CUT else (1, 1)
    noise = np.random.default_rng(1).integers(0, 255, size).astype(np.uint8)
    pixels = noise if kind == CUT else np.full(size, level, np.uint8)
    Image.fromarray(pixels).save(file, "JPEG" if kind == CUT else "PNG")
    whole = file.getvalue()
    return whole[: len(whole) // 2] if kind == CUT else whole


def options(**given: Any) -> Config:
    plain = {"size": (1, 1), "channels": 1, "batch_size": BATCH_SIZE, "workers": 1}
    return make_config({"url": "x.db", "label": ["label", "text"], **plain, **given}, {})


@dataclass
class Table:
    """A table that has changed since its keys were read.

    Attributes
    ----------
    keys
        The keys as they were read.
    batches
        The rows of each batch, as positions in ``keys``.
    rows
        What the table holds now: the kind of the row with each key.
    cuts
        How many rows each chunk has, again and again.
    """

    keys: Keys
    batches: list[list[int]]
    rows: dict[int, int]
    cuts: list[int]

    def read(self, batch: int) -> list[list[int]]:
        """Return the keys of the rows in each of the batch's key ranges."""
        ranges = key_ranges(self.keys, np.array(self.batches[batch], int))
        return [[k for k in sorted(self.rows) if low <= k <= high] for low, high in ranges]

    def chunks(self) -> Iterator[Chunk]:
        """Yield what a source reads."""
        ranges = [keys for batch in range(len(self.batches)) for keys in self.read(batch)]
        rows = [(number, key) for number, keys in enumerate(ranges) for key in keys]
        turn = 0
        while rows:
            count = self.cuts[turn % len(self.cuts)]
            part, rows, turn = rows[:count], rows[count:], turn + 1
            keys = [key for _, key in part]
            kinds = [self.rows[key] for key in keys]
            labels = [None if self.rows[key] == NULL else 10 * key for key in keys]
            yield Chunk(
                keys=np.array(keys, np.int64),
                ranges=np.array([number for number, _ in part], np.int64),
                columns={
                    "image_data": Values.of([blob(key % 251, self.rows[key]) for key in keys]),
                    "label": Values.of(labels),
                    "text": Values.of([*map(text, keys)]),
                },
                bad={i: REASONS[MISSING] for i, kind in enumerate(kinds) if kind == MISSING},
            )  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> Table:
    kinds = st.sampled_from([GOOD, GOOD, GOOD, GOOD, BROKEN, NULL, MISSING, CUT])
    planned = sorted(draw(st.sets(st.integers(0, 40), min_size=1, max_size=24)))
    order = list(range(len(planned)))
    if draw(st.booleans()):
        order = draw(st.permutations(order))
    size = draw(st.integers(1, BATCH_SIZE))
    gone = draw(st.sets(st.sampled_from(planned), max_size=len(planned) // 2))
    new = draw(st.sets(st.integers(0, 40), max_size=6))
    return Table(
        np.array(planned, np.int64),
        [order[i : i + size] for i in range(0, len(order), size)],
        {key: draw(kinds) for key in sorted({*planned, *new} - gone)},
        draw(st.lists(st.integers(1, 9), min_size=1, max_size=4)),
    )


def layout_of(config: Config) -> Layout:
    return Layout.of(BATCH_SIZE, Schema(config, LABELS, "int64").slot_columns)


def slot_of(config: Config) -> Arrays:
    """Return a slot with what the batch before has left in it."""
    layout = layout_of(config)
    return layout.arrays(np.full(layout.slot_bytes, 77, np.uint8))


def text(key: int) -> str:
    """Return the text of a row: six of them are more than there is room for."""
    return f"row {key}" * 3


def texts_of(arrays: Arrays) -> list[str]:
    texts: list[str] = decoded_texts(arrays["y text"], arrays["y text" + OFFSETS]).tolist()
    return texts


def built(table: Table, config: Config) -> Iterator[tuple[Arrays, Filled]]:
    """Yield the batches, made of chunks as a producer does it."""
    builder, slot = BatchBuilder(config, Schema(config, LABELS, "int64")), slot_of(config)
    chunks, chunk, offset, ranges = table.chunks(), None, 0, 0
    for positions in table.batches:
        rows = np.array(positions, int)
        ranges += len(key_ranges(table.keys, rows))
        batch = builder.begin(slot, table.keys[rows], rows=len(rows), epoch=0, next_range=ranges)
        while builder.wants_rows(batch):
            if chunk is None or offset == len(chunk.keys):
                chunk, offset = next(chunks, None), 0
            if chunk is None:
                builder.end_of_rows(batch)
            else:
                offset = builder.add(batch, chunk, offset)
        filled = builder.settle(batch)
        arrays = layout_of(config).delivered(slot, filled.rows, filled.parts())
        yield {name: array.copy() for name, array in arrays.items()}, filled


def expected_bad(table: Table, batch: int) -> dict[int, str]:
    """Return the reasons for the batch's bad rows, by key, in the order of the batch."""
    kinds = {key: table.rows.get(key) for key in table.keys[table.batches[batch]].tolist()}
    return {
        key: GONE if kind is None else REASONS[kind]
        for key, kind in kinds.items()
        if kind not in (GOOD, CUT)
    }


def check(table: Table, batch: int, arrays: Arrays, filled: Filled, *, is_kept: bool) -> None:
    """Compare a batch with what should be in it.

    Parameters
    ----------
    is_kept
        Whether bad rows are filled with zeros, or dropped.
    """
    keys = table.keys[table.batches[batch]].tolist()
    bad = expected_bad(table, batch)
    delivered = [key for key in keys if is_kept or key not in bad]
    assert filled.rows == len(delivered)
    assert [key for key, _ in filled.bad] == [*bad]
    assert all(reason.startswith(bad[key]) for key, reason in filled.bad)
    partial = [key for key in keys if table.rows.get(key) == CUT]
    assert [key for key, _ in filled.partial] == partial
    assert all(reason.startswith(REASONS[CUT]) for _, reason in filled.partial)
    assert filled.passed_over == sum(k not in keys for part in table.read(batch) for k in part)
    assert arrays[f"{KEYS} 0"].tolist() == delivered
    assert arrays["y label"].tolist() == [0 if key in bad else 10 * key for key in delivered]
    assert texts_of(arrays) == ["" if key in bad else text(key) for key in delivered]
    levels = dict(zip(delivered, arrays[IMAGE].reshape(-1).tolist(), strict=True))
    for key in set(delivered).difference(partial):
        assert levels[key] == (0 if key in bad else key % 251)


@pytest.mark.parametrize("on_error", ["skip", "fill"])
@given(table=tables())
def test_every_row_is_delivered_or_has_a_reason(table: Table, on_error: str) -> None:
    batches = [*built(table, options(on_error=on_error, with_keys=True))]
    assert len(batches) == len(table.batches)
    for batch, (arrays, filled) in enumerate(batches):
        check(table, batch, arrays, filled, is_kept=on_error == "fill")


@given(table=tables())
def test_the_first_bad_row_is_raised(table: Table) -> None:
    bad = [expected_bad(table, batch) for batch in range(len(table.batches))]
    good = next((batch for batch, reasons in enumerate(bad) if reasons), len(bad))
    batches = built(table, options(on_error="raise", with_keys=True))
    for batch in range(good):
        check(table, batch, *next(batches), is_kept=False)
    if good < len(bad):
        with pytest.raises(RowError) as caught:
            next(batches)
        key, reason = next(iter(bad[good].items()))
        assert caught.value.key == key
        assert caught.value.reason.startswith(reason)


@given(table=tables())
def test_decoded_images_are_counted_once(table: Table) -> None:
    found = [filled.images for _, filled in built(table, options(on_error="skip"))]
    planned = [table.rows.get(key) for key in table.keys.tolist()]
    # The image of a row whose label is bad has been decoded all the same.
    expected = {"PNG": planned.count(GOOD) + planned.count(NULL), "JPEG": planned.count(CUT)}
    for format, count in expected.items():
        assert sum(its[format].decoded for its in found if format in its) == count


def test_a_query_may_be_why_rows_are_gone() -> None:
    table = Table(np.arange(3), [[0, 1, 2]], {0: GOOD, 2: GOOD}, [9])
    config = options(on_error="skip", query="SELECT 1", table=None)
    ((_, filled),) = built(table, config)
    assert filled.bad == [(1, GONE + OF_A_QUERY)]


def test_cached_rows_come_between_those_that_were_added(tmp_path: Any) -> None:
    """What a cache keeps of a random column is made into the batch's images at the end."""
    config = options(cache=str(tmp_path), flip=True, on_error="fill", with_keys=True)
    builder, slot = BatchBuilder(config, Schema(config, LABELS, "int64")), slot_of(config)
    table = Table(np.arange(2, 4), [[0, 1]], {2: GOOD, 3: BROKEN}, [9])
    batch: Batch = builder.begin(slot, table.keys, rows=4, epoch=0, next_range=1)
    (chunk,) = table.chunks()
    assert builder.add(batch, chunk, 0) == 2
    assert not builder.wants_rows(batch)
    keys = np.array([9, 2, 8, 3])
    targets = batch.targets
    stored, _ = stored_image(Schema(config, LABELS, "int64").images[0][0])
    # As the cache does it: the decoded rows go to places 1 and 3, the cached ones to 0 and 2.
    for target in targets.values():
        target[3], target[1] = target[1], target[0]
    builder.spread(batch, [1, 3], keys)
    for at in (0, 2):
        targets[stored][at], targets["y label"][at] = 100 + at, -at
        batch.ragged["y text"].put(at, b"cached")
    builder.finish_images(batch)
    filled = builder.settle(batch)
    assert [key for key, _ in filled.bad] == [3]
    assert slot[f"{KEYS} 0"][:4].tolist() == [9, 2, 8, 3]
    assert slot["y label"][:4].tolist() == [0, 20, -2, 0]
    assert slot[IMAGE][:4].reshape(-1).tolist() == [100, 2, 102, 0]
    arrays = layout_of(config).delivered(slot, 4, filled.parts())
    assert texts_of(arrays) == ["cached", text(2), "cached", ""]

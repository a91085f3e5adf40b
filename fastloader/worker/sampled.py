"""Reads the column that sampling depends on, and keeps what the order of an epoch needs of it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..batches.schema import Schema
from ..errors import ConfigError, PlanError, RowError, SourceError
from ..fields.category import MOST_CLASSES, Category, can_have_classes
from ..fields.columns import Column
from ..fields.number import Number
from ..options.config import Config
from ..options.sampling import Weighted
from ..plan.keys import Keys, dtype_name, key_values
from ..plan.order import Order, Positions, Uniform
from ..plan.plan import KeyRange, key_ranges
from ..plan.sampling import OfWeights, cumulative, first_of_classes, grouped, order_of_classes
from ..source.opening import open_source
from ..source.protocol import Snapshot, Source
from ..transport.memory import map_array, write_array
from ..transport.ring import Layout
from .batch_builder import BatchBuilder

BLOCK_ROWS = 1 << 16
"""The number of rows whose values are decoded at a time."""


@dataclass(frozen=True)
class Sampled:
    """Where the memory has what sampling depends on.

    Attributes
    ----------
    begin
        The first array: the positions of the rows by class, or the cumulative weights.
    ends
        Where each class ends.
    classes
        The number of classes.
    rows
        The number of rows in the table.
    """

    begin: int = 0
    ends: int = 0
    classes: int = 0
    rows: int = 0


NOT_SAMPLED = Sampled()


def sample(
    config: Config,
    memory: io.FileIO,
    keys: Keys,
    follows: NDArray[np.bool_] | None,
    *,
    snapshot: Snapshot | None,
    identity: str,
) -> Sampled:
    """Read the column that sampling depends on, and write what the order needs.

    Parameters
    ----------
    memory
        Where to write it.
    keys, follows
        The rows to load; see :func:`~fastloader.plan.plan.key_ranges`.
    snapshot, identity
        What to read from; see :func:`fastloader.source.opening.open_source`.

    Raises
    ------
    SourceError, ConfigError, PlanError
        The column cannot be read, or a row has no class or weight.
    """
    sampling = config.sampling
    if sampling is None:
        return NOT_SAMPLED
    column = sampling.column
    assert column is not None  # make_config has filled it in
    # A loader's own reading, of nothing but this column.
    is_weight = isinstance(sampling, Weighted)
    field = Number(column) if is_weight else Category(column)
    narrow = replace(
        config, image=None, fields={column: field}, label=None, sample_weight=None, sampling=None,
        with_keys=False, transform=(), cache=None, cache_transformed=False, on_error="raise",
        batch_size=min(len(keys), BLOCK_ROWS),
    )  # fmt: skip
    try:
        source = open_source(narrow, snapshot, who="survey of classes", identity=identity)
        with contextlib.closing(source):
            columns = tuple(with_classes(narrow, source, source.label_columns(keys)))
            values = _values(narrow, source, keys, follows, columns)
    except RowError as error:
        raise PlanError(
            f"{config.place}: sampling={sampling!r}: the row with key {error.key}: "
            f"{error.reason}. Give it a value, or leave such rows out with where="
        ) from None
    except (SourceError, ConfigError) as error:
        raise type(error)(f"{error}. It is the column of sampling={sampling!r}") from None
    if is_weight:
        return _write_weights(config, memory, keys, values.astype(np.float64, copy=False))
    members, ends = grouped(values.astype(np.int64))
    begin, classes = write_array(memory, members), len(ends)
    return Sampled(begin, write_array(memory, ends), classes, len(members))


def order_of(config: Config, rows: int, found: Sampled, memory: io.FileIO) -> Order:
    """Return the order of an epoch.

    Parameters
    ----------
    rows
        The number of rows to load: those of the table, or only the first ones.
    found
        What :func:`sample` has returned.
    memory
        Where it has written.

    Raises
    ------
    PlanError
        There are fewer classes than a batch has.
    """
    sampling = config.sampling
    if sampling is None:
        return Uniform(rows, config.shuffle, config.shuffle_block, config.seed, config.epoch_rows)
    epoch_rows = config.epoch_rows or rows
    if isinstance(sampling, Weighted):
        weights = map_array(memory, np.float64, rows, found.begin)
        return OfWeights(weights, config.seed, epoch_rows, sampling)
    members: Positions = map_array(memory, np.int64, found.rows, found.begin)
    ends: Positions = map_array(memory, np.int64, found.classes, found.ends)
    if rows < found.rows:
        members, ends = first_of_classes(members, ends, rows)
    return order_of_classes(
        sampling, members, ends, seed=config.seed, rows=epoch_rows, where=config.place
    )


def with_classes(config: Config, source: Source, columns: Iterable[Column]) -> Iterator[Column]:
    """Yield the columns, those of categories with the classes of the table."""
    for column in columns:
        if column.name not in config.class_columns or not can_have_classes(column):
            yield column
            continue
        classes = source.classes(column.name, MOST_CLASSES + 1)
        if len(classes) > MOST_CLASSES:
            raise ConfigError(
                f"{config.place}: column {column.name!r} has more than {MOST_CLASSES} classes. "
                f"Read it with Text or Number, or name the classes with classes="
            )
        yield replace(column, classes=tuple(classes))


def _write_weights(
    config: Config, memory: io.FileIO, keys: Keys, weights: NDArray[np.float64]
) -> Sampled:
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        first = int(bad.argmax())
        raise PlanError(
            f"{config.place}: sampling={config.sampling!r}: the row with key "
            f"{key_values(keys[first : first + 1])[0]} has the weight {weights[first]}; weights "
            f"are numbers from 0 on"
        )
    try:
        ends = cumulative(weights)
    except PlanError as error:
        raise PlanError(f"{config.place}: sampling={config.sampling!r}: {error}") from None
    return Sampled(write_array(memory, ends))


def _values(
    config: Config,
    source: Source,
    keys: Keys,
    follows: NDArray[np.bool_] | None,
    columns: Sequence[Column],
) -> NDArray[np.generic]:
    """Return the values of the only field, one for each key, (n,). Raises RowError."""
    schema = Schema(config, columns, dtype_name(keys.dtype))
    (entry,) = schema.entries
    builder = BatchBuilder(config, schema)
    layout = Layout.of(config.batch_size, schema.slot_columns)
    slot = layout.arrays(np.empty(layout.slot_bytes, np.uint8))
    blocks = [
        np.arange(begin, min(begin + config.batch_size, len(keys)))
        for begin in range(0, len(keys), config.batch_size)
    ]

    def ranges() -> Iterator[KeyRange]:
        for positions in blocks:
            yield from key_ranges(keys, positions, follows)

    values = np.empty(len(keys), entry.column.numpy_dtype)
    chunks, next_range = source.read(ranges(), columns), 0
    chunk, offset = next(chunks, None), 0
    for positions in blocks:
        next_range += len(key_ranges(keys, positions, follows))
        batch = builder.begin(
            slot, keys[positions], rows=len(positions), epoch=0, next_range=next_range
        )
        while builder.wants_rows(batch) and chunk is not None:
            offset = builder.add(batch, chunk, offset)
            if offset == len(chunk.keys):
                chunk, offset = next(chunks, None), 0
        builder.end_of_rows(batch)
        builder.condense(batch)
        values[positions] = batch.targets[entry.slot][: len(positions)]
    return values

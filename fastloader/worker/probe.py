"""Finds out what a transform delivers, by running it on a few rows when the loader is made.

It runs where the table is surveyed. What was declared with ``outputs=`` is taken as it is.
"""

from __future__ import annotations

import faulthandler
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from ..batches.schema import Output, Schema
from ..errors import ConfigError, TransformError
from ..fields.columns import BYTES_OF, TEXT_DTYPE, Column
from ..fields.ragged_rows import RaggedRows
from ..options.config import Config
from ..plan.keys import Key, Keys, dtype_name, key_numbers, key_values
from ..plan.order import spread
from ..source.files import FileReader
from ..source.protocol import Source
from ..transforms.draws import BATCH, ROW, Draws
from ..transforms.step import Spec
from ..transport.ring import Layout
from .batch_builder import BatchBuilder
from .group import Failed, Group, Values, groups_of
from .transformer import view_in
from .views import Unfit, View, numbers, view_of

SOME_ROWS = 8
"""The number of rows that a transform is tried on, evenly spread over the table."""

Level = tuple[Output, ...]


def probe(
    config: Config, source: Source, keys: Keys, columns: Sequence[Column]
) -> tuple[Level, ...]:
    """Return what each group of functions leaves.

    Parameters
    ----------
    config
        The options of the loader.
    source
        Where to read some rows.
    keys
        The keys of the table.
    columns
        What the survey has found in the columns.

    Raises
    ------
    TransformError
        A function has failed on a row, and ``on_error="raise"``.
    ConfigError
        A function cannot be loaded, or what it returns is of no use.
    """
    some = keys[spread(len(keys), SOME_ROWS)]
    plain = replace(
        config, transform=(), cache=None, cache_transformed=False, on_error="skip",
        batch_size=len(some), with_keys=False,
    )  # fmt: skip
    schema = Schema(plain, columns, dtype_name(keys.dtype))
    some, rows = _decoded(plain, schema, source, some, columns)
    level = tuple(Output(entry.part, entry.column) for entry in schema.entries)
    levels = []
    for group in groups_of(config.transform):
        tried = Trial(config, group, level, key_values(some), key_numbers(some).tolist())
        kept, rows = tried.run(rows)
        level, some = tried.left(kept, rows), some[kept]
        levels.append(level)
    return tuple(levels)


@contextmanager
def _limited(config: Config) -> Iterator[None]:
    """End this process, with a traceback, if a function does not return. A worker's only."""
    if not config.workers:
        yield
        return
    faulthandler.dump_traceback_later(config.transform_timeout_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _decoded(
    config: Config, schema: Schema, source: Source, keys: Keys, columns: Sequence[Column]
) -> tuple[Keys, list[Values]]:
    """Return the keys of those rows that are good, and the rows."""
    builder = BatchBuilder(config, schema)
    layout = Layout.of(len(keys), schema.slot_columns)
    slot = layout.arrays(np.empty(layout.slot_bytes, np.uint8))
    ranges = [(key, key) for key in key_values(keys)]
    batch = builder.begin(slot, keys, rows=len(keys), epoch=0, next_range=len(ranges))
    with closing(FileReader(config)) as files:
        for chunk in files.chunks(source, source.read(ranges, columns)):
            offset = 0
            while offset < len(chunk.keys) and builder.wants_rows(batch):
                offset = builder.add(batch, chunk, offset)
    builder.end_of_rows(batch)
    builder.condense(batch)
    views = {entry.name: view_in(batch, entry) for entry in schema.entries}
    return batch.keys, [
        {name: view.row(at) for name, view in views.items()} for at in range(batch.at)
    ]


class Trial:
    """One group of functions, and what it makes of some rows.

    Parameters
    ----------
    config
        The options of the loader.
    group
        The functions.
    before
        The entries that they get.
    keys, key_numbers
        The keys of the rows, and their numbers.
    """

    def __init__(
        self,
        config: Config,
        group: Group,
        before: Level,
        keys: list[Key],
        key_numbers: list[int],
    ) -> None:
        self._config, self._group, self._before = config, group, before
        self._keys, self._key_numbers = keys, key_numbers
        self._draws = Draws(config.seed, keeps=config.workers == 0)
        self._declared: dict[str, Spec | None] = {}
        for step in group.steps:
            self._declared.update(step.outputs)
        self._same: set[str] = set()  # the entries that all rows have returned as they got them

    def run(self, rows: list[Values]) -> tuple[list[int], list[Values]]:
        """Return the positions of the rows that are left, and what the functions make of them."""
        self._same = {its.column.name for its in self._before}
        with self._draws.borrowed():
            if self._group.is_rows:
                return self._rows(rows)
            return [*range(len(rows))], self._batch(rows)

    def _rows(self, rows: list[Values]) -> tuple[list[int], list[Values]]:
        kept, results = [], []
        for at, values in enumerate(rows):
            self._draws.begin(0, self._key_numbers[at], ROW)
            try:
                with _limited(self._config):
                    result = self._group.call({**values, **self._key(at)}, self._draws.rng)
            except Failed as error:
                self._give_up(at, error)
                continue
            if result is not None:
                self._same &= {name for name in values if result.get(name) is values[name]}
                kept.append(at)
                results.append(self._delivered(result))
        return kept, results

    def _batch(self, rows: list[Values]) -> list[Values]:
        if not rows:
            return []
        count = len(rows)
        views = {its.column.name: (its.column, _room(its.column, count)) for its in self._before}
        for at, values in enumerate(rows):
            try:
                for name, (_, view) in views.items():
                    view.put_row(at, values[name])
            except Unfit as error:
                raise self._useless(at, str(error)) from None
        values = {name: view.rows(count) for name, (_, view) in views.items()}
        self._draws.begin(0, self._key_numbers[0], BATCH)
        keys = {
            name: np.array([self._key(at)[name] for at in range(count)]) for name in self._key(0)
        }
        try:
            with _limited(self._config):
                result = self._group.call({**values, **keys}, self._draws.rng)
        except Failed as error:
            self._give_up(0, error)
            return []
        assert result is not None
        self._same &= {name for name in values if result.get(name) is values[name]}
        for name, its in self._delivered(result).items():
            if not hasattr(its, "__len__") or len(its) != count:
                raise self._useless(0, f"{name!r} does not have {count} rows, as the batch has")
        return [{n: its[at] for n, its in self._delivered(result).items()} for at in range(count)]

    def _key(self, at: int) -> dict[str, Any]:
        if not self._config.with_keys:
            return {}
        key = self._keys[at]
        return dict(zip(self._config.keys, key if isinstance(key, tuple) else (key,), strict=True))

    def _delivered(self, result: Values) -> Values:
        """Return what the functions have returned, without keys and what is declared as removed."""
        keys = self._config.keys if self._config.with_keys else ()
        return {
            name: value
            for name, value in result.items()
            if name not in keys and self._declared.get(name, ...) is not None
        }

    def _give_up(self, at: int, error: Failed) -> None:
        """Raise TransformError, unless bad rows are left out."""
        if self._config.on_error == "raise":
            raise TransformError(self._keys[at], str(error)) from None

    def _useless(self, at: int, why: str) -> ConfigError:
        row = f", row with key {self._keys[at]}" if self._keys else ", no good row among the first"
        return ConfigError(f"transform: {self._group.names}{row}: {why}")

    # ---- what is left ----------------------------------------------------------------------------

    def left(self, kept: list[int], rows: list[Values]) -> Level:
        """Return the entries that the functions leave.

        Parameters
        ----------
        kept
            The positions of the rows that are left.
        rows
            What the functions have made of them.
        """
        before = {its.column.name: its for its in self._before}
        names = dict.fromkeys(name for values in rows for name in values)
        if not rows:  # all were dropped or bad: what was declared is all that is known
            names = dict.fromkeys(
                name for name in (*before, *self._declared)
                if self._declared.get(name, ...) is not None
            )  # fmt: skip
        found = {}
        for name in sorted(names, key=[*before, *names].index):
            spec, old = self._declared.get(name), before.get(name)
            for at, values in zip(kept, rows, strict=True):
                if name not in values:
                    raise self._useless(at, f"{name!r} is missing, and other rows have it")
            try:
                column = self._column(name, [values[name] for values in rows], spec, old)
            except Unfit as error:
                raise self._useless(kept[0] if kept else 0, str(error)) from None
            part = old.part if old is not None else spec.part if spec is not None else "x"
            found[name] = Output(part, column)
        if not found:
            raise self._useless(0, "no entry is left")
        return tuple(found.values())

    def _column(
        self, name: str, values: list[Any], spec: Spec | None, old: Output | None
    ) -> Column:
        """Return the column of an entry, given its values in some rows."""
        if spec is not None:
            column = spec.column(name)
        elif old is not None and (name in self._same or not values):
            return old.column
        elif not values:
            raise Unfit(f"no row is left that shows what {name!r} is: declare outputs=")
        else:
            column = _column_of(name, values, old)
        if column.is_ragged:
            column = column.with_sizes([_size(value) for value in values])
        if old is None or (old.column.dtype, old.column.shape) != (column.dtype, column.shape):
            return column
        return replace(old.column, mean=column.mean, deviation=column.deviation)


def _column_of(name: str, values: list[Any], old: Output | None) -> Column:
    """Return the column that holds some values. Raises Unfit."""
    if old is not None and old.column.dtype == "json":
        return Column(name, "json")
    for kind, dtype in ((str, TEXT_DTYPE), ((bytes, bytearray), "bytes"), (dict, "json")):
        if isinstance(values[0], kind):
            return Column(name, dtype)
    arrays = [numbers(name, value) for value in values]
    dtype = np.result_type(*arrays).name
    shapes = list(dict.fromkeys(array.shape for array in arrays))
    if old is not None and old.column.is_ragged and old.column.dtype not in BYTES_OF:
        inner = old.column.fixed_shape
        if all(shape[1:] == inner and shape for shape in shapes):
            return Column(name, dtype, (None, *inner))
    if len(shapes) > 1:
        advice = f"Spec({dtype!r}, {(None, *shapes[0][1:])})"
        raise Unfit(
            f"{name!r} has shape {shapes[0]}, and in another row {shapes[1]}. For rows of "
            f"different sizes, declare outputs={{{name!r}: {advice}}}"
        )
    return Column(name, dtype, shapes[0])


def _size(value: Any) -> int:
    """Return how many numbers or bytes a value of a ragged column has, about."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    return len(repr(value)) if isinstance(value, (dict, list)) else int(np.size(value))


def _room(column: Column, rows: int) -> View:
    """Return a view over memory for so many rows."""
    room = np.empty(column.room(rows), column.numpy_dtype)
    return view_of(column, RaggedRows(column, room, rows) if column.is_ragged else room)

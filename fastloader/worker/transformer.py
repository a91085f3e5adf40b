"""Runs a transform on a batch that is being made, between the decoding and the slot's last touches.

The groups of functions lead from one level of entries to the next: the first level is what the
fields decode, the last one what is delivered. An entry that has the same type and shape on the last
level is in the slot from the beginning, so a function that changes it in place costs no copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from ..batches.schema import Entry, Schema, is_key
from ..options.config import Config
from ..plan.keys import column_values, key_numbers
from ..plan.order import Positions
from ..transforms.draws import BATCH, ROW, Draws
from .batch_builder import Batch, BatchBuilder
from .group import Failed, Group, Put, groups_of, store
from .note import Note
from .views import Unfit, View, view_of


class Transformer:
    """Runs the functions of `transform`.

    Parameters
    ----------
    config
        The options of the loader.
    schema
        What the batches hold, with its levels.
    builder
        What makes the batches.
    note
        Where to note which row a function has.

    Raises
    ------
    ConfigError
        A function cannot be loaded.
    """

    def __init__(self, config: Config, schema: Schema, builder: BatchBuilder, note: Note) -> None:
        self._groups = groups_of(config.transform)
        self._levels = [
            [entry for entry in level if not is_key(entry.slot)] for level in schema.levels
        ]
        self._keys = [column.name for column in schema.key_columns if config.with_keys]
        self._builder = builder
        self._draws = Draws(config.seed, keeps=config.workers == 0)
        self._note = note
        self._is_cached = config.cache_transformed

    @property
    def before_cache(self) -> int:
        """How many groups run before rows are stored in a cache."""
        return int(self._is_cached)

    def run(self, batch: Batch, positions: Positions, first: int, last: int | None = None) -> None:
        """Run some groups on a batch. Rows that fail become bad rows.

        Parameters
        ----------
        batch
            The batch, all of whose rows are there.
        positions
            The positions of its rows in the keys of the table.
        first, last
            The first group to run, and the one after the last; None for all that are left.
        """
        batch.positions = positions
        number = int(batch.numbers(slice(1))[0]) if len(batch.keys) else 0
        with self._draws.borrowed():
            try:
                for level, group in [*enumerate(self._groups)][first:last]:
                    if self._builder.has_failed(batch):
                        break
                    if group.is_rows:
                        self._rows(batch, level, group)
                    else:
                        self._batch(batch, level, group, number)
            finally:
                self._note.leave()

    def _rows(self, batch: Batch, level: int, group: Group) -> None:
        begin, note, rng = self._draws.begin, self._note, self._draws.rng
        # What a cache keeps must not depend on the epoch or the draw that it was made in.
        is_kept = self._is_cached and level == 0
        epoch = 0 if is_kept else batch.epoch
        get: list[tuple[str, Callable[[int], Any]]]
        get = [(entry.name, view_in(batch, entry).row) for entry in self._levels[level]]
        put: list[Put] = []
        for entry, view, is_same_place in self._outputs(batch, level):
            put.append((entry.name, view.put_row, is_same_place and view.row_stays))
        if self._keys:
            keys = zip(self._keys, column_values(batch.keys), strict=True)
            get += [(name, column.__getitem__) for name, column in keys]
        numbers = (key_numbers(batch.keys) if is_kept else batch.numbers()).tolist()
        positions = batch.positions.tolist()
        left_out = {*batch.bad, *batch.dropped, *batch.cleared}
        for at in range(batch.at):
            if at in left_out:
                continue
            values = {name: row(at) for name, row in get}
            begin(epoch, numbers[at], ROW)
            note.enter(positions[at])
            try:
                result = group.call({**values}, rng)
                if result is None:
                    batch.dropped.add(at)
                else:
                    store(result, values, put, at)
            except (Failed, Unfit) as error:
                self._failed(batch, [at], group, error)
                if self._builder.has_failed(batch):
                    return

    def _batch(self, batch: Batch, level: int, group: Group, number: int) -> None:
        self._builder.condense(batch)
        count = batch.at
        if count == 0:
            return
        values = {entry.name: view_in(batch, entry).rows(count) for entry in self._levels[level]}
        put: list[Put] = []
        for entry, view, is_same_place in self._outputs(batch, level):
            put.append((entry.name, view.put_rows, is_same_place and view.rows_stay))
        if self._keys:
            for name, column in zip(self._keys, column_values(batch.keys), strict=True):
                values[name] = np.array(column, object if isinstance(column[0], str) else np.int64)
        self._draws.begin(batch.epoch, number, BATCH)
        self._note.enter(int(batch.positions[0]))
        try:
            result = group.call({**values}, self._draws.rng)
            assert result is not None  # a function of batches drops nothing
            store(result, values, put, count)
        except (Failed, Unfit) as error:
            self._failed(batch, range(count), group, error)

    def _outputs(self, batch: Batch, level: int) -> Iterator[tuple[Entry, View, bool]]:
        """Yield the entries that a group leaves, and whether they were there, in that place."""
        before = {entry.slot for entry in self._levels[level]}
        for entry in self._levels[level + 1]:
            yield entry, view_in(batch, entry), entry.slot in before

    @staticmethod
    def _failed(batch: Batch, rows: Iterable[int], group: Group, error: Exception) -> None:
        reason = str(error)
        if isinstance(error, Unfit):
            reason = f"{group.names}: {reason}"
        for at in rows:
            batch.bad[at] = reason
            batch.raised.add(at)
            reason = reason.partition("\n")[0]  # one traceback is enough for a batch


def view_in(batch: Batch, entry: Entry) -> View:
    """Return the view of an entry of a batch."""
    target = batch.ragged if entry.column.is_ragged else batch.targets
    return view_of(entry.column, target[entry.slot])

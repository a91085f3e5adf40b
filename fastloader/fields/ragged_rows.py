"""The rows of a ragged column on their way into a slot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Column

Lengths = NDArray[np.int64]


class RaggedRows:
    """The rows of one ragged column of a batch, while the batch is made.

    The values are appended in the slot, in the order in which rows arrive. Once they do not fit,
    all of them move to memory of this object.

    Parameters
    ----------
    column
        The column.
    values
        The room for values in the slot: (capacity, ...).
    rows
        The number of rows of the batch.

    Attributes
    ----------
    column
        The column.
    lengths
        The number of items in each row: int64 (rows,).
    """

    def __init__(self, column: Column, values: NDArray[Any], rows: int) -> None:
        self.column = column
        self._slot = self._values = values
        self._used = 0
        self._starts = np.zeros(rows, np.int64)
        self.lengths: Lengths = np.zeros(rows, np.int64)

    def append(self, at: int, lengths: Lengths) -> NDArray[Any]:
        """Return the room for the items of some rows, one row after the other: (items, ...).

        Parameters
        ----------
        at
            The position of the first row in the batch.
        lengths
            The number of items in each row, (n,).
        """
        ends = np.cumsum(lengths)
        items = int(ends[-1]) if len(ends) else 0
        self._starts[at : at + len(lengths)] = self._used + ends - lengths
        self.lengths[at : at + len(lengths)] = lengths
        used, self._used = self._used, self._used + items
        if self._used > len(self._values):
            grown = np.empty((2 * self._used, *self._values.shape[1:]), self._values.dtype)
            grown[:used] = self._values[:used]
            self._values = grown
        return self._values[used : self._used]

    def row(self, at: int) -> NDArray[Any]:
        """Return the items of a row."""
        start = self._starts[at]
        return self._values[start : start + self.lengths[at]]

    def put(self, at: int, data: bytes) -> None:
        """Store the bytes of a row's items."""
        items = np.frombuffer(data, self._values.dtype).reshape(-1, *self._values.shape[1:])
        self.append(at, np.array([len(items)]))[:] = items

    def spread(self, places: Sequence[int]) -> None:
        """Move the first rows to other places, and leave the rows between them empty."""
        starts, lengths = self._starts[: len(places)].copy(), self.lengths[: len(places)].copy()
        self.lengths[:] = 0
        self._starts[places], self.lengths[places] = starts, lengths

    def keep(self, rows: NDArray[np.intp]) -> None:
        """Keep only these rows, which become the first ones."""
        starts, lengths = self._starts[rows], self.lengths[rows]
        self._starts[: len(rows)], self.lengths[: len(rows)] = starts, lengths

    def in_order(self, count: int) -> tuple[NDArray[Any], Lengths]:
        """Return a copy of the items of the first rows, one row after the other, and their offsets.

        See :class:`fastloader.Ragged`.
        """
        offsets = np.zeros(count + 1, np.int64)
        np.cumsum(self.lengths[:count], out=offsets[1:])
        return np.concatenate([self._values[:0], *map(self.row, range(count))]), offsets

    def finish(self, rows: NDArray[np.intp], offsets: Lengths) -> NDArray[Any] | None:
        """Bring the items of some rows into the order of the rows, in the slot.

        Parameters
        ----------
        rows
            The rows that are delivered, (n,).
        offsets
            Where to store which items a row has, from ``offsets[i]`` to ``offsets[i + 1]``: int64
            (n + 1 or more,).

        Returns
        -------
        ndarray or None
            The items, if there is no room for them in the slot.
        """
        starts, lengths = self._starts[rows], self.lengths[rows]
        offsets[0] = 0
        np.cumsum(lengths, out=offsets[1 : len(rows) + 1])
        items = int(offsets[len(rows)])
        values = self._values[:items]
        if ((starts != offsets[: len(rows)]) & (lengths > 0)).any():
            values = np.concatenate([self._values[:0], *map(self.row, rows.tolist())])
        elif self._values is self._slot:
            return None
        if items > len(self._slot):
            return values
        self._slot[:items] = values
        return None

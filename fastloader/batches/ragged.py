"""Rows of different lengths, as a batch holds them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Ragged:
    """Rows of different lengths in one array.

    ``ragged[i]`` is row ``i``, a view; ``ragged[a:b]`` are some of the rows, without a copy.
    TensorFlow's ``RaggedTensor.from_row_splits(values, offsets)``, PyTorch's
    ``nested_tensor_from_jagged(values, offsets)`` and Arrow's ``ListArray.from_arrays(offsets,
    values)`` take the same two arrays.

    Parameters
    ----------
    values
        The items of all rows, one row after the other: (items, ...).
    offsets
        Row ``i`` has the items from ``offsets[i]`` to ``offsets[i + 1]``: int64 (n + 1,).
    """

    __slots__ = ("offsets", "values")

    def __init__(self, values: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        self.values = values
        self.offsets = offsets

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, rows: int) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, rows: slice) -> Ragged: ...
    def __getitem__(self, rows: int | slice) -> NDArray[Any] | Ragged:
        if not isinstance(rows, slice):
            row = range(len(self))[rows]
            return self.values[self.offsets[row] : self.offsets[row + 1]]
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise IndexError("the rows of a Ragged can only be sliced with a step of 1")
        offsets = self.offsets[start : max(start, stop) + 1]
        return Ragged(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[row] for row in range(len(self)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the items."""
        return self.values.dtype

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The number of items in each row, (n,)."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """The size of items and offsets in bytes."""
        return self.values.nbytes + self.offsets.nbytes

    def copy(self) -> Ragged:
        """Return a copy, which does not keep a slot of the loader."""
        return Ragged(self.values.copy(), self.offsets.copy())

    def to_list(self) -> list[Any]:
        """Return the rows as lists of Python numbers."""
        return [row.tolist() for row in self]

    def to_bytes(self) -> list[bytes]:
        """Return the bytes of each row."""
        data = self.values.tobytes()
        ends = (self.offsets * (len(data) // max(1, len(self.values)))).tolist()
        return [data[start:end] for start, end in pairwise(ends)]

    def to_padded(self, fill: ArrayLike = 0, length: int | None = None) -> NDArray[Any]:
        """Return the rows in one array, with ``fill`` behind the items of shorter rows.

        Parameters
        ----------
        fill
            What to fill up with.
        length
            The number of items in each row of the result; longer rows are cut off. None takes the
            longest row.

        Returns
        -------
        ndarray
            (n, length, ...).
        """
        lengths = self.lengths
        most = int(lengths.max(initial=0)) if length is None else length
        padded = np.full((len(self), most, *self.values.shape[1:]), fill, self.dtype)
        there = np.arange(most) < lengths[:, np.newaxis]
        kept = self.values
        if (lengths > most).any():
            behind = np.arange(len(self.values)) - np.repeat(self.offsets[:-1], lengths)
            kept = kept[behind < most]
        padded[there] = kept
        return padded

    def __repr__(self) -> str:
        return (
            f"Ragged({len(self)} rows, {len(self.values)} items of shape "
            f"{self.values.shape[1:]}, {self.dtype.name})"
        )

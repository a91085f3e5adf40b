"""The columns of a batch: what a row of each holds, and how much room the rows need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

TEXT_DTYPE = "text"
"""The dtype of a column of strings."""

BYTES_OF = {TEXT_DTYPE, "json", "bytes"}
"""The dtypes of values that are stored as bytes of any number."""

MARGIN, DEVIATIONS = 1.25, 4.0
"""The room for ragged values: a quarter more than what all but one of 30,000 batches need, if their
rows have the sizes of those that were looked at, independently."""

LEAST_ITEMS = 64
"""The room for ragged values of which nothing is known."""


@dataclass(frozen=True, repr=False)
class Column:
    """One column of a batch, or of a database.

    Attributes
    ----------
    name
        The name of the database column, of the entry of a batch, or of the column in a slot.
    dtype
        The name of a NumPy dtype, or ``"text"``, ``"json"`` or ``"bytes"``.
    shape
        The shape of one row's value; ``()`` for a scalar. The first size is None if it differs from
        row to row.
    form
        How blobs of the database hold numbers: ``"raw"`` or ``"npy"``; ``""`` for other columns.
    mean, deviation
        The mean and the standard deviation of how many numbers, or bytes of text, a value of the
        database has, as far as was looked.
    classes
        The classes of a category, in their order.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] = ()
    form: str = ""
    mean: float = field(default=0.0, compare=False)
    deviation: float = field(default=0.0, compare=False)
    classes: tuple[str | int, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether the values are ``str`` objects."""
        return self.dtype == TEXT_DTYPE

    @property
    def is_ragged(self) -> bool:
        """Whether the values have no fixed size."""
        return self.dtype in BYTES_OF or self.shape[:1] == (None,)

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of the numbers or bytes of a value in a slot."""
        if self.dtype in BYTES_OF:
            return np.dtype(np.uint8)
        if self.dtype == "bfloat16":
            import ml_dtypes  # noqa: F401  # registers the type with NumPy
        return np.dtype(self.dtype)

    @property
    def fixed_shape(self) -> tuple[int, ...]:
        """The shape of a row's value, or of one item of it if the column is ragged."""
        return tuple(size for size in self.shape if size is not None)

    @property
    def row_bytes(self) -> int:
        """The size of a row's value in bytes, or of one item of it if the column is ragged."""
        return self.numpy_dtype.itemsize * math.prod(self.fixed_shape)

    def with_sizes(self, sizes: Sequence[int]) -> Column:
        """Return the column with mean and deviation of the sizes of some values, if any."""
        if not sizes:
            return self
        return replace(self, mean=float(np.mean(sizes)), deviation=float(np.std(sizes)))

    def __repr__(self) -> str:
        shown = f"name={self.name!r}, dtype={self.dtype!r}, shape={self.shape!r}"
        return f"Column({shown}{', classes=...' if self.classes else ''})"

    def room(self, rows: int) -> tuple[int, ...]:
        """Return the shape of an array with room for so many rows, or for their items."""
        return (self.capacity(rows) if self.is_ragged else rows, *self.fixed_shape)

    def capacity(self, rows: int) -> int:
        """Return how many items of a ragged column there should be room for, for so many rows."""
        per_item = math.prod(self.fixed_shape)
        if per_item == 0:
            return 1 << 40  # they take no room
        numbers = MARGIN * (rows * self.mean + DEVIATIONS * math.sqrt(rows) * self.deviation)
        return max(LEAST_ITEMS, math.ceil(numbers / per_item))


def by(shape: tuple[int | None, ...]) -> str:
    """Return a shape in words, "0" for that of an array without elements."""
    return " x ".join("n" if size is None else str(size) for size in shape) or "0"

"""The field for arrays of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..checks import kinds
from ..errors import ConfigError
from .arrays import decode_ragged
from .columns import Column
from .field import OPTIONS
from .ragged_rows import RaggedRows
from .value import Target, Value
from .values import Values


@dataclass(frozen=True, repr=False, kw_only=True)
class Array(Value):
    """An array of numbers for each row.

    Arrays of the same shape are delivered as an array of shape (n, ...). With ``ragged=True`` the
    first dimension may differ from row to row, and a batch holds a :class:`Ragged`.

    The column holds arrays of PostgreSQL, vectors of pgvector, or blobs: NumPy's ``.npy`` format,
    or the bytes of numbers of the type `dtype` in the byte order of this machine.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    null : {"error", "mask"} or value, default "error"
        What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero, or nothing
        where sizes differ, and adds an entry to the batch, the field's name and `_valid`: bool,
        False where the value is NULL. Anything else is delivered in place of NULL.
    dtype : str, dtype or None, default None
        The dtype of the values in a batch: bool, an integer or float type of NumPy's, or "text". A
        value that does not fit makes its row a bad row; a float may be rounded to a smaller float
        type. None takes the type of the column.
    ragged : bool, default False
        Whether the first dimension differs from row to row.
    shape : tuple of int or None, default None
        The shape of each array, or with `ragged=True` of each item of it. None takes the shape of
        the first array. The numbers of raw blobs have one dimension unless this says more.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    ragged: bool = OPTIONS.option(
        False,
        kinds.FLAG,
        "Whether the first dimension differs from row to row.",
    )
    shape: Sequence[int] | None = OPTIONS.option(
        None,
        kinds.optional(kinds.SHAPE),
        "The shape of each array, or with `ragged=True` of each item of it. None takes the shape "
        "of the first array. The numbers of raw blobs have one dimension unless this says more.",
    )

    @property
    def is_ragged(self) -> bool:
        """Whether values may differ in size."""
        return self.ragged

    def _problem(self, found: Column) -> str:
        if found.shape or found.form:
            return ""
        return f"holds {'text' if found.is_text else 'single numbers'}: use " + (
            "Text" if found.is_text else "Number"
        )

    def _column(self, name: str, found: Column) -> Column:
        dtype = self.dtype or found.dtype
        if not self.ragged:
            column = super()._column(name, found)
            return column if self.shape is None else replace(column, shape=self._whole(column))
        inner = found.shape[1:] if self.shape is None else self.shape
        per_item = 1.0
        if found.form == "raw":
            per_item = np.dtype(dtype).itemsize
        return Column(
            name, dtype, (None, *inner), found.form,
            mean=found.mean / per_item, deviation=found.deviation / per_item,
        )  # fmt: skip

    def _whole(self, column: Column) -> tuple[int, ...]:
        """Return the shape that the field asks for, if raw blobs of this column can have it."""
        assert self.shape is not None
        if column.form == "raw" and math.prod(self.shape) != math.prod(column.fixed_shape):
            raise ConfigError(
                f"{self!r}: the column {self.column!r} holds {column.fixed_shape[0]} numbers of "
                f"the type {column.dtype}, which do not make an array of the shape {self.shape}"
            )
        return tuple(self.shape)

    def _store(self, column: Column, values: Values, target: Target, at: int) -> dict[int, str]:
        if isinstance(target, RaggedRows):
            return self._bad_arrays(column, decode_ragged(values, target, at))
        return super()._store(column, values, target, at)

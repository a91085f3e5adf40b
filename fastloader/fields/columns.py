"""The columns of a batch: their types, and how the values of a database are stored in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from . import _kernel
from .arrays import by, decode_arrays
from .casts import cast
from .values import BLOB, INTEGER, REAL, TEXT, Values, described

TEXT_DTYPE = "text"
"""The dtype of a column of strings."""


@dataclass(frozen=True)
class Column:
    """One column of a batch.

    Attributes
    ----------
    name
        The name of the database column, or of the column in a slot.
    dtype
        The name of a NumPy dtype, or ``"text"`` for an array of ``str`` objects.
    shape
        The shape of one row's value; ``()`` for a scalar.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def is_text(self) -> bool:
        """Whether the values are ``str`` objects, which have no fixed size."""
        return self.dtype == TEXT_DTYPE

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """The dtype of a column that is not text."""
        if self.dtype == "bfloat16":
            import ml_dtypes  # noqa: F401  # registers the type with NumPy
        return np.dtype(self.dtype)

    @property
    def row_bytes(self) -> int:
        """The size of one row's value in bytes, for a column that is not text."""
        return self.numpy_dtype.itemsize * int(np.prod(self.shape, dtype=int))


def blob_column(name: str, dtype: str | None, size: int) -> Column:
    """Return the column for blobs that are arrays of numbers.

    Parameters
    ----------
    dtype
        The NumPy dtype of the numbers; None for uint8.
    size
        The bytes of each blob.

    Raises
    ------
    ConfigError
        A blob does not hold a whole number of them.
    """
    item = np.dtype(dtype or "uint8")
    if size == 0 or size % item.itemsize:
        raise ConfigError(
            f"label {name!r}: a blob of {size} bytes is not an array of {item.name}; name the type "
            f'of its numbers, e.g. label="{name}:float32"'
        )
    return Column(name, item.name, (size // item.itemsize,))


def store(column: Column, values: Values, target: NDArray[Any]) -> dict[int, str]:
    """Store the values of some rows in a batch.

    No value is wrapped around, cut off or made infinite, and no integer is rounded. Such a value is
    reported instead. Floats may be rounded to a smaller float type.

    Parameters
    ----------
    values
        The values of n rows.
    target
        Where to store them: an array with at least n rows, of the column's shape and dtype (object
        for text).

    Returns
    -------
    dict
        For each value that does not fit, by its index: why.
    """
    target = target[: len(values)]
    if values.form is not None:
        wanted = f"an array of {by(column.shape)} x {column.dtype} is needed"
        bad = decode_arrays(values, values.form, target)
        return {i: f"column {column.name!r} holds {what}, {wanted}" for i, what in bad.items()}
    stored = _texts(column, values, target) if column.is_text else _numbers(column, values, target)
    return {i: _does_not_fit(column, values.value(i)) for i in np.flatnonzero(~stored).tolist()}


def _numbers(column: Column, values: Values, target: NDArray[Any]) -> NDArray[np.bool_]:
    """Store numbers and arrays of them, and return where that was possible."""
    stored = np.zeros(len(values), np.bool_)
    kinds, numbers = values.kinds, values.numbers
    if not column.shape:
        for kind, given in ((INTEGER, numbers), (REAL, numbers.view(np.float64))):
            rows = kinds == kind
            if rows.all():
                return cast(given, target)
            if rows.any():
                some = target[rows]
                stored[rows] = cast(given[rows], some)
                target[rows] = some
        return stored
    for i in np.flatnonzero((kinds == BLOB) & (values.blobs[:, 1] == column.row_bytes)).tolist():
        target[i] = np.frombuffer(values.value(i), target.dtype).reshape(column.shape)
        stored[i] = True
    return stored


def _texts(column: Column, values: Values, target: NDArray[Any]) -> NDArray[np.bool_]:  # noqa: ARG001
    """Store text as ``str`` objects, and return where there was text, in UTF-8."""
    texts, bad = _kernel.texts(values.blobs, values.kinds == TEXT)
    target[:] = texts
    return ~bad


def _does_not_fit(column: Column, value: Any) -> str:
    problem = f"column {column.name!r} holds {described(value)}, {_wanted(column)} is needed"
    is_number = not column.shape and not column.is_text and np.dtype(column.dtype).kind in "iuf"
    if isinstance(value, float) and is_number:
        problem += f'; name a type that holds it, e.g. "{column.name}:float64"'
    return problem


def _wanted(column: Column) -> str:
    if not column.shape:
        return column.dtype
    return f"a blob of {column.row_bytes} bytes ({by(column.shape)} x {column.dtype})"

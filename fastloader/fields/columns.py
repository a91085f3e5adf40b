"""The columns of a batch: their types, and how the values of a database are stored in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from . import _kernel
from .values import ARRAY, BLOB, INTEGER, REAL, TEXT, Values

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
                return _cast(given, target)
            if rows.any():
                some = target[rows]
                stored[rows] = _cast(given[rows], some)
                target[rows] = some
        return stored
    rows = kinds == ARRAY
    if rows.any():
        some = np.empty_like(target[rows])
        stored[rows] = _cast(numbers[rows], some).reshape(len(some), -1).all(axis=1)
        target[rows] = some
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
    problem = f"column {column.name!r} holds {_describe(value)}, {_wanted(column, value)} is needed"
    is_number = not column.shape and not column.is_text and np.dtype(column.dtype).kind in "iuf"
    if isinstance(value, float) and is_number:
        problem += f'; name a type that holds it, e.g. "{column.name}:float64"'
    return problem


def _cast(values: NDArray[Any], target: NDArray[Any]) -> NDArray[np.bool_]:
    """Store numbers, and return where they kept their value. Floats may be rounded to floats."""
    is_exact = np.can_cast(values.dtype, target.dtype, "safe")
    with np.errstate(all="ignore"):  # overflows are found below
        np.copyto(target, values, casting="unsafe")
        if target.dtype.kind == "f" and values.dtype.kind in "iu":  # "safe" rounds int64 to float64
            back = target.astype(values.dtype)
            end = np.float64(np.iinfo(values.dtype).max // 2 + 1) * 2  # a power of two
            return np.asarray((target < end) & (back == values))
    if is_exact:
        return np.ones(values.shape, np.bool_)
    if target.dtype.kind == "f":
        return np.asarray(np.isfinite(target) | ~np.isfinite(values))
    if values.dtype.kind == "f":
        limits = np.iinfo(target.dtype) if target.dtype.kind in "iu" else None
        inside = (values >= limits.min) & (values <= limits.max) if limits else np.True_
        return np.asarray(inside & (target == values))
    return np.asarray((target == values) & ((values < 0) == (target < 0)))


def _describe(value: object) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"a blob of {len(value)} bytes"
    return repr(value) if len(repr(value)) <= 40 else repr(value)[:40] + "..."


def _wanted(column: Column, value: object) -> str:
    if not column.shape:
        return column.dtype
    shape = " x ".join(map(str, column.shape)) + f" x {column.dtype}"
    return shape if isinstance(value, list) else f"a blob of {column.row_bytes} bytes ({shape})"

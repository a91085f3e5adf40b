"""The columns of a batch: their types, and how a database's values become them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..options.labels import TEXT


@dataclass(frozen=True)
class Column:
    """One column of a batch beside the images.

    name: of the database column.
    dtype: a NumPy dtype's name, or ``"text"``: an array of ``str`` objects.
    shape: of one row's value; ``()``, ``(n,)``, or that of an array with more dimensions.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] = ()

    @property
    def is_text(self) -> bool:
        return self.dtype == TEXT

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        """Of a column that is not text."""
        if self.dtype == "bfloat16":
            import ml_dtypes  # noqa: F401  # tells NumPy of it
        return np.dtype(self.dtype)

    @property
    def row_bytes(self) -> int:
        """Of one row's value, of a column that is not text."""
        return self.numpy_dtype.itemsize * int(np.prod(self.shape, dtype=int))


def blob_column(name: str, dtype: str | None, size: int) -> Column:
    """Return the column for blobs of ``size`` bytes, each an array of numbers.

    dtype: of the numbers; None for uint8. Raises ConfigError if they do not fill a blob.
    """
    item = np.dtype(dtype or "uint8")
    if size == 0 or size % item.itemsize:
        raise ConfigError(
            f"label {name!r}: a blob of {size} bytes is no array of {item.name}; name the type of "
            f'its numbers, e.g. label="{name}:float32"'
        )
    return Column(name, item.name, (size // item.itemsize,))


def store(
    column: Column, values: Sequence[Any] | NDArray[Any], target: NDArray[Any]
) -> dict[int, str]:
    """Writes ``values`` to ``target[:len(values)]``; says of each that does not fit why.

    ``values`` is a sequence of Python's values, or an array of numbers with the column's shape.
    ``target`` has the column's dtype (object for text) and shape. Nothing is wrapped or cut, and
    no integer rounded: such a value is reported instead, by its index.
    """
    bad: dict[int, str] = {}
    if isinstance(values, np.ndarray):
        rows = target[: len(values)]
        fits = _cast(values, rows)
        if fits.all():
            return {}
        for i in np.flatnonzero(~fits.reshape(len(values), -1).all(axis=1)).tolist():
            bad[i] = _does_not_fit(column, values[i].tolist())
        return bad
    convert = _converter(column)
    for i, value in enumerate(values):
        try:
            target[i] = convert(value)
        except (ValueError, TypeError):
            bad[i] = _does_not_fit(column, value)
    return bad


def _does_not_fit(column: Column, value: Any) -> str:
    problem = f"column {column.name!r} holds {_describe(value)}, {_wanted(column, value)} is needed"
    is_integer = not column.shape and not column.is_text and np.dtype(column.dtype).kind in "iu"
    if isinstance(value, float) and is_integer:
        problem += f'; name a type that holds it, e.g. "{column.name}:float64"'
    return problem


def _cast(values: NDArray[Any], target: NDArray[Any]) -> NDArray[np.bool_]:
    """Writes the numbers; where they kept their value (floats among themselves may be rounded)."""
    with np.errstate(all="ignore"):  # what overflows is reported
        np.copyto(target, values, casting="unsafe")
    if target.dtype.kind == "f" or np.can_cast(values.dtype, target.dtype, "safe"):
        return np.ones(values.shape, np.bool_)
    if values.dtype.kind == "f":
        limits = np.iinfo(target.dtype) if target.dtype.kind in "iu" else None
        inside = (values >= limits.min) & (values <= limits.max) if limits else np.True_
        return np.asarray(inside & (target == values))
    return np.asarray((target == values) & ((values < 0) == (target < 0)))


def _converter(column: Column) -> Callable[[Any], Any]:
    if column.is_text:
        return _text
    dtype = np.dtype(column.dtype)
    if column.shape:
        return lambda value: _array(value, dtype, column.shape)
    if dtype.kind == "f":
        return _float
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return lambda value: _integer(value, int(low), int(high))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # ValueError for what was no UTF-8 in the database
    return value


def _array(value: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if not isinstance(value, bytes) or len(value) != math.prod(shape) * dtype.itemsize:
        raise TypeError
    return np.frombuffer(value, dtype).reshape(shape)


def _float(value: Any) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError
    number = float(value)
    if isinstance(value, int) and int(number) != value:
        raise TypeError
    return number


def _integer(value: Any, low: int, high: int) -> int:
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if not isinstance(value, int) or not low <= value <= high:
        raise TypeError
    return value


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

"""Fields whose values are not images: what they share, and the one that takes any value."""

# ruff: noqa: RUF009 -- what a group's option() returns is a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import kinds
from ..errors import ConfigError
from . import _kernel
from .arrays import decode_arrays
from .columns import TEXT_DTYPE, Column, by
from .field import OPTIONS, Field
from .ragged_rows import RaggedRows
from .scalars import are_texts, store_bytes
from .values import NULL, Values

Target = NDArray[Any] | RaggedRows
"""Where the values of a batch are stored: an array of all its rows, or its ragged rows."""


def _null(value: Any) -> Any:
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError('must be "error", "mask", or the value that stands for NULL')
    return value


def _parse_null(text: str) -> Any:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            pass
    return text


NULLS = kinds.Kind(_null, '{"error", "mask"} or value', _parse_null)


@dataclass(frozen=True, repr=False, kw_only=True)
class ValueField(Field):
    """The base of the fields that are not images.

    Attributes
    ----------
    is_ragged
        Whether it delivers values of different sizes, whatever the column holds.
    """

    null: Any = OPTIONS.option(
        "error",
        NULLS,
        'What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero, or '
        "nothing where sizes differ, and adds an entry to the batch, the field's name and "
        "`_valid`: bool, False where the value is NULL. Anything else is delivered in place of "
        "NULL.",
    )

    @property
    def is_ragged(self) -> bool:
        """Whether values may differ in size."""
        return False

    @property
    def wanted_dtype(self) -> str | None:
        """The dtype that the field asks for; None for that of the column."""
        return None

    def delivered(self, name: str, found: Column) -> tuple[Column, ...]:
        """Return the columns of a batch that this field fills.

        Parameters
        ----------
        name
            The name of the field in the batch.
        found
            What the database column holds.

        Raises
        ------
        ConfigError
            The field cannot take what the column holds.
        """
        problem = self._problem(found)
        if problem:
            raise ConfigError(f"{self!r}: the column {self.column!r} {problem}")
        column = self._column(name, found)
        if self.null == "mask":
            return column, Column(f"{name}_valid", "bool")
        if self.null != "error":
            self._check_null(column)
        return (column,)

    def _problem(self, found: Column) -> str:  # noqa: ARG002
        """Return why the field cannot take what a column holds, and what to do; or ""."""
        return ""

    def _column(self, name: str, found: Column) -> Column:
        """Return the column of a batch that holds the values."""
        raise NotImplementedError

    def _check_null(self, column: Column) -> None:
        """Raise ConfigError if what stands for NULL is not of the column's type."""
        if column.is_text == isinstance(self.null, str) and column.shape[:1] != (None,):
            if column.is_text:
                return
            with np.errstate(all="ignore"):
                kept = np.array([self.null]).astype(column.numpy_dtype)[0]
            if np.array_equal([kept], [self.null], equal_nan=column.numpy_dtype.kind == "f"):
                return
        raise ConfigError(
            f"{self!r}: null={self.null!r} is no {column.dtype}, which the column "
            f"{self.column!r} holds"
        )

    def store(
        self,
        column: Column,
        values: Values,
        target: Target,
        at: int,
        valid: NDArray[np.bool_] | None = None,
    ) -> dict[int, str]:
        """Store the values of n rows.

        Parameters
        ----------
        column
            The column of the batch.
        values
            The values.
        target
            Where to store them.
        at
            The position of the first row in the batch.
        valid
            Where to store which rows are not NULL, with ``null="mask"``.

        Returns
        -------
        dict
            For each row whose value does not fit, by its index: why.
        """
        bad = self._store(column, values, target, at)
        if self.null == "error":
            return bad
        nulls = values.kinds == NULL
        if valid is not None:
            valid[at : at + len(values)] = ~nulls
        if nulls.any():
            if isinstance(target, np.ndarray):
                target[at : at + len(values)][nulls] = self.null if valid is None else 0
            for i in np.flatnonzero(nulls).tolist():
                bad.pop(i, None)
        return bad

    def _store(self, column: Column, values: Values, target: Target, at: int) -> dict[int, str]:
        """Store values, with what stands for NULL if the target is ragged; return the bad ones."""
        raise NotImplementedError

    def _store_bytes(
        self,
        column: Column,
        values: Values,
        good: NDArray[np.bool_],
        target: Target,
        at: int,
    ) -> dict[int, str]:
        """Store the texts or blobs that are ``good``, (n,), and return why others are bad."""
        assert isinstance(target, RaggedRows)
        store_bytes(values, good, target, at, self._null_bytes)
        return {i: self._bad(values, i, column.dtype) for i in np.flatnonzero(~good).tolist()}

    @property
    def _null_bytes(self) -> bytes:
        """The text that stands for NULL."""
        return self.null.encode() if self.null not in ("error", "mask") else b""

    def _bad(self, values: Values, row: int, wanted: str) -> str:
        """Return why a row is bad, whose value is not what is wanted."""
        return f"column {self.column!r} holds {values.described(row)}, {wanted} is needed"


@dataclass(frozen=True, repr=False, kw_only=True)
class Value(ValueField):
    """Whatever a column holds: numbers, text, or arrays of the same shape.

    ``label="column"`` stands for this field.
    """

    dtype: Any = OPTIONS.option(
        None,
        kinds.optional(kinds.NUMBERS_OR_TEXT),
        "The dtype of the values in a batch: bool, an integer or float type of NumPy's, or "
        '"text". A value that does not fit makes its row a bad row; a float may be rounded to a '
        "smaller float type. None takes the type of the column.",
    )

    @property
    def wanted_dtype(self) -> str | None:
        """The dtype that the field asks for; None for that of the column."""
        dtype: str | None = self.dtype
        return dtype

    def _column(self, name: str, found: Column) -> Column:
        dtype = self.dtype or found.dtype
        if dtype == TEXT_DTYPE:
            return Column(name, dtype, mean=found.mean, deviation=found.deviation)
        return Column(name, dtype, self._shape(found), form=found.form)

    def _shape(self, found: Column) -> tuple[int, ...]:
        """Return the shape of a row."""
        if found.form != "raw":  # the shape of the first value
            return found.fixed_shape
        (size,), item = found.fixed_shape, np.dtype(self.dtype or "uint8")
        if size == 0 or size % item.itemsize:
            raise ConfigError(
                f"{self!r}: the column {self.column!r} holds a blob of {size} bytes, which is not "
                f"an array of {item.name}: name the type of its numbers, for example "
                f'dtype="float32", or in label="{self.column}:float32"'
            )
        return (size // item.itemsize,)

    def _store(self, column: Column, values: Values, target: Target, at: int) -> dict[int, str]:
        if isinstance(target, RaggedRows):
            return self._store_bytes(column, values, are_texts(values), target, at)
        rows = target[at : at + len(values)]
        if not column.shape and not column.form:
            fits, bad = _kernel.store_numbers(values.kinds, values.numbers, rows)
            wrong = np.flatnonzero(~fits).tolist() if bad else []
            return {i: self._not_a_number(column, values, i) for i in wrong}
        return self._bad_arrays(column, decode_arrays(values, rows))

    def _not_a_number(self, column: Column, values: Values, row: int) -> str:
        problem = self._bad(values, row, column.dtype)
        if isinstance(values.value(row), float) and np.dtype(column.dtype).kind in "iuf":
            problem += f'; name a type that holds it, e.g. "{self.column}:float64"'
        return problem

    def _bad_arrays(self, column: Column, bad: dict[int, str]) -> dict[int, str]:
        """Return why rows are bad that hold something else than the array that is needed."""
        wanted = f"an array of {by(column.shape)} x {column.dtype}"
        if column.form == "raw" and not column.is_ragged:
            wanted = f"a blob of {column.row_bytes} bytes ({by(column.shape)} x {column.dtype})"
        return {i: f"column {self.column!r} holds {what}, {wanted} is needed" for i, what in
                bad.items()}  # fmt: skip

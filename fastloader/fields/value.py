"""Fields that take a value as it is: what they share, and the one that takes any value."""

# ruff: noqa: RUF009 -- what a group's option() returns is a dataclass field

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import kinds
from ..errors import ConfigError
from .columns import Column, store
from .field import OPTIONS, Field
from .values import NULL, Values


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
class Value(Field):
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
    null: Any = OPTIONS.option(
        "error",
        NULLS,
        'What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero and adds '
        "an entry to the batch, the field's name and `_valid`: bool, False where the value is "
        "NULL. Anything else is delivered in place of NULL.",
    )

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
        column = Column(name, self.dtype or found.dtype, found.shape)
        if self.null == "mask":
            return column, Column(f"{name}_valid", "bool")
        if self.null != "error":
            self._check_null(column)
        return (column,)

    def _problem(self, found: Column) -> str:  # noqa: ARG002
        """Return why the field cannot take what a column holds, and what to do; or ""."""
        return ""

    def _check_null(self, column: Column) -> None:
        """Raise ConfigError if what stands for NULL is not of the column's type."""
        if column.is_text == isinstance(self.null, str):
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
        self, values: Values, target: NDArray[Any], valid: NDArray[np.bool_] | None
    ) -> dict[int, str]:
        """Store the values of n rows.

        Parameters
        ----------
        values
            The values.
        target
            Where to store them: n rows or more.
        valid
            Where to store which of them are not NULL, with ``null="mask"``.

        Returns
        -------
        dict
            For each row whose value does not fit, by its index: why.
        """
        column = Column(self.of_column, "text" if target.dtype == object else target.dtype.name,
                        target.shape[1:])  # fmt: skip
        bad = store(column, values, target)
        if self.null == "error":
            return bad
        nulls = values.kinds == NULL
        if valid is not None:
            valid[: len(values)] = ~nulls
        if nulls.any():
            stands = self.null if valid is None else "" if column.is_text else 0
            target[: len(values)][nulls] = stands
            for i in np.flatnonzero(nulls).tolist():
                del bad[i]
        return bad

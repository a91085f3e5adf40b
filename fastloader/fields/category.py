"""The field for classes."""

# ruff: noqa: RUF009 -- what a group's option() returns is a dataclass field

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..checks import kinds
from . import _kernel
from .columns import TEXT_DTYPE, Column
from .field import OPTIONS
from .value import Target, ValueField
from .values import INTEGER, NULL, TEXT, Values

MOST_CLASSES = 1_000_000
"""The most classes that are looked for in a table."""


def _classes(value: Any) -> tuple[str | int, ...]:
    classes = tuple(value) if not isinstance(value, (str, bytes)) else ()
    if not classes or not all(type(one) in (str, int) for one in classes):
        raise ValueError("must be a list of classes, each text or an integer")
    if len(set(classes)) < len(classes):
        raise ValueError("must not name a class twice")
    return classes


def _unknown(value: Any) -> Any:
    if value != "error" and type(value) is not int:
        raise ValueError('must be "error", or the number that stands for an unknown class')
    return value


CLASSES = kinds.Kind(_classes, "list of str or int", lambda text: text.split(","), "classes")
UNKNOWN = kinds.Kind(_unknown, '"error" or int', int, "a number")


@dataclass(frozen=True, repr=False, kw_only=True)
class Category(ValueField):
    """The number of each row's class: an array of shape (n,), by default int64.

    The column holds text or integers. ``loader.classes`` has the classes by the name of the field.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    null : {"error", "mask"} or value, default "error"
        What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero, or nothing
        where sizes differ, and adds an entry to the batch, the field's name and `_valid`: bool,
        False where the value is NULL. Anything else is delivered in place of NULL.
    classes : list of str, int or None, default None
        The classes in the order of their numbers. None takes those of the whole table, in the order
        of the first key that has them: classes that are added with later keys get the next numbers,
        and the others keep theirs.
    unknown : "error" or int, default "error"
        What to do with a value that is none of the classes. `"error"` makes its row a bad row; a
        number is delivered in its place.
    dtype : str or dtype, default "int64"
        The dtype of the numbers: an integer type of NumPy's.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    classes: Sequence[str | int] | None = OPTIONS.option(
        None,
        kinds.optional(CLASSES),
        "The classes in the order of their numbers. None takes those of the whole table, in the "
        "order of the first key that has them: classes that are added with later keys get the "
        "next numbers, and the others keep theirs.",
    )
    unknown: Literal["error"] | int = OPTIONS.option(
        "error",
        UNKNOWN,
        'What to do with a value that is none of the classes. `"error"` makes its row a bad row; '
        "a number is delivered in its place.",
    )
    dtype: Any = OPTIONS.option(
        "int64", kinds.NUMBERS_OR_TEXT, "The dtype of the numbers: an integer type of NumPy's."
    )

    def _problem(self, found: Column) -> str:
        if not can_have_classes(found):
            return "holds neither text nor integers: cast it in query=, or use Number or Array"
        classes = self.classes or found.classes
        numbers = [len(classes) - 1, *([self.unknown] if isinstance(self.unknown, int) else [])]
        if not all(_fits(number, self.dtype) for number in numbers):
            return f"has classes from 0 to {max(numbers)}, which {self.dtype} does not hold"
        return ""

    def _column(self, name: str, found: Column) -> Column:
        return Column(name, self.dtype, classes=tuple(self.classes or found.classes))

    def _store(self, column: Column, values: Values, target: Target, at: int) -> dict[int, str]:
        assert isinstance(target, np.ndarray)
        numbers = _numbers(column.classes)
        is_text, is_integer = values.kinds == TEXT, values.kinds == INTEGER
        found: NDArray[Any] = np.full(len(values), -1, np.int64)
        texts, _ = _kernel.texts(values.blobs, is_text)
        found[is_text] = [numbers.get(texts[i], -1) for i in np.flatnonzero(is_text).tolist()]
        found[is_integer] = [numbers.get(n, -1) for n in values.numbers[is_integer].tolist()]
        unknown = found < 0
        if self.unknown != "error":
            found[unknown & (values.kinds != NULL)] = self.unknown
            unknown = values.kinds == NULL
        target[at : at + len(values)] = found
        wanted = f"one of {len(column.classes)} classes"
        return {i: self._bad(values, i, wanted) for i in np.flatnonzero(unknown).tolist()}


def can_have_classes(column: Column) -> bool:
    """Return whether a column of a database holds text or integers."""
    is_integer = not column.is_text and np.dtype(column.dtype).kind in "biu"
    return (column.is_text or is_integer) and not (column.shape or column.form)


def _fits(number: int, dtype: str) -> bool:
    """Return whether an integer dtype holds a number."""
    is_integer = dtype != TEXT_DTYPE and np.dtype(dtype).kind in "iu"
    return is_integer and np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


@lru_cache(maxsize=64)
def _numbers(classes: tuple[str | int, ...]) -> dict[str | int | None, int]:
    """Return the number of each class."""
    return {name: number for number, name in enumerate(classes)}

"""What a transform sees of the entries of a batch, and how what it returns is stored.

Each kind of entry has a class, with the same four methods. The first two return what a function
gets, of one row and of all rows; the others store what it returns.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..batches.ragged import Ragged
from ..fields.casts import cast
from ..fields.columns import TEXT_DTYPE, Column
from ..fields.ragged_rows import RaggedRows


class Unfit(Exception):
    """A value is not what the entry holds; the message says why."""


class View(Protocol):
    """The rows of one entry.

    Attributes
    ----------
    row_stays, rows_stay
        Whether nothing has to be stored if a function returns the very object that it got, because
        it is a view, or cannot be changed.
    """

    row_stays: bool
    rows_stay: bool

    def row(self, at: int) -> Any:
        """Return the value of a row."""

    def rows(self, count: int) -> Any:
        """Return the values of the first rows."""

    def put_row(self, at: int, value: Any) -> None:
        """Store the value of a row. Raises Unfit."""

    def put_rows(self, count: int, values: Any) -> None:
        """Store the values of the first rows. Raises Unfit."""


def view_of(column: Column, target: NDArray[Any] | RaggedRows) -> View:
    """Return the view of an entry, given where its rows are."""
    if not isinstance(target, RaggedRows):
        return Fixed(column, target)
    if column.dtype in CODINGS:
        return Objects(column, target, *CODINGS[column.dtype])
    return Arrays(column, target)


class Fixed:
    """Rows of one shape in an array."""

    row_stays = rows_stay = True

    def __init__(self, column: Column, array: NDArray[Any]) -> None:
        self._column, self._array = column, array
        self.row: Callable[[int], Any] = array.__getitem__

    def rows(self, count: int) -> NDArray[Any]:
        """See :class:`View`."""
        return self._array[:count]

    def put_row(self, at: int, value: Any) -> None:
        """See :class:`View`."""
        _assign(self._column, value, self._array[at : at + 1], rows=None)

    def put_rows(self, count: int, values: Any) -> None:
        """See :class:`View`."""
        _assign(self._column, values, self._array[:count], rows=count)


class Arrays:
    """Rows of numbers that differ in their first size."""

    row_stays, rows_stay = True, False

    def __init__(self, column: Column, target: RaggedRows) -> None:
        self._column, self._target = column, target
        self.row: Callable[[int], Any] = target.row

    def rows(self, count: int) -> Ragged:
        """See :class:`View`."""
        return Ragged(*self._target.in_order(count))

    def put_row(self, at: int, value: Any) -> None:
        """See :class:`View`."""
        array, shape = numbers(self._column.name, value), self._column.fixed_shape
        if array.shape[1:] != shape or array.ndim == 0:
            wanted = "(n" + "".join(f", {size}" for size in shape) + ")"
            raise Unfit(f"{self._column.name!r} has shape {array.shape}, not {wanted}")
        _assign(self._column, array, self._target.append(at, np.array([len(array)])), rows=None,
                whole=True)  # fmt: skip

    def put_rows(self, count: int, values: Any) -> None:
        """See :class:`View`."""
        _check_count(self._column, values, count)
        for at, value in enumerate(values):
            self.put_row(at, value)


class Objects:
    """Rows that are Python objects to a transform, and bytes in a batch."""

    rows_stay = False

    def __init__(
        self,
        column: Column,
        target: RaggedRows,
        read: Callable[[bytes], Any],
        write: Callable[[Any], bytes],
        kind: str,
    ) -> None:
        self._column, self._target = column, target
        self._read, self._write, self._kind = read, write, kind
        self.row_stays = column.dtype != "json"  # a document can be changed

    def row(self, at: int) -> Any:
        """See :class:`View`."""
        return self._read(self._target.row(at).tobytes())

    def rows(self, count: int) -> NDArray[Any]:
        """See :class:`View`."""
        found = np.empty(count, object)
        for at in range(count):
            found[at] = self.row(at)
        return found

    def put_row(self, at: int, value: Any) -> None:
        """See :class:`View`."""
        try:
            data = self._write(value)
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise Unfit(
                f"{self._column.name!r} is a {type(value).__qualname__}, not {self._kind} ({error})"
            ) from None
        self._target.put(at, data)

    def put_rows(self, count: int, values: Any) -> None:
        """See :class:`View`."""
        _check_count(self._column, values, count)
        for at, value in enumerate(values):
            self.put_row(at, value)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _from_text(value: Any) -> bytes:
    return str.encode(value, "utf-8", "surrogateescape")


def _document(data: bytes) -> Any:
    return json.loads(data) if data else None


def _from_bytes(value: Any) -> bytes:
    return memoryview(value).tobytes()


def _from_document(value: Any) -> bytes:
    return json.dumps(value).encode()


CODINGS: dict[str, tuple[Callable[[bytes], Any], Callable[[Any], bytes], str]] = {
    TEXT_DTYPE: (_text, _from_text, "a str"),
    "bytes": (bytes, _from_bytes, "bytes"),
    "json": (_document, _from_document, "what JSON can hold"),
}
"""How the values of a dtype are read from bytes and written, and what they are in words."""


def numbers(name: str, value: Any) -> NDArray[Any]:
    """Return a value as an array of numbers. Raises Unfit."""
    try:
        array = np.asarray(value)
    except Exception as error:
        raise Unfit(f"{name!r} is a {type(value).__qualname__}, not an array ({error})") from None
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise Unfit(f"{name!r} is a {type(value).__qualname__}, not an array of numbers")
    return array


def _assign(
    column: Column, value: Any, target: NDArray[Any], *, rows: int | None, whole: bool = False
) -> None:
    """Store numbers, if they are of the right shape and all of them keep their values.

    Parameters
    ----------
    target
        (1, ...) for a row, (n, ...) for a batch or, if ``whole``, the items of a ragged row.
    rows
        The number of rows, for the error; None for one row.
    """
    array = numbers(column.name, value)
    wanted = target.shape if whole or rows is not None else target.shape[1:]
    if array.shape != wanted:
        advice = "" if rows is None else f", for {rows} rows"
        raise Unfit(f"{column.name!r} has shape {array.shape}, not {wanted}{advice}")
    array = array.reshape(target.shape)
    if array.dtype == target.dtype:
        target[...] = array
    elif not cast(array, target).all():
        raise Unfit(
            f"{column.name!r} is {array.dtype.name}, and its values do not fit {column.dtype}: "
            f"convert them, or declare outputs="
        )


def _check_count(column: Column, values: Sequence[Any], count: int) -> None:
    try:
        rows = len(values)
    except TypeError:
        raise Unfit(
            f"{column.name!r} is a {type(values).__qualname__}, not a value for each row"
        ) from None
    if rows != count:
        raise Unfit(f"{column.name!r} has {rows} rows, and the batch {count}")

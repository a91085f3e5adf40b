"""PostgreSQL's types: how the binary form of keys and labels is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError, SourceError
from ...fields import values
from ...fields.columns import Column
from ...fields.values import Form, Values
from ...options.labels import TEXT
from ...plan.keys import UUID, Keys, together
from ._libpq import Result

BYTEA, OID = 17, 26
BYTES, ARRAY = "bytes", "array"

MOST_KEY_BYTES = 1024
"""The limit for a text key. All keys are kept in memory, where each takes as much space as the
longest."""


@dataclass(frozen=True)
class Type:
    """How values of a type are read.

    Attributes
    ----------
    name
        The type's name in a cast.
    wire
        The big-endian dtype of the binary form; or TEXT, BYTES or ARRAY.
    dtype
        The dtype of a label that does not ask for another.
    form
        How an array is written, or None.
    unit, epoch
        For a time, what turns a value into microseconds since 1970; see :meth:`Result.numbers`.
    output
        The expression that is read in place of the column ``{}``.
    is_loose
        Whether values that are equal may differ as text.
    """

    name: str
    wire: str
    dtype: str
    form: Form | None = None
    unit: int = 1
    epoch: int = 0
    output: str = "{}"
    is_loose: bool = False


Bound = list[tuple[int, bytes | None]]
"""The values of a statement's parameters; see :meth:`Session.query`."""


class Query(Protocol):
    """How statements are run."""

    def __call__(self, sql: str, params: Bound | None = None, /) -> list[Result]:
        """Run statements and return the results of those that return rows. Raises QueryError.

        Only a single statement can have parameters.
        """


def text(value: bytes | None) -> str:
    """Return a server's value as text, "" for NULL."""
    return (value or b"").decode("utf-8", "replace")


DECODINGS = {
    "\\x": "{}::bytea",
    "data:": "decode(split_part({}, ',', 2), 'base64')",
    **dict.fromkeys(("ffd8", "FFD8", "8950", "52494646"), "decode({}, 'hex')"),
    "": "decode({}, 'base64')",
}
"""Casts that turn text into bytes, by how the text begins. Hexadecimal digits are recognized by an
image's first bytes, because base64 may begin with them too."""


def first_text(column: str, rows: str, query: Query) -> str:
    """Return the beginning of the first value of a text column, or "".

    Parameters
    ----------
    column
        The column in SQL.
    rows
        What to select from.
    query
        Runs statements.
    """
    (result,) = query(f"SELECT left({column}, 5000) FROM {rows} WHERE {column} IS NOT NULL LIMIT 1")
    return text(result.value(0, 0)) if len(result) else ""


def decoding(start: str) -> str:
    """Return the cast that turns text into bytes, judging by how it begins."""
    return next(cast for prefix, cast in DECODINGS.items() if start.startswith(prefix))


# ---- columns of a result -------------------------------------------------------------------------


def integers(result: Result, column: int, wire: str = ">i8") -> NDArray[np.int64]:
    """Return a column of integers as int64 (n,). Raises NullError if one is NULL."""
    kinds, numbers, _ = result.numbers([(column, wire, 1, 0)])
    _refuse_null(kinds == values.NULL)
    found: NDArray[np.int64] = numbers[0]
    return found


class NullError(SourceError):
    """A value is NULL that cannot be."""


def keys_of(result: Result, first: int, kinds: Sequence[Type], widths: Sequence[int] = ()) -> Keys:
    """Return the keys in some columns, (n,) of a dtype of ``plan/keys.py``.

    Parameters
    ----------
    result, first
        The result, and the index of the first of the columns.
    kinds
        The types of the columns.
    widths
        For each column the itemsize for text in bytes, or 0. Without them it is the size of the
        longest text in this result.

    Raises
    ------
    PlanError
        If a text is longer than ``MOST_KEY_BYTES``.
    NullError
        If a value is NULL.
    """
    return together(
        [
            _key_column(result, first + i, kind, widths[i] if widths else 0)
            for i, kind in enumerate(kinds)
        ]
    )


def _key_column(result: Result, column: int, kind: Type, width: int) -> Keys:
    """Return a column of keys."""
    if kind.wire == TEXT:
        sizes = result.blobs(column)[:, 1]
        _refuse_null(sizes < 0)
        width = width or int(sizes.max(initial=1))
        if width > MOST_KEY_BYTES:
            raise PlanError(
                f"a key has {width} bytes; text keys of up to {MOST_KEY_BYTES} bytes are "
                f"supported. Use another unique column as key"
            )
        return result.raw(column, width)[0].view(f"S{width}").reshape(-1)
    if kind.wire == UUID:
        data, sizes = result.raw(column, 16)
        _refuse_null(sizes < 0)
        if (sizes != 16).any():
            raise SourceError("the server sent a uuid that does not have 16 bytes")
        return data.view(UUID).reshape(-1)
    return integers(result, column, kind.wire)


def values_of(
    result: Result, first: int, columns: Sequence[Column], kinds: Mapping[str, Type]
) -> tuple[dict[str, Values], dict[int, str]]:
    """Return the values of label columns by name, and why rows have none, by their index.

    Parameters
    ----------
    result, first
        The result, and the index of the first of its columns.
    columns
        The columns of the batch that they are for.
    kinds
        The types of the labels by name.
    """
    found, bad = {}, {}
    numeric = []  # read together, because their values lie together
    for index, column in enumerate(columns, start=first):
        kind = kinds[column.name]
        if kind.wire in (TEXT, BYTES, ARRAY):
            what = values.TEXT if kind.wire == TEXT else values.BLOB
            found[column.name] = blobs_of(result, index, what, kind.form)
        else:
            numeric.append((column, (index, kind.wire, kind.unit, kind.epoch)))
    all_kinds, all_numbers, far = result.numbers([how for _, how in numeric])
    no_blobs = np.zeros((len(result), 2), np.intp)
    for i, (column, _) in enumerate(numeric):
        found[column.name] = Values(all_kinds[i], all_numbers[i], no_blobs)
    for i, row in far:
        its, _ = numeric[i]
        bad[row] = (
            f"column {its.name!r} holds infinity or a time too far away, {its.dtype} is needed"
        )
    return found, bad


def blobs_of(result: Result, index: int, kind: int, form: Form | None = None) -> Values:
    """Return a column of text or blobs as values of this kind, where it is not NULL."""
    blobs = result.blobs(index)
    kinds = np.where(blobs[:, 1] < 0, values.NULL, kind).astype(np.uint8)
    return Values(kinds, np.zeros(len(result), np.int64), blobs, result, form)


def _refuse_null(null: NDArray[np.bool_]) -> None:
    """Raise NullError if any of the values are NULL."""
    if null.any():
        raise NullError("the server sent NULL where there can be none")

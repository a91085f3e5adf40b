"""PostgreSQL's types: which can be labels, and how the binary form of keys and labels is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError, SourceError
from ...fields import values
from ...fields.columns import Column
from ...fields.values import Values
from ...options.labels import TEXT
from ...plan.keys import UUID, Keys
from ._libpq import Result

BYTEA, OID = 17, 26
BYTES = "bytes"

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
        The big-endian dtype of the binary form, for an array that of an element; or TEXT or BYTES.
    dtype
        The dtype of a label that does not ask for another.
    element
        The type OID of an array's elements, or 0.
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
    element: int = 0
    unit: int = 1
    epoch: int = 0
    output: str = "{}"
    is_loose: bool = False


Query = Callable[[str], list[Result]]
"""Runs statements and returns the results of those that return rows. Raises QueryError."""


def text(value: bytes | None) -> str:
    """Return a server's value as text, "" for NULL."""
    return (value or b"").decode("utf-8", "replace")


_DATE = {"unit": 86_400_000_000, "epoch": 10_957}
_TIME = {"unit": 1, "epoch": 946_684_800_000_000}
"""PostgreSQL counts days and microseconds from 2000, we count microseconds from 1970."""

LABELS = {
    16: Type("bool", "?", "bool"),
    21: Type("int2", ">i2", "int64"),
    23: Type("int4", ">i4", "int64"),
    20: Type("int8", ">i8", "int64"),
    700: Type("float4", ">f4", "float64"),
    701: Type("float8", ">f8", "float64"),
    25: Type("text", TEXT, TEXT),
    1043: Type("varchar", TEXT, TEXT),
    1042: Type("bpchar", TEXT, TEXT),
    19: Type("name", TEXT, TEXT),
    1082: Type("date", ">i4", "int64", **_DATE),
    1114: Type("timestamp", ">i8", "int64", **_TIME),
    1184: Type("timestamptz", ">i8", "int64", **_TIME),
    1000: Type("bool[]", "?", "bool", 16),
    1005: Type("int2[]", ">i2", "int16", 21),
    1007: Type("int4[]", ">i4", "int32", 23),
    1016: Type("int8[]", ">i8", "int64", 20),
    1021: Type("float4[]", ">f4", "float32", 700),
    1022: Type("float8[]", ">f8", "float64", 701),
    BYTEA: Type("bytea", BYTES, "uint8"),
}
"""The types that can be labels, by OID."""

CASTS = {
    "numeric": "{}::float8",
    "numeric[]": "{}::float8[]",
    "money": "{}::numeric::float8",
    "interval": "extract(epoch FROM {})::float8",
    "vector": "{}::float4[]",
    "halfvec": "{}::float4[]",
    "bit": "{}::int8",
}
"""Casts that turn another type into a label, by the type's name. For the rest it is ``::text``."""

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
    """Return a column of integers as int64 (n,). Raises SourceError if one is NULL."""
    kinds, numbers, _ = result.numbers(column, wire)
    _refuse_null(kinds == values.NULL)
    return numbers


def keys_of(result: Result, column: int, kind: Type, width: int = 0) -> Keys:
    """Return a column of keys, (n,) of a dtype of ``plan/keys.py``.

    Parameters
    ----------
    result, column
        The result, and the index of the column.
    kind
        The type of the keys.
    width
        The itemsize for text in bytes, or 0 for the size of the longest key in this result.

    Raises
    ------
    PlanError
        If a text key is longer than ``MOST_KEY_BYTES``.
    SourceError
        If a key is NULL.
    """
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
    result: Result, index: int, kind: Type, column: Column
) -> tuple[Values, dict[int, str]]:
    """Return the values of a label column, and why rows have none, by their index.

    Parameters
    ----------
    result, index
        The result, and the index of its column.
    kind
        The type of the labels.
    column
        The column of the batch that they are for.
    """
    if kind.wire in (TEXT, BYTES):
        return blobs_of(result, index, values.TEXT if kind.wire == TEXT else values.BLOB), {}
    rows, no_blobs = len(result), np.zeros((len(result), 2), np.intp)
    if kind.element:
        wire = np.dtype(kind.wire)
        data, statuses = result.arrays(index, kind.element, wire.itemsize, column.shape)
        bad = {
            row: _bad_array(column, int(statuses[row]), result.value(row, index) or b"")
            for row in np.flatnonzero(statuses).tolist()
        }
        arrays = data.view(wire).reshape(rows, *column.shape)
        return Values(np.full(rows, values.ARRAY, np.uint8), arrays, no_blobs), bad
    kinds, numbers, far = result.numbers(index, kind.wire, kind.unit, kind.epoch)
    why = f"column {column.name!r} holds infinity or a time too far away, {column.dtype} is needed"
    return Values(kinds, numbers, no_blobs), dict.fromkeys(far, why)


def blobs_of(result: Result, index: int, kind: int) -> Values:
    """Return a column of text or blobs as values of this kind, where it is not NULL."""
    blobs = result.blobs(index)
    kinds = np.where(blobs[:, 1] < 0, values.NULL, kind).astype(np.uint8)
    return Values(kinds, np.zeros(len(result), np.int64), blobs, result)


def _refuse_null(null: NDArray[np.bool_]) -> None:
    """Raise SourceError if any of the values are NULL."""
    if null.any():
        raise SourceError("the server sent NULL where there can be none")


def _bad_array(column: Column, status: int, value: bytes) -> str:
    """Return the reason for a row whose array could not be read; see :meth:`Result.arrays`."""
    what = {1: "NULL", 2: "an array with a NULL in it"}.get(status)
    if what is None:
        # The binary form is: number of dimensions, flags, element type, then size and lower bound
        # of each dimension.
        what = f"an array of {_by(np.frombuffer(value, '>i4')[3 : 3 + 2 * value[3] : 2].tolist())}"
    return (
        f"column {column.name!r} holds {what}, an array of {_by(column.shape)} x {column.dtype} is "
        f"needed"
    )


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "0"

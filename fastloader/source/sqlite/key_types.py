"""The values that can be keys in SQLite, where each value has a type of its own.

A key is compared, sorted and found as the value that it is, so that its index is used. All keys of
a table are of one kind: integers, text, or blobs. Blobs of 16 bytes are uuids; other blobs travel
as hexadecimal text, such as PostgreSQL's ``bytea`` keys.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError
from ...fields import values
from ...fields.values import Values
from ...options.labels import TEXT
from ...plan.keys import INTEGER, UUID, Key, Keys
from ...plan.split import numbers_of
from ._sqlite import padded

BLOB, HEX = "blob", "\\x"
"""The kind of keys that are other blobs, and how their text begins."""

MOST_KEY_BYTES = 1024
"""The limit for a key as text. All keys are kept in memory, where each takes as much space as the
longest."""

UUID_BYTES = 16

_DIGITS = np.frombuffer(bytes(range(256)).hex().encode(), "S2")


class BadKey(Exception):
    """Raised for a key that cannot be one; see :func:`kind_of`.

    Attributes
    ----------
    problem
        What is wrong with the column, or with one of its values.
    expression
        The SQL expression that turns a column ``{}`` into keys.
    condition
        The SQL condition that is true for the rows of a column ``{}`` that have keys, or "".
    """

    def __init__(self, problem: str, expression: str = "{}", condition: str = "") -> None:
        super().__init__(problem, expression, condition)
        self.problem, self.expression, self.condition = problem, expression, condition

    @property
    def has_remedy(self) -> bool:
        """Whether the expression or the condition helps."""
        return self.expression != "{}" or bool(self.condition)


def kind_of(column: Values) -> str:
    """Return the kind of the keys: INTEGER, TEXT, UUID or BLOB.

    Raises
    ------
    BadKey
        If they are not all of one kind, or one of them cannot be stored.
    """
    kinds = set(np.unique(column.kinds).tolist())
    if kinds <= {values.INTEGER}:
        return INTEGER
    if values.NULL in kinds:
        nulls = int((column.kinds == values.NULL).sum())
        rows = "1 row" if nulls == 1 else f"{nulls} rows"
        raise BadKey(f"is NULL in {rows}; every row needs a key", condition="{} IS NOT NULL")
    if kinds not in ({values.TEXT}, {values.BLOB}):
        some = [column.value(int((column.kinds == kind).argmax())) for kind in sorted(kinds)]
        shown = " and ".join(map(_shown, some))
        raise BadKey(
            f"holds {shown}; keys must be integers, or all text, or all blobs", "quote({})"
        )
    sizes = column.blobs[:, 1]
    if kinds == {values.BLOB}:
        if (sizes == UUID_BYTES).all():
            return UUID
        _check_size(len(HEX) + 2 * int(sizes.max()))
        return BLOB
    _check_size(int(sizes.max()))
    ends_in_nul = _end_in_nul(column)
    if ends_in_nul.any():
        key = column.value(int(ends_in_nul.argmax()))
        raise BadKey(f"holds {_shown(key)}, which ends in a NUL", "CAST({} AS BLOB)")
    return TEXT


def _end_in_nul(column: Values) -> NDArray[np.bool_]:
    """Return where a text ends in a NUL, which fixed-width text in NumPy loses."""
    last = column.blobs.copy()
    last[:, 0] += last[:, 1] - 1
    last[:, 1] = np.minimum(last[:, 1], 1)
    return np.asarray((last[:, 1] == 1) & (padded(last, 1)[:, 0] == 0))


def _check_size(size: int) -> None:
    if size > MOST_KEY_BYTES:
        raise BadKey(
            f"holds a key of {size} bytes as text; keys of up to {MOST_KEY_BYTES} bytes are "
            f"supported"
        )


def _shown(value: object) -> str:
    return repr(value) if len(repr(value)) <= 40 else repr(value)[:40] + "..."


def stored(column: Values, kind: str) -> Keys:
    """Return keys of a kind, (n,) of a dtype of ``plan/keys.py``.

    Raises
    ------
    SourceError
        If a key is not of this kind.
    """
    wanted = {INTEGER: values.INTEGER, TEXT: values.TEXT}.get(kind, values.BLOB)
    sizes = column.blobs[:, 1]
    if (column.kinds != wanted).any() or (kind == UUID and (sizes != UUID_BYTES).any()):
        raise SourceError("a key has another type than all had when the keys were read")
    if kind == INTEGER:
        return column.numbers
    width = int(sizes.max(initial=1))
    copies = padded(column.blobs, width)
    if kind == UUID:
        return copies.view(UUID).reshape(-1) if len(column) else np.empty(0, UUID)
    if kind == BLOB:
        digits = _DIGITS[copies].view(np.uint8).reshape(len(column), 2 * width)
        digits[np.arange(2 * width) >= 2 * sizes[:, None]] = 0
        prefix = np.frombuffer(HEX.encode(), np.uint8)
        copies = np.hstack((np.broadcast_to(prefix, (len(column), len(prefix))), digits))
    return copies.view(f"S{copies.shape[1]}").reshape(-1)


def parameters(key: Key, kinds: Sequence[str]) -> tuple[int | str | bytes, ...]:
    """Return the values that SQLite has for the columns of a key, whose kinds are given."""
    columns = key if isinstance(key, tuple) else (key,)
    return tuple(map(_parameter, columns, kinds))


def _parameter(column: int | str, kind: str) -> int | str | bytes:
    if isinstance(column, int) or kind == TEXT:
        return column
    return uuid.UUID(column).bytes if kind == UUID else bytes.fromhex(column.removeprefix(HEX))


def group_numbers(column: Values) -> NDArray[np.uint64]:
    """Return the numbers that decide about each row's split, uint64 (n,).

    Values of several types may be mixed, and the number of one does not depend on others: a blob of
    16 bytes is always a UUID here.

    Raises
    ------
    BadKey
        If one is NULL, a float or too long.
    """
    found = np.empty(len(column), np.uint64)
    sizes = column.blobs[:, 1]
    is_uuid = (column.kinds == values.BLOB) & (sizes == UUID_BYTES)
    for kind, rows in (
        (INTEGER, column.kinds == values.INTEGER),
        (TEXT, column.kinds == values.TEXT),
        (UUID, is_uuid),
        (BLOB, (column.kinds == values.BLOB) & ~is_uuid),
    ):
        if rows.any():
            some = column if rows.all() else column[np.flatnonzero(rows)]
            most = (MOST_KEY_BYTES - len(HEX)) // 2 if kind == BLOB else MOST_KEY_BYTES
            if kind in (TEXT, BLOB) and int(some.blobs[:, 1].max()) > most:
                raise BadKey(f"holds more than {most} bytes")
            found[rows] = numbers_of(stored(some, kind))
    for missing, what in ((values.NULL, "NULL"), (values.REAL, "a number with a fraction")):
        count = int((column.kinds == missing).sum())
        if count:
            raise BadKey(
                f"is {what} in {count} {'row' if count == 1 else 'rows'}",
                condition="{} IS NOT NULL" if missing == values.NULL else "",
            )
    return found


def may_be_equal(parts: Sequence[Keys]) -> bool:
    """Return whether two neighbors in SQLite's order could be equal to it, by NOCASE or RTRIM.

    ``parts`` are the columns of the keys.
    """
    equal = [_folded(part)[1:] == _folded(part)[:-1] for part in parts]
    return bool(np.logical_and.reduce(equal).any())


def _folded(part: Keys) -> Keys:
    if part.dtype.kind != "S":
        return part
    lower: NDArray[np.bytes_] = np.char.lower(part)  # type: ignore[assignment]
    return np.char.rstrip(lower, b" ")

"""Arrays of numbers, decoded from the form in which a database sends them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _kernel
from .blobs import Group, groups, read_group
from .casts import cast
from .columns import by
from .ragged_rows import RaggedRows
from .values import BLOB, Form, Values, described

Bad = dict[int, str]
"""For each row that does not fit, by its index: what it holds."""

BLOCK_BYTES = 1 << 16
"""How much is decoded at a time where another dtype is wanted: what stays in a core's cache."""

READ, BROKEN = _kernel.ARRAY_STATUS["read"], _kernel.ARRAY_STATUS["broken"]

WHY = {
    _kernel.ARRAY_STATUS["has null"]: "an array with a NULL in it",
    BROKEN: "a malformed array",
}
"""What a row holds that has not been read."""


def decode_arrays(values: Values, target: NDArray[Any]) -> Bad:
    """Decode the arrays of some rows, all of the same shape.

    Parameters
    ----------
    values
        The values of n rows.
    target
        Where to store them: n rows of the shape that the arrays must have.
    """
    if values.form is not None:
        return _decode_sent(values, values.form, target)
    found, bad = groups(values)
    for group in found:
        fits = group.is_in
        if group.header is None:
            fits = fits & (group.blobs[:, 1] == target[:1].nbytes)
        elif group.header.shape != target.shape[1:]:
            fits = np.zeros_like(fits)
        bad |= {i: group.described(i) for i in np.flatnonzero(group.is_in & ~fits).tolist()}
        fitting = group._replace(is_in=fits)
        misfits = _convert(fitting, target, fits)
        bad |= {i: _overflow(fitting, i) for i in np.flatnonzero(misfits).tolist()}
    return bad


def decode_ragged(values: Values, rows: RaggedRows, at: int) -> Bad:
    """Decode the arrays of some rows, whose first dimension may be any.

    Parameters
    ----------
    values
        The values of n rows.
    rows
        Where to append their items. The other dimensions are those of its column.
    at
        The position of the first row in the batch.
    """
    inner = rows.column.fixed_shape
    if values.form is not None:
        return _decode_sent_ragged(values, values.form, inner, rows, at)
    found, bad = groups(values)
    lengths = np.zeros(len(values), np.int64)
    fitting = []
    for group in found:
        fits, its = group.lengths(inner, rows.column.row_bytes)
        bad |= {i: group.described(i) for i in np.flatnonzero(group.is_in & ~fits).tolist()}
        lengths[fits] = its[fits]
        fitting.append(group._replace(is_in=fits))
    room = rows.append(at, lengths)
    of_item = np.repeat(np.arange(len(values)), lengths)
    for group in fitting:
        misfits = of_item[_convert(group, room, group.is_in[of_item])]
        bad |= {i: _overflow(group, i) for i in set(misfits.tolist())}
    return bad


def _convert(group: Group, target: NDArray[Any], items: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Store a group's numbers in some of the items of a target; return where one does not fit."""
    misfits = np.zeros(len(target), np.bool_)
    dtype = target.dtype if group.header is None else group.header.dtype.newbyteorder("=")
    whole = len(items) == len(target) and items.all() and target.flags.c_contiguous
    if whole and dtype == target.dtype:
        read_group(group, target)
    elif items.any():
        given = np.empty((int(items.sum()), *target.shape[1:]), dtype)
        read_group(group, given)
        some = np.empty(given.shape, target.dtype)
        fits = cast(given, some)
        target[: len(items)][items] = some
        misfits[np.flatnonzero(items)] = ~fits.reshape(len(given), -1).all(axis=1)
    return misfits


def _overflow(group: Group, row: int) -> str:
    """Return the words for an array with a number that another dtype does not hold."""
    return f"{group.described(row)} with numbers that do not fit"


def _decode_sent(values: Values, form: Form, target: NDArray[Any]) -> Bad:
    """Decode arrays in a form of PostgreSQL's, without a copy if the dtypes are the same."""
    if target.dtype == form.dtype and target.flags.c_contiguous:
        return _read(values, form, target)
    bad: Bad = {}
    row_bytes = np.dtype(form.dtype).itemsize * int(np.prod(target.shape[1:], dtype=int))
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    block = np.zeros((min(step, len(target)), *target.shape[1:]), form.dtype)
    for start in range(0, len(target), step):
        some = target[start : start + step]
        given = block[: len(some)]
        unread = _read(values[start : start + step], form, given)
        fits = cast(given, some).reshape(len(some), -1).all(axis=1)
        bad |= {start + i: described(given[i].tolist()) for i in np.flatnonzero(~fits).tolist()}
        bad |= {start + i: what for i, what in unread.items()}
    return bad


def _read(values: Values, form: Form, target: NDArray[Any]) -> Bad:
    """Decode arrays whose elements have the dtype of the target."""
    wanted = values.kinds == BLOB
    statuses = _kernel.arrays(values.blobs, wanted, form.kind, form.element, target)
    return _what(values, form, statuses)


def _decode_sent_ragged(
    values: Values, form: Form, inner: tuple[int, ...], rows: RaggedRows, at: int
) -> Bad:
    """Decode arrays of any length in a form of PostgreSQL's."""
    wanted, width = values.kinds == BLOB, np.dtype(form.dtype).itemsize
    how = (form.kind, form.element)
    statuses, lengths = _kernel.array_lengths(values.blobs, wanted, *how, width, inner)
    bad = _what(values, form, statuses)
    room = rows.append(at, lengths)
    given = room if room.dtype == form.dtype else np.empty(room.shape, form.dtype)
    wanted = wanted & (statuses == READ)
    broken = wanted & (_kernel.ragged_arrays(values.blobs, wanted, *how, lengths, given) != READ)
    bad |= dict.fromkeys(np.flatnonzero(broken).tolist(), WHY[BROKEN])
    if given is not room and len(given):
        of_item = np.repeat(np.arange(len(values)), lengths)
        misfits = of_item[~cast(given, room).reshape(len(given), -1).all(axis=1)]
        for i in set(misfits.tolist()) - set(bad):
            bad[i] = described(given[of_item == i].tolist())
    return bad


def _what(values: Values, form: Form, statuses: NDArray[np.uint8]) -> Bad:
    """Return what the rows hold that were not read."""
    found = {}
    for row in np.flatnonzero(statuses).tolist():
        if values.kinds[row] != BLOB:
            found[row] = values.described(row)
        else:
            why = WHY.get(int(statuses[row]))
            found[row] = why or f"an array of {by(_shape_of(values, form, row))}"
    return found


def _shape_of(values: Values, form: Form, row: int) -> tuple[int, ...]:
    """Return the shape of an array that has another one; see csrc/arrays.h for the forms."""
    if form.kind == "pg_vector":
        return (int.from_bytes(values.start(row, 2), "big"),)
    header = np.frombuffer(values.start(row, 60), ">u4", count=3 + 2 * values.start(row, 4)[3])
    return tuple(header[3::2].tolist())

"""Arrays of numbers, decoded from the form in which a database sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _kernel
from .casts import cast
from .values import BLOB, Form, Values, described

BLOCK_BYTES = 1 << 16
"""How much is decoded at a time where another dtype is wanted: what stays in a core's cache."""

READ, OTHER_SHAPE = _kernel.ARRAY_STATUS["read"], _kernel.ARRAY_STATUS["other shape"]

WHY = {
    _kernel.ARRAY_STATUS["null"]: "NULL",
    _kernel.ARRAY_STATUS["has null"]: "an array with a NULL in it",
    _kernel.ARRAY_STATUS["broken"]: "a malformed array",
}
"""What a row holds that has not been read."""


def decode_arrays(values: Values, form: Form, target: NDArray[Any]) -> dict[int, str]:
    """Decode the arrays of some rows into a batch, without a copy if the dtypes are the same.

    Parameters
    ----------
    values
        The values of n rows.
    form
        Their form.
    target
        Where to store them: an array of n rows. All arrays must have the shape of a row.

    Returns
    -------
    dict
        For each row that does not fit, by its index: what it holds.
    """
    if target.dtype == form.dtype and target.flags.c_contiguous:
        return _decode(values, form, target)
    bad: dict[int, str] = {}
    row_bytes = np.dtype(form.dtype).itemsize * int(np.prod(target.shape[1:], dtype=int))
    step = max(1, BLOCK_BYTES // max(1, row_bytes))
    block = np.zeros((min(step, len(target)), *target.shape[1:]), form.dtype)
    for start in range(0, len(target), step):
        rows = slice(start, start + step)
        some = target[rows]
        given = block[: len(some)]
        unread = _decode(values[rows], form, given)
        fits = cast(given, some).reshape(len(some), -1).all(axis=1)
        bad |= {start + i: described(given[i].tolist()) for i in np.flatnonzero(~fits).tolist()}
        bad |= {start + i: what for i, what in unread.items()}
    return bad


def by(shape: Sequence[int]) -> str:
    """Return a shape in words, "0" for that of an array without elements."""
    return " x ".join(map(str, shape)) or "0"


def _decode(values: Values, form: Form, target: NDArray[Any]) -> dict[int, str]:
    """Decode arrays whose elements have the dtype of the target."""
    statuses = _kernel.arrays(values.blobs, values.kinds == BLOB, form.kind, form.element, target)
    bad = {}
    for row in np.flatnonzero(statuses).tolist():
        status = int(statuses[row])
        bad[row] = WHY.get(status) or f"an array of {by(_shape_of(values, form, row))}"
    return bad


def _shape_of(values: Values, form: Form, row: int) -> list[int]:
    """Return the shape of an array that has another one; see csrc/arrays.h for the forms."""
    if form.kind == "pg_vector":
        return [int.from_bytes(values.start(row, 2), "big")]
    header = np.frombuffer(values.start(row, 60), ">u4", count=3 + 2 * values.start(row, 4)[3])
    sizes: list[int] = header[3::2].tolist()
    return sizes

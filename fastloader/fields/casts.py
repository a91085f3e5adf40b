"""Numbers of one dtype become numbers of another, or are found not to fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cast(values: NDArray[Any], target: NDArray[Any]) -> NDArray[np.bool_]:
    """Store numbers, and return where they kept their value. Floats may be rounded to floats.

    No value is wrapped around, cut off or made infinite, and no integer is rounded.

    Parameters
    ----------
    values
        The numbers.
    target
        Where to store them: an array of the same shape.
    """
    is_exact = np.can_cast(values.dtype, target.dtype, "safe")
    with np.errstate(all="ignore"):  # overflows are found below
        np.copyto(target, values, casting="unsafe")
        if target.dtype.kind == "f" and values.dtype.kind in "iu":  # "safe" rounds int64 to float64
            back = target.astype(values.dtype)
            end = np.float64(np.iinfo(values.dtype).max // 2 + 1) * 2  # a power of two
            return np.asarray(np.isfinite(target) & (target < end) & (back == values))
    if is_exact:
        return np.ones(values.shape, np.bool_)
    if target.dtype.kind == "f":
        return np.asarray(np.isfinite(target) | ~np.isfinite(values))
    if values.dtype.kind == "f":
        limits = np.iinfo(target.dtype) if target.dtype.kind in "iu" else None
        inside = (values >= limits.min) & (values <= limits.max) if limits else np.True_
        return np.asarray(inside & (target == values))
    return np.asarray((target == values) & ((values < 0) == (target < 0)))

"""Arrays as PostgreSQL sends them, without a server."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import numpy as np

from fastloader.fields.values import Form, Values


def pg_arrays(arrays: list[Any], dtype: str) -> Values:
    """Return arrays of at least one dimension as PostgreSQL sends them, elements of OID 1."""
    blobs = []
    for array in (np.array(array, dtype) for array in arrays):
        sizes = b"".join(struct.pack(">ii", size, 1) for size in array.shape)
        elements = array.astype(array.dtype.newbyteorder(">")).reshape(-1, 1)
        parts = [struct.pack(">i", array.itemsize) + element.tobytes() for element in elements]
        blobs.append(struct.pack(">iiI", array.ndim, 0, 1) + sizes + b"".join(parts))
    return dataclasses.replace(Values.of(blobs), form=Form("pg_array", dtype, 1))

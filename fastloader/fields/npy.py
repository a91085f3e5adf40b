"""Arrays in NumPy's .npy format, as blobs: their headers, which anybody may have written.

The header is a Python literal, which ``numpy.lib.format`` reads with ``ast.literal_eval``. Nothing
is unpickled. What follows the header is only ever copied.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
from numpy.lib import format as npy_format

MAGIC = npy_format.MAGIC_PREFIX

MOST_HEADER_BYTES = 4096
"""The longest header that is read. NumPy writes 118 bytes for an array of numbers."""

READERS = {
    (1, 0): (10, npy_format.read_array_header_1_0),
    (2, 0): (12, npy_format.read_array_header_2_0),
}
"""By version: the bytes before the header, and what reads it. Version 3 only adds names of fields
to version 2, and an array of numbers has no fields."""


@dataclass(frozen=True)
class Header:
    """What precedes the numbers of an array.

    Attributes
    ----------
    dtype
        Their type, in any byte order.
    shape
        The shape of the array.
    is_fortran
        Whether the first index varies fastest.
    size
        The bytes before the numbers.
    """

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    is_fortran: bool
    size: int

    @property
    def data_bytes(self) -> int:
        """The bytes of the numbers."""
        return self.dtype.itemsize * prod(self.shape)

    @property
    def is_plain(self) -> bool:
        """Whether the numbers lie in memory as NumPy makes them by default."""
        return self.dtype.isnative and not (self.is_fortran and len(self.shape) > 1)


def header_bytes(start: bytes) -> int:
    """Return how many bytes a blob that starts like this has before its numbers, or 0.

    Parameters
    ----------
    start
        The first 12 bytes of the blob.
    """
    before, _ = READERS.get((start[6], start[7]) if len(start) == 12 else (0, 0), (0, None))
    if not before or not start.startswith(MAGIC):
        return 0
    size = before + int.from_bytes(start[8:before], "little")
    return size if size <= MOST_HEADER_BYTES else 0


@lru_cache(maxsize=256)  # all arrays of a column have the same header, or one of few
def parse_header(header: bytes) -> Header | None:
    """Return what a header of :func:`header_bytes` bytes says; None if it is not one of numbers."""
    _, read = READERS[header[6], header[7]]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about headers that Python 2 has written
            shape, is_fortran, dtype = read(
                io.BytesIO(header[8:]), max_header_size=MOST_HEADER_BYTES
            )
    except Exception:  # NumPy's reader of Python literals raises half a dozen kinds
        return None
    if dtype.kind not in "biuf" or any(type(size) is not int or size < 0 for size in shape):
        return None
    return Header(dtype, shape, is_fortran, len(header))

"""Nameless memory that the processes of a loader share, and the keys in it."""

from __future__ import annotations

import io
import mmap
import os

import numpy as np
from numpy.typing import NDArray

from ..plan.keys import Keys
from ..system.descriptors import forget_in_children


def create_memory(name: str) -> io.FileIO:
    """Create a nameless file in memory, of no size yet.

    Parameters
    ----------
    name
        Only shown in /proc.
    """
    # One bytecode creates and keeps it, so Ctrl-C cannot come between and lose the descriptor.
    (memory,) = map(io.FileIO, map(os.memfd_create, [f"fastloader-{name}"]), ["r+"])
    forget_in_children(memory, io.FileIO.close)
    return memory


def write_keys(memory: io.FileIO, keys: Keys) -> None:
    """Append keys to the memory, where every process of the loader can map them."""
    data = np.ascontiguousarray(keys).view(np.uint8).data
    while data:
        data = data[memory.write(data) or 0 :]


def write_follows(memory: io.FileIO, follows: NDArray[np.bool_]) -> None:
    """Append which rows follow the one before in the table, after all keys of a split."""
    write_keys(memory, follows)


def map_keys(memory: io.FileIO, dtype: str, rows: int) -> Keys:
    """Return the keys in the memory that they were written to, (rows,), read-only."""
    if rows == 0:
        return np.empty(0, dtype)
    return np.frombuffer(mmap.mmap(memory.fileno(), 0, prot=mmap.PROT_READ), dtype, rows)


def map_follows(memory: io.FileIO, dtype: str, rows: int) -> NDArray[np.bool_] | None:
    """Return what :func:`write_follows` has written, (rows,), read-only; None if it has not."""
    begin = rows * np.dtype(dtype).itemsize
    if os.fstat(memory.fileno()).st_size < begin + rows or rows == 0:
        return None
    mapped = mmap.mmap(memory.fileno(), 0, prot=mmap.PROT_READ)
    return np.frombuffer(mapped, np.bool_, rows, begin)

"""Nameless memory that the processes of a loader share, and the keys in it."""

from __future__ import annotations

import io
import mmap
import os
from typing import Any

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


def write_array(memory: io.FileIO, array: NDArray[Any]) -> int:
    """Append an array to the memory, and return where it begins, for :func:`map_array`."""
    begin = -(-os.fstat(memory.fileno()).st_size // 8) * 8
    memory.seek(begin)
    write_keys(memory, array)
    return begin


def map_keys(memory: io.FileIO, dtype: str, rows: int) -> Keys:
    """Return the keys in the memory that they were written to, (rows,), read-only."""
    if rows == 0:
        return np.empty(0, dtype)
    return np.frombuffer(mmap.mmap(memory.fileno(), 0, prot=mmap.PROT_READ), dtype, rows)


def map_array(memory: io.FileIO, dtype: Any, count: int, begin: int) -> NDArray[Any]:
    """Return what :func:`write_array` has written at ``begin``, (count,), read-only."""
    mapped = mmap.mmap(memory.fileno(), 0, prot=mmap.PROT_READ)
    return np.frombuffer(mapped, dtype, count, begin)

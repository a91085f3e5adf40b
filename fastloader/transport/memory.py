"""Nameless memory that the processes of a loader share, and the keys in it."""

from __future__ import annotations

import io
import mmap
import os

import numpy as np

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


def map_keys(memory: io.FileIO, dtype: str) -> Keys:
    """Return the keys in the memory that they were written to, (n,), read-only."""
    if os.fstat(memory.fileno()).st_size == 0:
        return np.empty(0, dtype)
    return np.frombuffer(mmap.mmap(memory.fileno(), 0, prot=mmap.PROT_READ), dtype)

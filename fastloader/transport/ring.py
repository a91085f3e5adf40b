"""Slots in shared memory, and leases on them.

The contract
------------
A ring belongs to one worker and the training process. It is one nameless region of shared memory
(``memfd_create``: nothing in ``/dev/shm``, nothing to leave behind, nothing to collide with),
allocated in full when it is made, so that a lack of memory is an error then and not a SIGBUS later.
It holds slots of equal size; each slot holds the columns of one batch, and each column starts on an
address that is a multiple of ``ALIGNMENT``.

A slot is FREE -> FILLING (worker) -> READY -> LEASED (training process) -> FREE. Only the worker
touches FREE and FILLING slots, only the training process READY and LEASED ones. There is no lock
in the shared memory, so a dying process cannot leave one held: the turn passes with a record on a
pipe, READY one way and FREE the other (``pipes.py``). A pipe orders memory between processes, and
its end-of-file reports a dead worker whatever its exit code.

The images of a batch alias its slot. They hold the slot's lease through the buffer protocol: it
ends when the last array, view or tensor over them is gone, in any order, on any thread. At most
``slots - 1`` slots are leased at a time. Beyond that a batch is handed out as a copy and its slot
is free at once, so the worker never waits for a consumer that keeps its batches.

Labels, keys and weights are copied, each into an array of its own. They are small, and people keep
them for longer than images: whoever keeps one keeps only its own bytes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import mmap
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..fields.columns import Column
from ..fields.slots import IMAGE, Arrays
from ..system.descriptors import forget_in_children
from ..system.limits import limit_error
from ..system.machine import available_bytes

ALIGNMENT = 64
"""TensorFlow aliases an array only if its address is a multiple of this (EIGEN_MAX_ALIGN_BYTES)."""

MOST_OF_MEMORY = 0.8
"""What a ring may take of the memory that is available. Near the end of it the kernel does not
refuse, it kills somebody."""

FEWEST_SLOTS, MOST_SLOTS = 8, 32
RING_BYTES = 64 << 20
RINGS_OF_MEMORY = 0.25


def automatic_slots(slot_bytes: int, workers: int) -> int:
    """How many a worker's ring is to have: 8, or more of small ones, up to 32 or 64 MiB; less where
    all rings would take more than a quarter of the memory that is available; at least 2.

    A worker that is 8 batches ahead evens out what single pictures and fetches take. Small batches
    are ready in less time than it takes to wake the consumer, so of those it is more.
    """
    wanted = min(MOST_SLOTS, max(FEWEST_SLOTS, RING_BYTES // max(1, slot_bytes)))
    affordable = int(available_bytes() * RINGS_OF_MEMORY) // max(1, slot_bytes * workers)
    return max(2, min(wanted, affordable))


@dataclass(frozen=True)
class Layout:
    """Where the columns of a batch lie in a slot.

    batch_size: rows a slot has room for.
    columns: without those of text, which travel on the pipe.
    offsets: of the columns from the start of the slot, in bytes.
    slot_bytes: a whole number of pages.
    """

    batch_size: int
    columns: tuple[Column, ...]
    offsets: tuple[int, ...]
    slot_bytes: int

    @classmethod
    def of(cls, batch_size: int, columns: Sequence[Column]) -> Layout:
        fixed = tuple(column for column in columns if not column.is_text)
        offsets, end = [], 0
        for column in fixed:
            offsets.append(end)
            end += -(-batch_size * column.row_bytes // ALIGNMENT) * ALIGNMENT
        pages = -(-end // mmap.PAGESIZE)
        return cls(batch_size, fixed, tuple(offsets), pages * mmap.PAGESIZE)

    def arrays(self, buffer: Any, rows: int, offset: int = 0) -> Arrays:
        """The first ``rows`` rows of the slot that starts at ``offset`` of ``buffer``."""
        return {
            column.name: np.ndarray(
                (rows, *column.shape), column.numpy_dtype, buffer, offset + column_offset
            )
            for column, column_offset in zip(self.columns, self.offsets, strict=True)
        }


class Ring:
    """The slots of one worker, mapped into this process.

    memory: from :func:`create_memory`, of the right size already unless ``allocate``.
    """

    def __init__(self, memory: io.FileIO, layout: Layout, slots: int, *, allocate: bool) -> None:
        self.layout = layout
        self.slots = slots
        size = layout.slot_bytes * slots
        if allocate:
            _allocate(memory, size)
        self._mapped: mmap.mmap | None = mmap.mmap(memory.fileno(), size)
        self._exporter = ctypes.c_ubyte * layout.slot_bytes
        # What exports a leased slot's memory, which is gone once the lease has ended. Looking is
        # all that is needed: a callback would run in the middle of any code of ours.
        self._leases: dict[int, weakref.ref[Any]] = {}
        self.leases = 0  # handed out so far
        self.copies = 0
        forget_in_children(self, Ring.forget)

    @property
    def _map(self) -> mmap.mmap:
        assert self._mapped is not None, "the ring is closed"
        return self._mapped

    def slot(self, slot: int) -> Arrays:
        """Return the worker's view of a slot, all rows. It stays readable when the ring is closed,
        for those who print the variables of a traceback."""
        return self.layout.arrays(
            self._exported(), self.layout.batch_size, slot * self.layout.slot_bytes
        )

    def _exported(self) -> NDArray[np.uint8]:
        """The whole ring, which stays mapped for as long as there are views of this. Of a mapping
        itself numpy.ndarray() makes views that are left without their memory."""
        return np.frombuffer(self._map, np.uint8)

    @property
    def leased(self) -> set[int]:
        """The slots that are leased right now."""
        return {slot for slot, lease in self._leases.copy().items() if lease() is not None}

    def is_the_workers(self, slot: int) -> bool:
        """Return whether there is such a slot and it has not been handed out."""
        return 0 <= slot < self.slots and slot not in self._leases

    def take_back(self) -> list[int]:
        """Return the slots whose leases have ended since the last call. They are free now."""
        ended = [slot for slot, lease in self._leases.items() if lease() is None]
        for slot in ended:
            del self._leases[slot]
        return ended

    def hand_out(self, slot: int, rows: int) -> tuple[Arrays, bool]:
        """Return the arrays of a READY slot, and whether they are a lease; if not, the slot is free
        at once."""
        if len(self._leases) >= self.slots - 1:
            self.copies += 1
            whole = self.layout.arrays(self._exported(), rows, slot * self.layout.slot_bytes)
            return {name: _copied(array) for name, array in whole.items()}, False
        self.leases += 1
        # One exporting object for each lease: NumPy collapses chains of views onto the object at
        # their root, so this, and only this, lives exactly as long as the last of them.
        exporter = self._exporter.from_buffer(self._map, slot * self.layout.slot_bytes)
        self._leases[slot] = weakref.ref(exporter)
        arrays = self.layout.arrays(exporter, rows)
        for name, array in arrays.items():
            if not name.startswith(IMAGE):
                arrays[name] = array.copy()
        return arrays, True

    def close(self) -> None:
        """Give the memory back, but for slots that are leased: they go with their leases. May be
        called twice."""
        mapped = self._mapped
        if mapped is None:
            return
        leased, size = self.leased, self.layout.slot_bytes
        for slot in range(self.slots):
            if slot not in leased:
                # Lets go of the pages, whoever has the ring mapped: a lease, or a forked child.
                with contextlib.suppress(OSError, ValueError):  # closed below a signal handler
                    mapped.madvise(mmap.MADV_REMOVE, slot * size, size)
        self.forget()

    def forget(self) -> None:
        """Unmap the ring, or leave that to the last lease, and touch nothing in it."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            with contextlib.suppress(BufferError):
                mapped.close()

    @property
    def memory(self) -> tuple[int, int]:
        """Where this process has mapped the ring: address and bytes."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._map)), len(self._map)

    def contains(self, address: int) -> bool:
        """Return whether an address lies in this process's mapping of the ring."""
        start, size = self.memory
        return start <= address < start + size


def _copied(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that starts where a lease's array would, so that TensorFlow does not copy it again."""
    buffer = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    np.copyto(copy, array)
    return copy


def _allocate(memory: io.FileIO, size: int) -> None:
    available = available_bytes()
    try:
        if size > available * MOST_OF_MEMORY:
            raise MemoryError
        os.posix_fallocate(memory.fileno(), 0, size)
    except (OSError, MemoryError, OverflowError) as error:
        named = limit_error(error, f"allocate the {size / 2**20:.0f} MiB of a worker's ring")
        if isinstance(error, OSError) and error.errno == errno.EFBIG and named:
            raise named from None
        raise ConfigError(
            f"the ring of a worker needs {size / 2**20:.0f} MiB of memory, and "
            f"{available / 2**20:.0f} MiB are available: lower slots, batch_size, size or workers"
        ) from None

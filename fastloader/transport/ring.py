"""Slots in shared memory, and leases on them.

The contract
------------
A ring belongs to one worker and the training process. It is one nameless region of shared memory,
made by ``memfd_create``: nothing appears in ``/dev/shm``, so nothing can collide or be left behind.
All of it is allocated when it is made, so a lack of memory is an error then and not a SIGBUS later.
It holds slots of equal size. Each slot holds the columns of one batch, and each column starts at an
address that is a multiple of ``ALIGNMENT``.

A slot is FREE -> FILLING (worker) -> READY -> LEASED (training process) -> FREE. Only the worker
touches FREE and FILLING slots, only the training process READY and LEASED ones. There is no lock
in the shared memory, so a dying process cannot leave one held. A slot changes owner with a record
on a pipe, READY one way and FREE the other (``pipes.py``). A pipe orders memory between processes,
and its end-of-file reports a dead worker, whatever its exit code.

The images of a batch alias its slot. They hold the slot's lease through the buffer protocol. It
ends when the last array, view or tensor over them is gone, in any order, on any thread. At most
``slots - 1`` slots are leased at a time. Beyond that a batch is handed out as a copy and its slot
is free at once, so the worker never waits for a consumer that keeps its batches.

Labels, keys and weights are copied, each into an array of its own. They are often kept for longer
than inputs, and an array that is kept must not keep a slot. Small inputs are copied, too.

Behind the slots is a page in which a worker notes which row a function of the user's has. The
training process reads it when the worker dies or is silent, and believes none of it.

A ragged column is two arrays in a slot: the items of all rows, one row after the other, with room
for what batches are likely to need, and the offsets of the rows. Items that have no room come as
the tail of the READY record.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import math
import mmap
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..batches.schema import IMAGE, INPUT, OFFSETS, Arrays
from ..errors import ConfigError
from ..fields.columns import Column
from ..system.descriptors import forget_in_children
from ..system.limits import limit_error
from ..system.machine import available_bytes

ALIGNMENT = 64
"""TensorFlow aliases an array only if its address is a multiple of this (EIGEN_MAX_ALIGN_BYTES)."""

MOST_OF_MEMORY = 0.8
"""The share of the available memory that a ring may take. Close to all of it, the kernel does not
refuse an allocation but kills a process."""

COPIED_BYTES = 64 << 10
"""An input whose room in a slot is smaller is copied, if it is no image. That takes 4 us."""

NOTHING: Mapping[str, memoryview] = {}

FEWEST_SLOTS, MOST_SLOTS = 8, 32
RING_BYTES = 64 << 20
RINGS_OF_MEMORY = 0.25


def automatic_slots(slot_bytes: int, workers: int) -> int:
    """Return how many slots a worker's ring has if the user does not say.

    There are 8. Of small slots there are more, up to 32 slots or 64 MiB. There are fewer where all
    rings together would take more than a quarter of the available memory, but at least 2.

    A worker that is 8 batches ahead evens out slow images and fetches. A small batch is ready in
    less time than it takes to wake the consumer, so a worker needs more of them.
    """
    wanted = min(MOST_SLOTS, max(FEWEST_SLOTS, RING_BYTES // max(1, slot_bytes)))
    affordable = int(available_bytes() * RINGS_OF_MEMORY) // max(1, slot_bytes * workers)
    return max(2, min(wanted, affordable))


class Place(NamedTuple):
    """Where an array is in a slot.

    Attributes
    ----------
    offset
        Where it starts, in bytes from the start of the slot.
    dtype, shape
        What it is.
    """

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """Where the columns of a batch lie in a slot.

    Attributes
    ----------
    batch_size
        The number of rows a slot has room for.
    columns
        The columns in a slot.
    places
        Where each array is in a slot, by its name.
    slot_bytes
        The size of a slot, a whole number of pages.
    """

    batch_size: int
    columns: tuple[Column, ...]
    places: dict[str, Place]
    slot_bytes: int

    @classmethod
    def of(cls, batch_size: int, columns: Sequence[Column]) -> Layout:
        """Return the layout for batches with these columns."""
        places, end = {}, 0
        for column in columns:
            arrays = {column.name: (column.numpy_dtype, column.room(batch_size))}
            if column.is_ragged:
                arrays[column.name + OFFSETS] = (np.dtype(np.int64), (batch_size + 1,))
            for name, (dtype, shape) in arrays.items():
                places[name] = Place(end, dtype, shape)
                end += -(-places[name].nbytes // ALIGNMENT) * ALIGNMENT
        pages = -(-end // mmap.PAGESIZE)
        return cls(batch_size, tuple(columns), places, pages * mmap.PAGESIZE)

    def arrays(self, buffer: Any, offset: int = 0) -> Arrays:
        """Return views of the whole arrays of the slot at ``offset`` of ``buffer``."""
        return {
            name: np.ndarray(place.shape, place.dtype, buffer, offset + place.offset)
            for name, place in self.places.items()
        }

    def delivered(self, arrays: Arrays, rows: int, spilled: Mapping[str, memoryview]) -> Arrays:
        """Return the part of a slot's arrays that is the batch.

        Whatever a worker has written, no offset leads out of the items.

        Parameters
        ----------
        arrays
            All of them.
        rows
            The number of rows.
        spilled
            The items of ragged columns that had no room in the slot, by column.
        """
        found: Arrays = {}
        for column in self.columns:
            items = arrays[column.name]
            if not column.is_ragged:
                found[column.name] = items[:rows]
                continue
            if column.name in spilled:
                items = _items(spilled[column.name], column)
            offsets = arrays[column.name + OFFSETS][: rows + 1].copy()  # before they are checked
            offsets[0] = 0
            np.minimum(np.maximum.accumulate(offsets), len(items), out=offsets)
            found[column.name], found[column.name + OFFSETS] = items[: offsets[-1]], offsets
        return found


class Ring:
    """The slots of one worker, mapped into this process.

    Parameters
    ----------
    memory
        Made by :func:`fastloader.transport.memory.create_memory`.
    layout, slots
        What a slot looks like, and how many there are.
    allocate
        Give the memory its size. Otherwise it has it already.

    Attributes
    ----------
    leases, copies
        How many batches were handed out as leases, and as copies.
    """

    def __init__(self, memory: io.FileIO, layout: Layout, slots: int, *, allocate: bool) -> None:
        self.layout = layout
        self.slots = slots
        size = layout.slot_bytes * slots + mmap.PAGESIZE
        if allocate:
            _allocate(memory, size)
        self._mapped: mmap.mmap | None = mmap.mmap(memory.fileno(), size)
        self._exporter = ctypes.c_ubyte * layout.slot_bytes
        # What exports a leased slot's memory; it is gone once the lease has ended. We look, and
        # have no callback, which would run in the middle of any other code of ours.
        self._leases: dict[int, weakref.ref[Any]] = {}
        self.leases = 0
        self.copies = 0
        forget_in_children(self, Ring.forget)

    @property
    def _map(self) -> mmap.mmap:
        assert self._mapped is not None, "the ring is closed"
        return self._mapped

    def slot(self, slot: int) -> Arrays:
        """Return the worker's view of a slot, with all rows.

        It stays readable when the ring is closed, for tools that print the variables of a
        traceback.
        """
        return self.layout.arrays(self._exported(), slot * self.layout.slot_bytes)

    def _exported(self) -> NDArray[np.uint8]:
        """Return the whole ring as an array, which stays mapped for as long as it has views.

        Views that numpy.ndarray() makes of the mapping itself do not keep it mapped.
        """
        return np.frombuffer(self._map, np.uint8)

    @property
    def note(self) -> NDArray[np.int64]:
        """Where the worker notes what a transform is doing, int64 (2,)."""
        return self._exported()[-mmap.PAGESIZE :][:16].view(np.int64)

    @property
    def leased(self) -> set[int]:
        """The slots that are leased at this moment."""
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

    def hand_out(
        self, slot: int, rows: int, spilled: Mapping[str, memoryview] = NOTHING
    ) -> tuple[Arrays, bool]:
        """Hand out the batch in a READY slot. See :meth:`Layout.delivered` for the parameters.

        Returns
        -------
        arrays
            The columns of the batch.
        leased
            Whether they are a lease. If not, they are a copy, and the slot is free at once.
        """
        if len(self._leases) >= self.slots - 1:
            self.copies += 1
            return self.copied(slot, rows, spilled), False
        self.leases += 1
        # Each lease has an exporting object of its own. NumPy collapses chains of views onto the
        # object at their root, so it lives exactly as long as the last of them.
        exporter = self._exporter.from_buffer(self._map, slot * self.layout.slot_bytes)
        self._leases[slot] = weakref.ref(exporter)
        arrays = self.layout.delivered(self.layout.arrays(exporter), rows, spilled)
        for name, array in arrays.items():
            is_large = self.layout.places[name].nbytes >= COPIED_BYTES
            if not (name.startswith(IMAGE) or (is_large and name.startswith(INPUT))):
                arrays[name] = array.copy()
        return arrays, True

    def copied(self, slot: int, rows: int, spilled: Mapping[str, memoryview] = NOTHING) -> Arrays:
        """Return a copy of the batch in a READY slot, which stays as it is."""
        whole = self.layout.delivered(self.slot(slot), rows, spilled)
        return {name: _copied(array) for name, array in whole.items()}

    def close(self) -> None:
        """Release the memory. Leased slots follow with their leases. May be called twice."""
        mapped = self._mapped
        if mapped is None:
            return
        leased, size = self.leased, self.layout.slot_bytes
        for slot in range(self.slots):
            if slot not in leased:
                # Frees the pages even if a lease or a forked child has the ring mapped.
                with contextlib.suppress(OSError, ValueError):  # closed beneath a signal handler
                    mapped.madvise(mmap.MADV_REMOVE, slot * size, size)
        with contextlib.suppress(OSError, ValueError):
            mapped.madvise(mmap.MADV_REMOVE, self.slots * size, mmap.PAGESIZE)  # the note
        self.forget()

    def forget(self) -> None:
        """Unmap the ring, or leave that to the last lease, without touching what is in it."""
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            with contextlib.suppress(BufferError):
                mapped.close()

    @property
    def memory(self) -> tuple[int, int]:
        """Address and size in bytes of the ring in this process."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._map)), len(self._map)

    def contains(self, address: int) -> bool:
        """Return whether an address lies in this process's mapping of the ring."""
        start, size = self.memory
        return start <= address < start + size


def _items(data: memoryview, column: Column) -> NDArray[Any]:
    """Return the items of a ragged column that came on the pipe."""
    row_bytes = max(1, column.row_bytes)
    whole = _copied(np.frombuffer(data, np.uint8)[: len(data) // row_bytes * row_bytes])
    return whole.view(column.numpy_dtype).reshape(-1, *column.fixed_shape)


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a new array that is aligned as a lease is, so that TensorFlow does not copy it."""
    nbytes = dtype.itemsize * math.prod(shape)
    buffer = np.empty(nbytes + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + nbytes].view(dtype).reshape(shape)


def _copied(array: NDArray[Any]) -> NDArray[Any]:
    copy = aligned(array.shape, array.dtype)
    np.copyto(copy, array)
    return copy


def _allocate(memory: io.FileIO, size: int) -> None:
    """Give the memory its size. Raises ConfigError if there is not enough."""
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

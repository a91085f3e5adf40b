"""The rings of a loader as pinned memory, which CUDA copies from asynchronously.

A copy with ``non_blocking=True`` continues after its tensor is gone, and torch knows how to wait
for it only if torch itself has allocated the pinned memory. So the leases are held here until the
stream has made the copies.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..consumer.batch_source import BatchSource
from ..errors import ConfigError
from ..transport.ring import Ring

PORTABLE = 1
"""cudaHostRegisterPortable: the memory is pinned for all GPUs of this process."""

Views = list[weakref.ref[Any]]
"""References to the arrays that the tensors of a batch hold; dead once the tensors are."""


@dataclass
class _Kept:
    """A batch whose slot is kept from the worker.

    Attributes
    ----------
    batch
        Its arrays, and thereby its lease.
    views
        The arrays that its tensors hold.
    copied
        A CUDA event that the stream reaches when it has made the copies; None while the batch
        still has tensors.
    """

    batch: Any
    views: Views
    copied: Any = None

    def record(self) -> None:
        """Note how far the stream has to get."""
        self.copied = torch.cuda.Event()
        self.copied.record()


class Pinned:
    """The pinned rings of a loader, and the batches that CUDA may still be copying from.

    Parameters
    ----------
    rings
        The rings of the loader. There must be no reference to the loader itself.

    Raises
    ------
    ConfigError
        CUDA cannot pin the memory.
    """

    def __init__(self, rings: Sequence[Ring]) -> None:
        self._kept: list[_Kept] = []
        with contextlib.ExitStack() as undo:
            for ring in rings:
                address, size = ring.memory
                _register(address, size)
                undo.callback(torch.cuda.cudart().cudaHostUnregister, address)
            self._undo = undo.pop_all()

    def keep(self, batch: Any, views: Views) -> None:
        """Hold the lease of a batch until the copies of its tensors are made."""
        self._kept.append(_Kept(batch, views))

    def settled_before_each(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield the batches. Before each, end the leases whose copies are made."""
        self.settle()
        for batch in batches:
            yield batch
            self.settle()

    def settle(self) -> None:
        """End the leases whose tensors are gone and whose copies are made."""
        for kept in self._kept:
            if kept.copied is None and all(view() is None for view in kept.views):
                kept.record()
        self._kept = [k for k in self._kept if k.copied is None or not k.copied.query()]

    def close(self) -> None:
        """Wait for the copies that were begun, and unpin the rings. May be called twice."""
        for kept in self._kept:
            if kept.copied is None:
                kept.record()
            kept.copied.synchronize()
        self._kept.clear()
        self._undo.close()


_all_pinned: weakref.WeakKeyDictionary[BatchSource, Pinned] = weakref.WeakKeyDictionary()


def pinned_rings(loader: BatchSource) -> Pinned:
    """Return the pinned rings of a loader. They are pinned by the first call.

    Raises
    ------
    ConfigError
        CUDA is not available, or cannot pin the memory.
    """
    loader.delivery.check_usable()
    if loader.config.follow is not None or not loader.delivery.crew.rings:
        raise ConfigError(
            "pin_memory=True pins the rings of a loader for good, and this one has others in each "
            'epoch (follow="epoch"), or puts its batches together elsewhere (a mixture with '
            'within="batch"): leave it out'
        )
    if loader not in _all_pinned:
        if not torch.cuda.is_available():
            raise ConfigError(
                "pin_memory=True is for copies to a GPU, and torch sees none (CUDA is not "
                "available): leave it out"
            )
        pinned = Pinned(loader.delivery.crew.rings)
        loader.delivery.crew.before_close(pinned.close)
        _all_pinned[loader] = pinned
    return _all_pinned[loader]


def _register(address: int, size: int) -> None:
    cudart = torch.cuda.cudart()
    result = cudart.cudaHostRegister(address, size, PORTABLE)
    if int(result) != 0:
        raise ConfigError(
            f"CUDA cannot pin the {size / 2**20:.0f} MiB of a worker's ring "
            f"({cudart.cudaGetErrorString(result)}): lower slots, batch_size or size, or leave "
            f"pin_memory out"
        )

"""Batches as a torch.utils.data.IterableDataset, without a copy.

This module imports PyTorch, because its class is one of PyTorch's; nothing of ours imports it
before it is used.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, CopyError
from ..fields.batch import arranged
from ..fields.columns import Column

try:
    import torch
    import torch.utils.data
except ImportError as error:
    raise ConfigError(
        f"this needs PyTorch ({error}). Run: pip install 'fastloader[torch]'"
    ) from error

if TYPE_CHECKING:
    from ..loader import FastLoader
    from ..transport.ring import Ring

BATCHED = (
    "a FastLoader delivers whole batches, and this DataLoader would stack several of them: use "
    "DataLoader(dataset, batch_size=None, num_workers=0), and give batch_size to the FastLoader. "
    "For a trainer that makes its own DataLoader, such as Hugging Face's, override "
    "get_train_dataloader()"
)

DISPATCHED = (
    "a DataLoader from Accelerate's prepare() takes all batches from process 0, so with shard={} "
    "the rows of the other shards would never be seen: do not prepare() the DataLoader, iterate it "
    "as it is"
)

HOW = (
    "the loader has worker processes of its own, and its rows are batched already: use "
    "DataLoader(dataset, batch_size=None, num_workers=0)"
)

Views = list[weakref.ref[Any]]
"""Of the arrays that the tensors of a batch hold; dead once the tensors are."""


def as_torch(loader: FastLoader, *, pin_memory: bool = False) -> torch.utils.data.IterableDataset:
    """The loader's batches as tensors over its ring, for ``DataLoader(dataset, batch_size=None,
    num_workers=0)`` or to be iterated as it is. Each iteration is the loader's next epoch.

    A batch has the loader's structure (of which DataLoader makes lists where there are tuples).
    Images are (n, channels, height, width); with ``layout="NHWC"`` they are in the memory format
    ``torch.channels_last``. Text comes as lists of ``str``. A DataLoader that would batch the
    batches again is refused.

    ``state_dict()`` and ``load_state_dict()`` are the loader's, which is what torchdata's
    StatefulDataLoader looks for. Accelerate's prepared DataLoader takes batches ahead: there, pass
    ``state_dict(consumed=...)``, the number of batches that training has taken. One that is
    prepared for several processes reads the loader of process 0 alone, and is refused for a shard.

    pin_memory: have CUDA copy straight from the ring with ``.to("cuda", non_blocking=True)``. Make
        the copies on the stream that is the current one when the next batch is asked for: a slot is
        free again when its tensors are gone and what that stream was given until then is done. The
        memory is pinned until the loader is closed. Batches that the loader had to copy, because
        too many are kept, are not pinned.

    Raises ConfigError where the memory cannot be pinned.
    """
    return _Batches(loader, _pinned(loader) if pin_memory else None)


class _Batches(torch.utils.data.IterableDataset):  # type: ignore[misc]  # mypy does not follow it
    def __init__(self, loader: FastLoader, pinned: _Pinned | None) -> None:
        super().__init__()
        self._loader = loader
        self._pinned = pinned
        self._is_asked_in_time = False  # for states, by who takes batches ahead
        config = loader.config
        self._converters = arranged(
            config,
            {image: _of_images(config.image_options(image)["layout"]) for image in config.images},
            {column.name: _of_column(column) for column in loader.columns},
            _of_column(loader.key_column) if config.with_keys else None,
        )

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        if torch.utils.data.get_worker_info() is not None:
            raise ConfigError(f"a DataLoader's worker cannot iterate a FastLoader: {HOW}")
        return self._epoch(ahead=self._check_callers())

    def _check_callers(self) -> bool:
        """Return whether a caller takes batches before training wants them.

        Raises ConfigError if a caller would stack batches, or lose those of other shards. None of
        them tells the dataset anything, so this looks who is on the stack.
        """
        self._is_asked_in_time = is_ahead = False
        for owner in _callers("torch.utils.data._utils.fetch"):
            dataset = owner.dataset
            if type(dataset).__name__ == "IterableDatasetShard":  # Accelerate's
                dataset = dataset.dataset
            if owner.auto_collation and dataset is self:
                raise ConfigError(BATCHED)
        for owner in _callers("accelerate.data_loader"):
            accelerate = sys.modules["accelerate.data_loader"]
            if isinstance(owner, accelerate.DataLoaderAdapter):
                shard = self._loader.config.shard
                alone = accelerate.PartialState().num_processes == 1
                dispatches = isinstance(owner, accelerate.DataLoaderDispatcher) and not alone
                if dispatches and shard[1] > 1:
                    raise ConfigError(DISPATCHED.format(shard))
                is_ahead = True
                # In one process, its own state_dict() holds ours from just before it looked ahead.
                self._is_asked_in_time = alone and hasattr(owner.base_dataloader, "state_dict")
        return is_ahead

    def _epoch(self, *, ahead: bool) -> Iterator[Any]:
        # The epoch begins with the first pull, not before: StatefulDataLoader makes an iterator
        # and throws it away where it goes on after the end of an epoch (torchdata 0.11).
        batches: Iterable[Any] = self._loader() if ahead else self._loader
        if self._pinned is not None:
            batches = self._pinned.settled_before_each(batches)
        yield from map(self._tensors, batches)

    def _tensors(self, batch: Any) -> Any:
        views: Views = []
        tensors = _converted(self._converters, batch, views)
        if self._pinned is not None:
            self._pinned.keep(batch, views)
        return tensors

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """See :meth:`fastloader.FastLoader.state_dict`."""
        if consumed is None and self._is_asked_in_time:
            consumed = self._loader._progress.handed
        return self._loader.state_dict(consumed=consumed)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`fastloader.FastLoader.load_state_dict`."""
        self._loader.load_state_dict(state)

    def __reduce__(self) -> NoReturn:
        raise CopyError(f"a FastLoader cannot be copied or sent to another process: {HOW}")

    def __repr__(self) -> str:
        return f"as_torch({self._loader!r})"


def _callers(module: str) -> list[Any]:
    """Return the ``self`` of the methods of a module that are being called."""
    found = []
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        # Of no other frame, since one whose locals were read keeps them, batches too (Python 3.12).
        if frame.f_globals.get("__name__") == module and "self" in frame.f_code.co_varnames:
            found.append(frame.f_locals["self"])
    return found


# ---- tensors -------------------------------------------------------------------------------------

Converter = Callable[[NDArray[Any], Views], Any]


def _of_images(layout: str) -> Converter:
    return _channels_first if layout == "NHWC" else _tensor


def _of_column(column: Column) -> Converter:
    return _texts if column.is_text else _tensor


def _texts(array: NDArray[Any], views: Views) -> Any:  # noqa: ARG001
    return array.tolist()


def _tensor(array: NDArray[Any], views: Views) -> Any:
    # A view of its own, since the loader holds the array itself until it is asked for the next.
    is_bfloat16 = array.dtype.name == "bfloat16"  # which from_numpy does not know
    view = array.view(np.int16) if is_bfloat16 else array.view()
    views.append(weakref.ref(view))
    tensor = torch.from_numpy(view)
    return tensor.view(torch.bfloat16) if is_bfloat16 else tensor


def _channels_first(array: NDArray[Any], views: Views) -> Any:
    return _tensor(array, views).permute(0, 3, 1, 2)


def _converted(converters: Any, batch: Any, views: Views) -> Any:
    """The batch, each array converted by what stands in its place."""
    if isinstance(converters, tuple):
        pairs = zip(converters, batch, strict=True)
        return tuple(_converted(converter, part, views) for converter, part in pairs)
    if isinstance(converters, dict):
        return {name: _converted(its, batch[name], views) for name, its in converters.items()}
    return converters(batch, views)


# ---- pinned memory -------------------------------------------------------------------------------


@dataclass
class _Kept:
    """A batch whose slot is kept from the worker.

    batch: its arrays, and thereby its lease. views: what its tensors hold.
    copied: reached by the stream when it has made the copies; None while there are tensors.
    """

    batch: Any
    views: Views
    copied: Any = None

    def record(self) -> None:
        self.copied = torch.cuda.Event()
        self.copied.record()


class _Pinned:
    """The rings of a loader as memory that CUDA copies from, and the batches that it may still be
    copying from.

    A copy with ``non_blocking=True`` goes on after its tensor is gone, and torch knows how to wait
    for it only with pinned memory that torch has allocated. So the leases are held here until the
    stream has got that far.

    rings: of the loader, which must not be referred to.
    """

    def __init__(self, rings: list[Ring]) -> None:
        self._kept: list[_Kept] = []
        with contextlib.ExitStack() as undo:
            for ring in rings:
                address, size = ring.memory
                _register(address, size)
                undo.callback(torch.cuda.cudart().cudaHostUnregister, address)
            self._undo = undo.pop_all()

    def keep(self, batch: Any, views: Views) -> None:
        self._kept.append(_Kept(batch, views))

    def settled_before_each(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches; when each is asked for, the leases end that may."""
        self.settle()
        for batch in batches:
            yield batch
            self.settle()

    def settle(self) -> None:
        for kept in self._kept:
            if kept.copied is None and all(view() is None for view in kept.views):
                kept.record()
        self._kept = [k for k in self._kept if k.copied is None or not k.copied.query()]

    def close(self) -> None:
        """Waits for the copies that were begun. May be called twice."""
        for kept in self._kept:
            if kept.copied is None:
                kept.record()
            kept.copied.synchronize()
        self._kept.clear()
        self._undo.close()


_all_pinned: weakref.WeakKeyDictionary[FastLoader, _Pinned] = weakref.WeakKeyDictionary()


def _pinned(loader: FastLoader) -> _Pinned:
    """The loader's, made when it is first asked for."""
    loader._delivery.check_usable()
    if loader not in _all_pinned:
        if not torch.cuda.is_available():
            raise ConfigError(
                "pin_memory=True is for copies to a GPU, and torch sees none (CUDA is not "
                "available): leave it out"
            )
        pinned = _Pinned([feeder.ring for feeder in loader._feeders])
        loader._crew.before_close(pinned.close)
        _all_pinned[loader] = pinned
    return _all_pinned[loader]


def _register(address: int, size: int) -> None:
    cudart = torch.cuda.cudart()
    portable = 1  # cudaHostRegisterPortable: for all GPUs of this process
    result = cudart.cudaHostRegister(address, size, portable)
    if int(result) != 0:
        raise ConfigError(
            f"CUDA cannot pin the {size / 2**20:.0f} MiB of a worker's ring "
            f"({cudart.cudaGetErrorString(result)}): lower slots, batch_size or size, or leave "
            f"pin_memory out"
        )

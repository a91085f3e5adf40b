"""Batches as a torch.utils.data.IterableDataset, without a copy.

This module imports PyTorch, because its class is one of PyTorch's. No other module of the package
imports it before it is used.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..batches.ragged import Ragged
from ..batches.schema import Entry
from ..consumer.batch_source import BatchSource
from ..errors import ConfigError, CopyError
from ..fields.image import Image

try:
    import torch
    import torch.utils.data
except ImportError as error:
    raise ConfigError(
        f"this needs PyTorch ({error}). Run: pip install 'fastloader[torch]'"
    ) from error

from .torch_pinned import Pinned, Views, pinned_rings

BATCHED = (
    "a FastLoader delivers whole batches, and this DataLoader would stack several of them: use "
    "DataLoader(dataset, batch_size=None, num_workers=0), and give batch_size to the FastLoader. "
    "For a trainer that makes its own DataLoader, such as Hugging Face's, override "
    "get_train_dataloader()"
)

DISPATCHED = (
    "a DataLoader from Accelerate's prepare() takes all batches from process 0, so with shard={} "
    "the rows of the other shards would never be seen: do not prepare() the DataLoader, iterate it "
    "directly"
)

HOW = (
    "the loader has worker processes of its own, and its rows are already batched: use "
    "DataLoader(dataset, batch_size=None, num_workers=0)"
)


def as_torch(loader: BatchSource, *, pin_memory: bool = False) -> torch.utils.data.IterableDataset:
    """Return the batches as a dataset of tensors that alias the loader's ring.

    Use it with ``DataLoader(dataset, batch_size=None, num_workers=0)``, or iterate it directly.
    Each iteration is the loader's next epoch.

    A batch has the loader's structure; DataLoader turns tuples into lists. Images are
    (n, channels, height, width); with ``layout="NHWC"`` they have the memory format
    ``torch.channels_last``. Text comes as lists of ``str``, JSON as lists of objects, bytes as
    lists of uint8 tensors, and ragged arrays as nested tensors of layout ``torch.jagged``. A
    DataLoader that would batch the
    batches again is refused.

    ``state_dict()`` and ``load_state_dict()`` are the loader's, which is what torchdata's
    StatefulDataLoader looks for. A DataLoader that Accelerate has prepared takes batches ahead:
    there, pass ``state_dict(consumed=...)``, the number of batches that training has taken. One
    that is prepared for several processes reads only the loader of process 0, and is refused for a
    shard.

    Parameters
    ----------
    loader
        The loader whose batches they are.
    pin_memory
        Have CUDA copy straight from the ring with ``.to("cuda", non_blocking=True)``. Make the
        copies on the stream that is current when you ask for the next batch: a slot is free again
        once its tensors are gone and the work that the stream had by then is done. The memory is
        pinned until the loader is closed. Batches that the loader had to copy, because you keep
        too many, are not pinned.

    Raises
    ------
    ConfigError
        The memory cannot be pinned. When iterating: in a worker of a DataLoader, or in a
        DataLoader that would stack batches or lose those of other shards.
    """
    return _Batches(loader, pinned_rings(loader) if pin_memory else None)


def as_they_lie(loader: BatchSource) -> Callable[[Any], Any]:
    """Return what makes a batch tensors that alias the ring, with images as they lie there.

    ``as_torch()`` has the channels of images in front of their height instead.
    """
    converters = loader.delivery.crew.schema.arranged(lambda _: _tensor)
    return lambda batch: _converted(converters, batch, [])


class _Batches(torch.utils.data.IterableDataset):  # type: ignore[misc]  # mypy does not follow it
    """The dataset that :func:`as_torch` returns."""

    def __init__(self, loader: BatchSource, pinned: Pinned | None) -> None:
        super().__init__()
        self._loader = loader
        self._pinned = pinned
        # Whether the caller that takes batches ahead asks for a state before it does so.
        self._is_asked_in_time = False
        self._converters = loader.delivery.crew.schema.arranged(_converter)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        if torch.utils.data.get_worker_info() is not None:
            raise ConfigError(f"a DataLoader's worker cannot iterate a FastLoader: {HOW}")
        return self._epoch(ahead=self._check_callers())

    def _check_callers(self) -> bool:
        """Return whether a caller takes batches before training wants them.

        The callers tell the dataset nothing about themselves, so this looks for them on the stack.

        Raises
        ------
        ConfigError
            A caller would stack batches, or lose those of other shards.
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
                # In one process, its state_dict() has called ours just before it looked ahead.
                self._is_asked_in_time = alone and hasattr(owner.base_dataloader, "state_dict")
        return is_ahead

    def _epoch(self, *, ahead: bool) -> Iterator[Any]:
        # The epoch begins with the first pull, not before. StatefulDataLoader makes an iterator and
        # throws it away when it resumes after the end of an epoch (torchdata 0.11).
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
            consumed = self._loader.delivery.progress.handed
        return self._loader.state_dict(consumed=consumed)

    def load_state_dict(self, state: Mapping[str, Any], *, elastic: bool = False) -> None:
        """See :meth:`fastloader.FastLoader.load_state_dict`."""
        self._loader.load_state_dict(state, elastic=elastic)

    def __reduce__(self) -> NoReturn:
        raise CopyError(f"a FastLoader cannot be copied or sent to another process: {HOW}")

    def __repr__(self) -> str:
        return f"as_torch({self._loader!r})"


def _callers(module: str) -> list[Any]:
    """Return the ``self`` of each method of a module that is on the call stack."""
    found = []
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        # Other frames are left alone: one whose locals were read keeps them alive, and with them
        # perhaps a batch (Python 3.12).
        if frame.f_globals.get("__name__") == module and "self" in frame.f_code.co_varnames:
            found.append(frame.f_locals["self"])
    return found


# ---- tensors -------------------------------------------------------------------------------------

Converter = Callable[[Any, Views], Any]


def _converter(entry: Entry) -> Converter:
    if isinstance(entry.field, Image) and entry.field.layout == "NHWC":
        return _channels_first
    if entry.column.dtype == "bytes":
        return _tensors_of_bytes
    if entry.column.shape[:1] == (None,):
        return _nested
    return _objects if entry.column.is_ragged else _tensor


def _objects(array: NDArray[Any], views: Views) -> Any:  # noqa: ARG001
    return array.tolist()


def _tensors_of_bytes(rows: Ragged, views: Views) -> Any:
    values = _tensor(rows.values, views)
    return list(torch.split(values, rows.lengths.tolist()))


def _nested(rows: Ragged, views: Views) -> Any:
    lengths = rows.lengths
    return torch.nested.nested_tensor_from_jagged(
        _tensor(rows.values, views),
        _tensor(rows.offsets, views),
        min_seqlen=int(lengths.min(initial=0)),
        max_seqlen=int(lengths.max(initial=0)),
    )


def _tensor(array: NDArray[Any], views: Views) -> Any:
    # A new view, since the loader holds the array itself until it is asked for the next batch.
    is_bfloat16 = array.dtype.name == "bfloat16"  # torch.from_numpy() does not know it
    view = array.view(np.int16) if is_bfloat16 else array.view()
    views.append(weakref.ref(view))
    tensor = torch.from_numpy(view)
    return tensor.view(torch.bfloat16) if is_bfloat16 else tensor


def _channels_first(array: NDArray[Any], views: Views) -> Any:
    return _tensor(array, views).permute(0, 3, 1, 2)


def _converted(converters: Any, batch: Any, views: Views) -> Any:
    """Return the batch, each array converted by the converter in its place."""
    if isinstance(converters, tuple):
        pairs = zip(converters, batch, strict=True)
        return tuple(_converted(converter, part, views) for converter, part in pairs)
    if isinstance(converters, dict):
        return {name: _converted(its, batch[name], views) for name, its in converters.items()}
    return converters(batch, views)

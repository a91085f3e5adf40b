"""Batches for ``model.fit`` of Keras 3, whichever backend it has.

This module imports Keras, because its classes are Keras's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

try:
    import keras
except ImportError as error:
    raise ImportError(
        f"as_keras() needs Keras 3 ({error}). Run: pip install keras, and one of its backends"
    ) from error
try:  # what fit() takes as it is; Keras exports no name for it
    from keras.src.trainers.data_adapters.data_adapter import DataAdapter
except ImportError as error:
    raise ImportError(
        f"as_keras() does not know Keras {keras.__version__} ({error}). Use as_dataset(), "
        f"as_torch() or as_jax() in a loop of your own, and please report this version"
    ) from error

from ..batches.schema import has_known_length
from ..consumer.batch_source import BatchSource
from ..errors import ConfigError

Put = Callable[[Any], Any]
"""Makes a batch of NumPy arrays one of the backend's."""


def as_keras(loader: BatchSource) -> Batches:
    """Return the batches for ``fit``, ``evaluate`` and ``predict`` of a Keras 3 model.

    It works with each backend of Keras: TensorFlow, PyTorch and JAX. The last two need no
    TensorFlow. Batches have the structure of the loader, and images are (n, height, width,
    channels) unless ``layout="NCHW"``. Each epoch of Keras is the loader's next one, and the
    loader shuffles, not ``fit``. With TensorFlow it is the same as ``as_dataset()``.

    Keras may take a batch before it trains on it. So pass ``state_dict(consumed=...)``, or use the
    callback :class:`fastloader.adapters.keras.Resume`.

    Parameters
    ----------
    loader
        The loader whose batches they are.

    Raises
    ------
    ConfigError
        A batch holds text, or arrays of different sizes, which a model cannot take.
    """
    return Batches(loader)


class Batches(DataAdapter):  # type: ignore[misc]  # Keras has no types
    """What :func:`as_keras` returns: a data adapter of Keras."""

    def __init__(self, loader: BatchSource) -> None:
        self._loader = loader
        for entry in loader.delivery.crew.schema.entries:
            if entry.column.is_ragged and keras.backend.backend() != "tensorflow":
                raise ConfigError(
                    f"{entry.name!r} has values of different sizes, which a model of Keras cannot "
                    f"take: leave it out, or make it an array of one shape with transform="
                )

    # ---- for Keras -------------------------------------------------------------------------------

    def get_numpy_iterator(self) -> Iterator[Any]:
        """Return an iterator over the batches as NumPy arrays."""
        return self._epoch(lambda batch: batch)

    def get_jax_iterator(self) -> Iterator[Any]:
        """Return an iterator over the batches as JAX arrays."""
        from .jax import as_jax

        return self._epoch(as_jax(self._loader).arrays_of)

    def get_torch_dataloader(self) -> Iterator[Any]:
        """Return an iterator over the batches as PyTorch tensors, in the layout of the loader."""
        from .torch import as_they_lie

        return self._epoch(as_they_lie(self._loader))

    def get_tf_dataset(self) -> Any:
        """Return the batches as a ``tf.data.Dataset``."""
        from .tensorflow import as_dataset

        return as_dataset(self._loader, None)

    def _epoch(self, put: Put) -> Iterator[Any]:
        """Yield the batches of the loader's next epoch."""
        if _is_only_looking():
            yield put(self._loader.peek())
            return
        # Keras may take a batch before it trains on it.
        yield from map(put, self._loader())

    @property
    def num_batches(self) -> int | None:
        """The number of batches in an epoch; None if it is not known."""
        return len(self._loader) if has_known_length(self._loader.config) else None

    @property
    def batch_size(self) -> int:
        """The number of rows in a batch."""
        return self._loader.config.batch_size

    @property
    def has_partial_batch(self) -> bool | None:
        """None, because it is not known to the loader alone."""
        return None

    @property
    def partial_batch_size(self) -> int | None:
        """None, as :attr:`has_partial_batch`."""
        return None

    # ---- for users -------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return self.get_numpy_iterator()

    def __repr__(self) -> str:
        return f"as_keras({self._loader!r})"


def _is_only_looking() -> bool:
    """Return whether Keras looks at a first batch, to build a model or its metrics.

    It throws the iterator away then, before callbacks can load a state, and trains with another
    one. It tells the adapter nothing about that, so this looks for the method on the stack.
    """
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name == "_symbolic_build":
            return True
    return False

"""The methods of a loader that hand its batches to a framework.

Each imports its adapter when it is called, and the adapter imports the framework. So this module
stands above ``adapters``, and no framework is needed to import it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .consumer.batch_source import BatchSource

if TYPE_CHECKING:
    import jax
    import tensorflow as tf
    import torch


class Frameworks:
    """Base class of :class:`fastloader.FastLoader`: TensorFlow, PyTorch and JAX."""

    # ---- TensorFlow ----------------------------------------------------------------------------

    @property
    def output_signature(self: BatchSource) -> Any:
        """The structure of a batch as TensorSpecs.

        It is for ``tf.data.Dataset.from_generator(loader, output_signature=...)``.
        """
        from .adapters import tensorflow

        return tensorflow.output_signature(self)

    @property
    def output_types(self: BatchSource) -> Any:
        """The types of a batch, for the older form of ``from_generator``."""
        from .adapters import tensorflow

        return tensorflow.output_types(self)

    @property
    def output_shapes(self: BatchSource) -> Any:
        """The shapes of a batch, for the older form of ``from_generator``."""
        from .adapters import tensorflow

        return tensorflow.output_shapes(self)

    def as_dataset(self: BatchSource, device: str | None = None) -> tf.data.Dataset:
        """Return the batches as a ``tf.data.Dataset``; each iteration of it is the next epoch.

        See :func:`fastloader.adapters.tensorflow.as_dataset`.

        Parameters
        ----------
        device
            Where batches are copied before they are wanted, for example "/GPU:0".

        Examples
        --------
        >>> dataset = loader.as_dataset()
        >>> dataset.element_spec[0].shape
        TensorShape([None, 224, 224, 3])
        >>> len(dataset)
        2
        >>> history = model.fit(dataset, epochs=2, verbose=0)
        """
        from .adapters import tensorflow

        return tensorflow.as_dataset(self, device)

    # ---- Keras, PyTorch and JAX ------------------------------------------------------------------

    def as_keras(self: BatchSource) -> Any:
        """Return the batches for ``fit``, ``evaluate`` and ``predict`` of a Keras 3 model.

        It works with the backends TensorFlow, PyTorch and JAX, of which the last two need no
        TensorFlow. See :func:`fastloader.adapters.keras_batches.as_keras`.

        Examples
        --------
        >>> history = model.fit(loader.as_keras(), epochs=2, verbose=0)
        """
        from .adapters import keras_batches

        return keras_batches.as_keras(self)

    def as_torch(
        self: BatchSource, *, pin_memory: bool = False
    ) -> torch.utils.data.IterableDataset[Any]:
        """Return the batches as a PyTorch dataset of tensors that alias the ring.

        Use it with ``DataLoader(dataset, batch_size=None, num_workers=0)``.
        See :func:`fastloader.adapters.torch.as_torch`.

        Parameters
        ----------
        pin_memory
            Pin the ring, so that CUDA copies from it asynchronously.

        Examples
        --------
        >>> from torch.utils.data import DataLoader
        >>> for images, labels in DataLoader(loader.as_torch(), batch_size=None):
        ...     print(tuple(images.shape), labels.dtype)
        (64, 3, 224, 224) torch.int64
        (6, 3, 224, 224) torch.int64
        """
        from .adapters import torch

        return torch.as_torch(self, pin_memory=pin_memory)

    def as_jax(
        self: BatchSource, *, sharding: jax.sharding.Sharding | None = None
    ) -> Iterable[Any]:
        """Return the batches as JAX arrays. See :func:`fastloader.adapters.jax.as_jax`.

        Parameters
        ----------
        sharding
            How a batch lies on the devices; None for all of it on the default device.

        Examples
        --------
        >>> for images, labels in loader.as_jax():
        ...     print(images.shape, images.dtype, labels.dtype)
        (64, 224, 224, 3) uint8 int32
        (6, 224, 224, 3) uint8 int32
        """
        from .adapters import jax

        return jax.as_jax(self, sharding=sharding)

"""Batches as a tf.data.Dataset, without a copy.

TensorFlow aliases an array that a generator yields if every output has a TensorSpec, the dtype is
the declared one, the array is C-contiguous and its address is a multiple of 64. Batches are made
so; a test looks at the addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..columns import Column
from ..errors import ConfigError

if TYPE_CHECKING:
    import tensorflow as tf

    from ..loader import FastLoader


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise ConfigError(
            f"this needs TensorFlow ({error}). Run: pip install 'fastloader[tensorflow]'"
        ) from error
    return tensorflow


def output_signature(loader: FastLoader) -> Any:
    """The structure of a batch as TensorSpecs."""
    tf = _tensorflow()
    config = loader.config
    # Only then has every batch the same number of rows.
    rows = config.batch_size if config.drop_remainder and config.on_error != "skip" else None

    def spec(column: Column, name: str | None = None) -> Any:
        dtype = tf.string if column.is_text else column.dtype
        return tf.TensorSpec((rows, *column.shape), dtype, name=name)

    if isinstance(config.image, str):
        parts: list[Any] = [spec(config.image_column(config.image), "images")]
    else:
        parts = [{image: spec(config.image_column(image), image) for image in config.image}]
    if config.label is not None:
        specs = {column.name: spec(column) for column in loader.columns}
        parts.append(next(iter(specs.values())) if isinstance(config.label, str) else specs)
    if config.with_keys:
        parts.append(spec(loader.key_column, name="keys"))
    return parts[0] if len(parts) == 1 else tuple(parts)


def output_types(loader: FastLoader) -> Any:
    """The structure of a batch as dtypes."""
    return _mapped(lambda spec: spec.dtype, output_signature(loader))


def output_shapes(loader: FastLoader) -> Any:
    """The structure of a batch as shapes."""
    return _mapped(lambda spec: spec.shape, output_signature(loader))


def _mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    return _tensorflow().nest.map_structure(function, structure)


def as_dataset(loader: FastLoader) -> tf.data.Dataset:
    """One generator for each worker, interleaved in the loader's order.

    Every iteration of the dataset begins a new epoch of the loader, whatever state the last one was
    left in; an iterator of the older epoch ends with SupersededError at its next pull. The
    cardinality is known, except with ``on_error="skip"``, which may leave batches without rows;
    those are left out.

    Autotuning is off for the dataset and what is chained behind it; ``AUTOTUNE`` then stands for
    all cores. To have it back, chain ``with_options``. The reason is the end of an epoch: there
    TensorFlow 2.21 lets its tuning thread sleep on, for up to as long as the epoch has lasted, and
    waits for it (measured: 0.5 s after an epoch of 2 s, 2.4 s after one of 2.7 s, with nothing
    gained in the epoch).
    """
    tf = _tensorflow()
    signature = output_signature(loader)
    feeders = loader.config.workers or 1
    pair = tf.TensorSpec((2,), tf.int64)

    def begin() -> Iterator[tuple[int, int]]:
        epoch = loader._begin_epoch()
        return ((epoch, feeder) for feeder in range(feeders))

    def batches(epoch_and_feeder: Any) -> Iterator[Any]:
        epoch, feeder = map(int, epoch_and_feeder)
        return loader._elements_of(epoch, feeder)

    def dataset_of(epoch_and_feeder: Any) -> Any:
        return tf.data.Dataset.from_generator(
            batches, output_signature=signature, args=(epoch_and_feeder,)
        )

    dataset = tf.data.Dataset.from_generator(begin, output_signature=pair).interleave(
        dataset_of, cycle_length=feeders, num_parallel_calls=feeders, deterministic=True
    )
    if loader.config.on_error == "skip":
        dataset = dataset.filter(lambda *batch: tf.shape(tf.nest.flatten(batch)[0])[0] > 0)
    else:
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(loader)))
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(loader.config.prefetch).with_options(options)

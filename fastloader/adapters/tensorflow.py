"""Batches as a tf.data.Dataset, without a copy.

TensorFlow aliases an array that a generator yields on four conditions: every output has a
TensorSpec, the dtype is the declared one, the array is C-contiguous, and its address is a multiple
of 64. The batches of a loader meet them; a test compares the addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..batches.ragged import Ragged
from ..batches.schema import Arrays, Entry, has_known_length, leaves_out_empty
from ..consumer.batch_source import BatchSource
from ..errors import ConfigError
from ..fields.columns import BYTES_OF
from ..transport.messages import Turn

if TYPE_CHECKING:
    import tensorflow as tf


def _tensorflow() -> Any:
    try:
        import tensorflow
    except ImportError as error:
        raise ConfigError(
            f"this needs TensorFlow ({error}). Run: pip install 'fastloader[tensorflow]'"
        ) from error
    return tensorflow


def output_signature(loader: BatchSource) -> Any:
    """Return the structure of a batch as TensorSpecs."""
    tf = _tensorflow()
    config = loader.config
    # Otherwise the number of rows may differ from batch to batch.
    rows = config.batch_size if config.drop_remainder and not config.may_lack_rows else None

    def spec(entry: Entry) -> Any:
        column, name = entry.column, entry.name if entry.part == "x" else None
        if config.has_single_image and entry.part == "x" and entry.name == config.image:
            name = "images"
        if column.shape[:1] == (None,):
            return tf.RaggedTensorSpec((rows, *column.shape), column.dtype, 1, tf.int64)
        dtype = tf.string if column.is_ragged else column.dtype
        return tf.TensorSpec((rows, *column.shape), dtype, name=name)

    return loader.delivery.crew.schema.arranged(spec)


def output_types(loader: BatchSource) -> Any:
    """Return the structure of a batch as dtypes."""
    return _mapped(lambda spec: spec.dtype, output_signature(loader))


def output_shapes(loader: BatchSource) -> Any:
    """Return the structure of a batch as shapes."""
    return _mapped(lambda spec: spec.shape, output_signature(loader))


def _mapped(function: Callable[[Any], Any], structure: Any) -> Any:
    return _tensorflow().nest.map_structure(function, structure)


def as_dataset(loader: BatchSource, device: str | None = None) -> tf.data.Dataset:
    """Return a dataset of the batches: one generator for each worker, interleaved in order.

    Every iteration of the dataset begins a new epoch of the loader, in whatever state the last one
    was left. An iterator of the older epoch ends with SupersededError at its next pull.

    The cardinality is known, except with ``follow="epoch"``, and with ``on_error="skip"``, which
    may leave batches without rows; those are left out. With a shard they are delivered, so that all
    hosts take the same number of steps, and the cardinality is known. An epoch that is resumed in
    its middle has fewer batches than the cardinality.

    Autotuning is off for the dataset and what is chained behind it; ``AUTOTUNE`` then means all
    cores. To turn it on, chain ``with_options``. The reason is the end of an epoch: TensorFlow 2.21
    leaves its tuning thread asleep, for up to as long as the epoch has lasted, and waits for it
    (measured: 0.5 s after an epoch of 2 s, 2.4 s after one of 2.7 s, with nothing gained in the
    epoch).

    Parameters
    ----------
    loader
        The loader whose batches they are.
    device
        Where to copy batches before the model wants them, for example "/GPU:0". Nothing can be
        chained behind such a dataset.

    Raises
    ------
    ConfigError
        TensorFlow is not installed, or sees no such device.
    """
    tf = _tensorflow()
    signature = output_signature(loader)
    parts = tf.nest.map_structure(_parts_of, signature)
    feeders = len(loader.delivery.feeders)
    batches_known = len(loader)
    whose = tf.TensorSpec((len(Turn._fields) + 1,), tf.int64)

    def begin() -> Iterator[tuple[int, ...]]:
        iteration = loader.delivery.begin(ahead=True)
        if has_known_length(loader.config) and len(iteration.plan) > batches_known:
            raise ConfigError(
                f"refresh() has found more rows since as_dataset() was called, and the dataset "
                f"ends after {batches_known} batches: call as_dataset() after refresh(), or pass "
                f'follow="epoch"'
            )
        return ((*iteration.turn, (iteration.first + i) % feeders) for i in range(feeders))

    def batches(turn_and_feeder: Any) -> Iterator[Any]:
        *turn, feeder = map(int, turn_and_feeder)
        return loader.delivery.elements_of(Turn(*turn), feeder, _values)

    def dataset_of(turn_and_feeder: Any) -> Any:
        made = tf.data.Dataset.from_generator(
            batches, output_signature=parts, args=(turn_and_feeder,)
        )
        if not any(isinstance(s, tf.RaggedTensorSpec) for s in tf.nest.flatten(signature)):
            return made
        is_tuple = isinstance(parts, tuple)
        return made.map(lambda *its: _assembled(signature, its if is_tuple else its[0]))

    dataset = tf.data.Dataset.from_generator(begin, output_signature=whose).interleave(
        dataset_of,
        cycle_length=feeders,
        num_parallel_calls=feeders,
        deterministic=loader.config.deterministic,
    )
    if leaves_out_empty(loader.config):
        dataset = dataset.filter(lambda *batch: _rows(tf.nest.flatten(batch)[0]) > 0)
    elif has_known_length(loader.config):
        dataset = _with_cardinality(dataset, batches_known)
    options = tf.data.Options()
    options.autotune.enabled = False
    if loader.config.shard[1] > 1:  # or a strategy that distributes the dataset divides it again
        off = tf.data.experimental.AutoShardPolicy.OFF
        options.experimental_distribute.auto_shard_policy = off
    dataset = dataset.prefetch(loader.config.prefetch).with_options(options)
    return dataset if device is None else _on_device(dataset, device, loader.config.prefetch)


def _values(entry: Entry, arrays: Arrays) -> Any:
    """Return what the generator yields for an entry: text as bytes, ragged arrays in two parts."""
    items = entry.items(arrays)
    if not isinstance(items, Ragged):
        return items
    if entry.column.dtype not in BYTES_OF:
        return items.values, items.offsets
    found = np.empty(len(items), object)
    found[:] = items.to_bytes()
    return found


def _parts_of(spec: Any) -> Any:
    """Return the specs of what :func:`_values` returns for an entry with this spec."""
    tf = _tensorflow()
    if not isinstance(spec, tf.RaggedTensorSpec):
        return spec
    rows = spec.shape[0]
    offsets = tf.TensorSpec((None if rows is None else rows + 1,), tf.int64)
    return tf.TensorSpec((None, *spec.shape[2:]), spec.dtype), offsets


def _assembled(signature: Any, parts: Any) -> Any:
    """Return a batch of this signature, given its parts."""
    tf = _tensorflow()
    if isinstance(signature, dict):
        return {name: _assembled(spec, parts[name]) for name, spec in signature.items()}
    if isinstance(signature, tuple):
        return tuple(map(_assembled, signature, parts))
    if isinstance(signature, tf.RaggedTensorSpec):
        return tf.RaggedTensor.from_row_splits(*parts, validate=False)
    return parts


def _rows(tensor: Any) -> Any:
    """Return the number of rows of a tensor."""
    tf = _tensorflow()
    return tensor.nrows() if isinstance(tensor, tf.RaggedTensor) else tf.shape(tensor)[0]


def _with_cardinality(dataset: Any, batches: int) -> Any:
    """Return the dataset with a known cardinality, which it may fall short of.

    ``assert_cardinality`` would raise an error for an epoch that is resumed in its middle. A choice
    among datasets of which one is infinite counts as infinite, although it ends with the one that
    is chosen; the other one is never asked for anything.
    """
    tf = _tensorflow()
    first = tf.data.Dataset.from_tensors(tf.constant(0, tf.int64)).repeat()
    return tf.data.Dataset.choose_from_datasets(
        [dataset, dataset.repeat()], first, stop_on_empty_dataset=True
    ).take(batches)


def _on_device(dataset: Any, device: str, batches: int) -> Any:
    tf = _tensorflow()
    there = [found.name for found in tf.config.list_logical_devices()]
    wanted = tf.DeviceSpec.from_string(device)
    if not any(
        tf.DeviceSpec.from_string(name).make_merged_spec(wanted).to_string() == name
        for name in there
    ):
        raise ConfigError(f"TensorFlow sees no device {device!r}; it sees {', '.join(there)}")
    return dataset.apply(tf.data.experimental.prefetch_to_device(device, max(1, batches)))

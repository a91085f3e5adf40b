"""Batches of jax.Arrays, on the CPU without a copy.

On the CPU, JAX aliases an array whose address is a multiple of 64, as the addresses in a ring are.
It keeps the owner of the memory, and with it the lease, as long as its own array lives. It never
writes to that memory, not even with a donated argument.

This module imports JAX. No other module of the package imports it before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..batches.ragged import Ragged
from ..consumer.batch_source import BatchSource
from ..errors import ConfigError
from ..fields.columns import BYTES_OF, Column

try:
    import jax
except ImportError as error:
    raise ConfigError(f"this needs JAX ({error}). Run: pip install 'fastloader[jax]'") from error


def as_jax(loader: BatchSource, *, sharding: Any = None) -> Batches:
    """Return the batches as ``jax.Array``. Each iteration is the loader's next epoch.

    A batch has the loader's structure. Without ``jax_enable_x64``, JAX has no 64-bit types:
    integers become int32 or uint32 if they fit, and real numbers are rounded to float32. Text and
    JSON stay in NumPy arrays of objects, bytes in a :class:`fastloader.Ragged`. A ragged array
    becomes :class:`Padded`.

    Nothing is taken ahead, so ``state_dict()`` counts what training has taken. JAX does not have to
    wait for a batch anyway: it dispatches its work asynchronously, so the loop reaches the next
    batch before the last one has been used. If you wrap the batches in a prefetch of your own, for
    example Flax's, pass ``state_dict(consumed=...)``, the number of batches that training has
    taken.

    Parameters
    ----------
    loader
        The loader whose batches they are.
    sharding
        How a batch lies on the devices, for example ``NamedSharding(mesh, P("data"))``; None for
        all of it on the default device. If it spans several processes, the loader of each process
        delivers its own part of the batch (``shard=jax``).

    Raises
    ------
    ConfigError
        The sharding cannot divide every batch. When iterating: an integer does not fit.
    """
    return Batches(loader, sharding)


class Batches:
    """The iterable of batches that :func:`as_jax` returns."""

    def __init__(self, loader: BatchSource, sharding: Any) -> None:
        self._loader = loader
        self._sharding = sharding
        self._columns = loader.delivery.crew.schema.arranged(lambda entry: entry.column)
        if sharding is not None:
            for column in jax.tree.leaves(self._columns):
                if column.dtype not in BYTES_OF:
                    _check(loader, sharding, column)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return map(self.arrays_of, iter(self._loader))

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """See :meth:`fastloader.FastLoader.state_dict`."""
        return self._loader.state_dict(consumed=consumed)

    def load_state_dict(self, state: Mapping[str, Any], *, elastic: bool = False) -> None:
        """See :meth:`fastloader.FastLoader.load_state_dict`."""
        self._loader.load_state_dict(state, elastic=elastic)

    def arrays_of(self, batch: Any) -> Any:
        """Return a batch of the loader as JAX arrays."""
        return jax.tree.map(self._array, self._columns, batch)

    def _array(self, column: Column, array: NDArray[Any] | Ragged) -> Any:
        if column.dtype in BYTES_OF:
            return array
        if isinstance(array, Ragged):
            return _padded(column, array, self._array_of)
        return self._array_of(column, array)

    def _array_of(self, column: Column, array: NDArray[Any]) -> Any:
        if array.dtype.kind in "iu":
            array = _in_jax_type(column, array)
        if self._sharding is None:
            return jax.device_put(array)
        return jax.make_array_from_process_local_data(self._sharding, array)

    def __repr__(self) -> str:
        return f"as_jax({self._loader!r})"


class Padded(NamedTuple):
    """A ragged array as JAX takes it, whose functions are compiled for each shape.

    Attributes
    ----------
    values
        The items of each row, and zeros behind them: (n, length, ...). The length is the next power
        of two at or above that of the longest row, so that few shapes occur.
    lengths
        The number of items of each row: int32 (n,).
    """

    values: jax.Array
    lengths: jax.Array


def _padded(column: Column, rows: Ragged, put: Callable[[Column, NDArray[Any]], Any]) -> Padded:
    longest = int(rows.lengths.max(initial=1))
    values = rows.to_padded(length=1 << (longest - 1).bit_length())
    return Padded(put(column, values), put(column, rows.lengths.astype(np.int32)))


def _in_jax_type(column: Column, array: NDArray[Any]) -> NDArray[Any]:
    """Return the integers in the type that JAX has for them.

    JAX would do the same, but drop the upper bits of a number that does not fit without a warning.
    """
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    cut = array.astype(dtype)
    differs = cut != array
    if differs.any():
        raise ConfigError(
            f"column {column.name!r} holds {array[differs][0]}, which does not fit into "
            f"{dtype.name}, the type that JAX uses for {array.dtype.name} unless 64-bit types are "
            f'enabled: call jax.config.update("jax_enable_x64", True). If it is a label, you can '
            f'also ask for "{column.name}:{dtype.name}", so that on_error decides about such rows'
        )
    return cut


def _check(loader: BatchSource, sharding: Any, column: Column) -> None:
    """Raise ConfigError unless the sharding can divide this column of every batch."""
    count = len(sharding.device_set)  # a number of rows that any sharding of rows can divide
    try:
        inner = (1 if size is None else size for size in column.shape)
        where = sharding.addressable_devices_indices_map((count, *inner))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"the sharding cannot divide column {column.name!r}: {error}") from error
    parts = len({index[0].indices(count) for index in where.values()})
    spans = not sharding.is_fully_addressable
    if parts == 1 and not spans:
        return
    if loader.config.may_lack_rows:
        raise ConfigError(
            'with on_error="skip", or a transform with drops=True, batches have any number of '
            "rows, which a sharding cannot divide: leave them out"
        )
    if loader.config.follow is not None and not loader.config.drop_remainder:
        raise ConfigError(
            'with follow="epoch" the last batch has any number of rows, which a sharding cannot '
            "divide: pass drop_remainder=True"
        )
    plan = loader.delivery.plan
    # All batches but the last two have the same number of rows as the first.
    for batch in {0, max(0, len(plan) - 2), len(plan) - 1}:
        shards = range(plan.shard[1]) if spans else [plan.shard[0]]
        numbers = [replace(plan, shard=(shard, plan.shard[1])).numbers(batch) for shard in shards]
        rows = {its.stop - its.start for its in numbers}
        if any(count % parts for count in rows) or len(rows) > 1:
            raise ConfigError(
                f"a batch of {' or '.join(map(str, sorted(rows)))} rows cannot be divided into "
                f"{parts} equal parts, as the sharding asks"
                + (
                    f": make batch_size a multiple of {parts}"
                    if plan.batch_size % parts
                    else ": pass drop_remainder=True to leave out a last batch that is not full"
                )
            )

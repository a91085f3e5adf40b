"""Batches of jax.Arrays, on the CPU without a copy.

On the CPU JAX aliases an array whose address is a multiple of 64, as those of a ring are, and
keeps what the memory belongs to, thus the lease, as long as its own array lives. It never writes
there, not even with a donated argument.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..errors import ConfigError
from ..fields.batch import arranged
from ..fields.columns import Column
from ..fields.slots import image_column

try:
    import jax
except ImportError as error:
    raise ConfigError(f"this needs JAX ({error}). Run: pip install 'fastloader[jax]'") from error

if TYPE_CHECKING:
    from ..loader import FastLoader


def as_jax(loader: FastLoader, *, sharding: Any = None) -> Batches:
    """The loader's batches as ``jax.Array``. Each iteration is the loader's next epoch.

    A batch has the loader's structure. Without ``jax_enable_x64`` JAX has no types of 64 bits:
    integers then become int32 or uint32 if they fit, and real numbers are rounded to float32. Text
    stays NumPy's arrays of ``str``.

    sharding: how a batch lies on the devices, such as ``NamedSharding(mesh, P("data"))``; None for
        all of it on the default device. Where it spans several processes, each process's loader
        delivers its own part of the batch (``shard=jax``).

    Nothing is taken ahead, so that ``state_dict()`` counts what training has taken. JAX need not
    wait for a batch either way: it dispatches its work asynchronously, so the loop is at the next
    batch before the last one has been used. If you wrap the batches in a prefetch of your own, such
    as Flax's, pass ``state_dict(consumed=...)``, the number of batches that training has taken.

    Raises ConfigError for a sharding that cannot divide every batch; and when iterating, for an
    integer that does not fit.
    """
    return Batches(loader, sharding)


class Batches:
    """What :func:`as_jax` returns."""

    def __init__(self, loader: FastLoader, sharding: Any) -> None:
        self._loader = loader
        self._sharding = sharding
        config = loader.config
        self._columns = arranged(
            config,
            {image: image_column(config, image) for image in config.images},
            {column.name: column for column in loader.columns},
            replace(loader.key_column, name=config.key) if config.with_keys else None,
        )
        if sharding is not None:
            for column in jax.tree.leaves(self._columns):
                if not column.is_text:
                    _check(loader, sharding, column)

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        return map(self._arrays, iter(self._loader))

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """See :meth:`fastloader.FastLoader.state_dict`."""
        return self._loader.state_dict(consumed=consumed)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See :meth:`fastloader.FastLoader.load_state_dict`."""
        self._loader.load_state_dict(state)

    def _arrays(self, batch: Any) -> Any:
        return jax.tree.map(self._array, self._columns, batch)

    def _array(self, column: Column, array: NDArray[Any]) -> Any:
        if column.is_text:
            return array
        if array.dtype.kind in "iu":
            array = _in_jax_type(column, array)
        if self._sharding is None:
            return jax.device_put(array)
        return jax.make_array_from_process_local_data(self._sharding, array)

    def __repr__(self) -> str:
        return f"as_jax({self._loader!r})"


def _in_jax_type(column: Column, array: NDArray[Any]) -> NDArray[Any]:
    """The integers in the type that JAX would give them, which would cut them without a word."""
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if dtype == array.dtype:
        return array
    cut = array.astype(dtype)
    differs = cut != array
    if differs.any():
        raise ConfigError(
            f"column {column.name!r} holds {array[differs][0]}, which does not fit into "
            f"{dtype.name}, all that JAX has for {array.dtype.name} as it is set: call "
            f'jax.config.update("jax_enable_x64", True). Of a label you can also ask for '
            f'"{column.name}:{dtype.name}", so that on_error decides about such rows'
        )
    return cut


def _check(loader: FastLoader, sharding: Any, column: Column) -> None:
    """Raises ConfigError unless the sharding can divide this column of every batch."""
    count = len(sharding.device_set)  # a number of rows that any sharding of rows can divide
    try:
        where = sharding.addressable_devices_indices_map((count, *column.shape))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"the sharding cannot divide column {column.name!r}: {error}") from error
    parts = len({index[0].indices(count) for index in where.values()})
    spans = not sharding.is_fully_addressable
    if parts == 1 and not spans:
        return
    if loader.config.on_error == "skip":
        raise ConfigError(
            'with on_error="skip" batches have any number of rows, which a sharding cannot divide; '
            'take "fill" or "raise"'
        )
    plan = loader._plan
    for batch in {0, max(0, len(plan) - 2), len(plan) - 1}:  # the others have the first's rows
        shards = range(plan.shard[1]) if spans else [plan.shard[0]]
        numbers = [replace(plan, shard=(shard, plan.shard[1])).numbers(batch) for shard in shards]
        rows = {its.stop - its.start for its in numbers}
        if any(count % parts for count in rows) or len(rows) > 1:
            raise ConfigError(
                f"a batch of {' or '.join(map(str, sorted(rows)))} rows cannot be divided into "
                f"{parts} parts of one size, as the sharding asks"
                + (
                    f": make batch_size a multiple of {parts}"
                    if plan.batch_size % parts
                    else ": pass drop_remainder=True to leave out a last batch that is not full"
                )
            )

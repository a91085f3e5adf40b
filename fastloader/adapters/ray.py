"""A table as a ray.data.Dataset: Ray decodes it on the cores of a cluster.

A read task of Ray is one batch of a plan, and becomes one block. On whatever node Ray puts it, the
task reads its key ranges through a source of its own and has the kernel decode them. So a task that
Ray has to run again, because its node has died, makes the same block.

:func:`read` and :class:`Table` run in the driver, :class:`Surveyor` in an actor on the driver's
node, and :class:`Task` on any node. No loader is involved.

This module imports Ray, because its classes are Ray's. No other module of the package imports it.
"""

from __future__ import annotations

import inspect
import logging
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..batches.ragged import Ragged
from ..batches.schema import Arrays, Entry, Schema
from ..errors import ConfigError, FastloaderWarning, SourceError
from ..fields.columns import BYTES_OF
from ..fields.scalars import decoded_texts
from ..options.config import Config, make_config
from ..options.sampling import ClassBatch
from ..options.variables import warn_of_unknown_variables
from ..plan.order import Uniform
from ..plan.plan import Plan
from ..source.protocol import Source
from ..transport.memory import create_memory
from ..transport.ring import Layout
from ..worker.planned import Planned, planned
from ..worker.producer import Producer
from ..worker.survey import Survey, survey

try:
    import pyarrow as pa
    import ray
    import ray.data
    from ray.data.block import BlockMetadata
    from ray.data.extensions import ArrowTensorArray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError as error:
    raise ConfigError(
        f"this needs Ray Data ({error}). Run: pip install 'fastloader[ray]'"
    ) from error

logger = logging.getLogger("fastloader")

NOT_HERE = {
    "batch_size": "pass it where batches are made: dataset.iter_torch_batches(batch_size=...)",
    "workers": "Ray decides how many tasks run at a time; concurrency= limits them",
    "slots": "blocks are in Ray's object store",
    "prefetch": "pass it where batches are made: prefetch_batches=...",
    "deterministic": "Ray's ExecutionOptions(preserve_order=True) keep the order",
    "max_restarts": "Ray runs failed tasks again; max_retries is one of its remote options",
    "shard": "Ray divides a dataset: dataset.streaming_split(hosts, equal=True)",
    "drop_remainder": "pass it where batches are made: drop_last=True",
    "follow": "each read() reads the table as it is then",
    "trace": "Ray has a timeline of its own: dataset.stats(), ray timeline",
    "cache": "dataset.materialize() keeps the decoded rows in Ray's object store",
    "cache_bytes": "there is no cache",
    "cache_size": "there is no cache",
    "cache_transformed": "there is no cache",
    "transform_version": "there is no cache",
    "transform_timeout_s": "set a timeout of Ray's",
}
"""Options of a loader that are Ray's business, and what to do instead."""

EXECUTION_COUNTER = "_execution_idx"
"""The attribute of Ray's DataContext that counts how often the dataset was executed to its end."""

BLOCKS_PER_CPU = 4
FEWEST_ROWS = 64
"""A block has at least so many rows, unless it would be larger than Ray wants."""

MOST_SAID = 10
"""So many bad rows of a block are in its task's log."""


def read(
    url: str | os.PathLike[str] | None = None,
    *,
    epoch: int = 0,
    override_num_blocks: int | None = None,
    concurrency: int | None = None,
    ray_remote_args: dict[str, Any] | None = None,
    **options: Any,
) -> ray.data.Dataset:
    """Return the table as a ``ray.data.Dataset`` that Ray's tasks decode.

    Columns have the names of the table: the images, tensors of the shape and type that ``size``,
    ``channels``, ``layout`` and ``dtype`` ask for; the labels; the sample weights; and, with
    ``with_keys``, the keys. Every row comes once, unless ``sampling`` asks for others. The pixels
    are those of a loader, bit by bit.

    Each execution of the dataset that reaches its end is an epoch. The next one has other random
    crops and flips, and with ``shuffle=True`` another order. With Ray's ``preserve_order`` that
    order is the loader's. If this version of Ray does not count executions, a FastloaderWarning
    says so, and you have to make a dataset with another ``epoch`` for each epoch.

    Every node needs ``fastloader``, and reaches the database by the same URL: a SQLite file must be
    at the same path, a server at the same address. Password files and libpq's variables are those
    of each node; what the URL holds travels with the tasks.

    A ``transform`` runs in the tasks. Functions of rows make what they make in a loader; those of
    batches get the rows of a block.

    With ``consistency="snapshot"``, PostgreSQL's rows are those of the moment of this call, for as
    long as anything refers to the dataset. With ``on_error="skip"`` or ``"fill"``, bad rows are in
    the log of the tasks.

    Parameters
    ----------
    url
        The URL of the database.
    epoch
        The epoch of the first execution.
    override_num_blocks
        The number of tasks, and so of blocks. None for four per core of the cluster, each with at
        least 64 rows and at most ``DataContext.target_max_block_size`` bytes.
    concurrency
        How many tasks may run at a time. Each has a connection to the database.
    ray_remote_args
        Options of the tasks, for example ``{"num_cpus": 2}``.
    **options
        The other options of :class:`fastloader.FastLoader`, except those that are Ray's business.
        Their environment variables are read here, in the driver.

    Raises
    ------
    ConfigError, SourceError, PlanError
        As by a loader. An execution raises RowError or SourceError, as the cause of Ray's own
        exception.
    """
    config = _config(options if url is None else {"url": url, **options})
    if _epochs_differ(config) and not _executions_are_counted():
        warnings.warn(
            f"Ray {ray.__version__} does not tell fastloader how often a dataset was executed, "
            f"so every execution is epoch {epoch} again, with the same order, crops and flips. "
            f"Make a new dataset with read(..., epoch=N) for each epoch, and please report this "
            f"version of Ray",
            FastloaderWarning,
            stacklevel=2,
        )
    if not ray.is_initialized():
        ray.init()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(num_cpus=0, scheduling_strategy=here)(Surveyor)
    surveyor = actor.remote()
    found_ref, planned_ref = surveyor.survey.options(num_returns=2).remote(config)
    try:
        found: Survey = ray.get(found_ref)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    for note in found.notes:
        warnings.warn(note, FastloaderWarning, stacklevel=2)
    holder = surveyor if found.snapshot is not None else None
    table = Table(config, epoch, found, planned_ref, holder)
    blocks = override_num_blocks or table.automatic_blocks()
    # Ray 2.64 will no longer have this argument.
    remote = {} if ray_remote_args is None else {"ray_remote_args": ray_remote_args}
    return ray.data.read_datasource(
        table, override_num_blocks=blocks, concurrency=concurrency, **remote
    )


def _config(given: dict[str, Any]) -> Config:
    """Return the configuration of the tasks, except for the number of rows in a block."""
    for name, instead in NOT_HERE.items():
        if name in given:
            raise ConfigError(f"{name} is not for Ray: {instead}")
    warn_of_unknown_variables(stacklevel=3)
    config = make_config(given)
    if isinstance(config.sampling, ClassBatch):
        raise ConfigError("sampling=ClassBatch(...) is not for Ray, which makes the batches")
    for image in config.images:
        if image.dtype == "bfloat16":
            raise ConfigError(
                'dtype="bfloat16" is not a type of Arrow, in which Ray keeps its blocks: pass '
                '"float16", or "uint8" and convert on the GPU'
            )
    plain = {name: getattr(Config, name) for name in NOT_HERE}
    return replace(config, **{**plain, "workers": 1})


def _epochs_differ(config: Config) -> bool:
    is_random = bool(config.transform) or any(image.is_random for image in config.images)
    return config.shuffle or config.sampling is not None or is_random


def _executions_are_counted() -> bool:
    """Return whether :meth:`Table.get_read_tasks` can tell one execution from the next.

    Ray counts them in a private attribute of the context that it passes when a dataset is executed.
    """
    passed = inspect.signature(ray.data.Datasource.get_read_tasks).parameters
    return "data_context" in passed and hasattr(
        ray.data.DataContext.get_current(), EXECUTION_COUNTER
    )


class Surveyor:
    """An actor that surveys the table.

    It holds the snapshot for as long as anything has a handle of the actor.
    """

    def survey(self, config: Config) -> tuple[Survey, Planned]:
        """Return what was found, and what to plan with."""
        with create_memory("plan") as memory:
            found, _, source = survey(config, memory)
            table = planned(config, found, memory)
        self._source: Source = source
        if found.snapshot is None:
            source.close()
        return found, table


class Table(ray.data.Datasource):  # type: ignore[misc]  # mypy does not follow it
    """The datasource that Ray asks for read tasks.

    Parameters
    ----------
    config
        The configuration of the tasks.
    epoch
        The epoch of the first execution.
    found
        What the survey has found.
    table
        A reference to what :meth:`Surveyor.survey` returns beside what was found.
    holder
        The actor that holds the snapshot; None without a snapshot.
    """

    def __init__(
        self, config: Config, epoch: int, found: Survey, table: ray.ObjectRef, holder: Any
    ) -> None:
        super().__init__()
        self._config = config
        self._epoch = epoch
        self._found = found
        self._table = table
        self._holder = holder
        self._schema = schema = _schema(config, found)
        columns = [entry.column for entry in schema.entries]
        self._row_bytes = sum(its.row_bytes * (its.mean if its.is_ragged else 1) for its in columns)

    def get_name(self) -> str:
        """Return the name that Ray shows."""
        return "Table"

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of the decoded table."""
        return int(self._found.rows * self._row_bytes)

    def automatic_blocks(self) -> int:
        """Return a number of blocks that gives each core several, none larger than Ray wants."""
        largest = ray.data.DataContext.get_current().target_max_block_size
        needed = -(-self.estimate_inmemory_data_size() // largest) if largest else 1
        cpus = int(ray.cluster_resources().get("CPU", 1))
        return max(1, needed, min(BLOCKS_PER_CPU * cpus, self._found.rows // FEWEST_ROWS))

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None
    ) -> list[ray.data.ReadTask]:
        """Return a task for each batch of a plan with about ``parallelism`` batches."""
        rows = self._config.epoch_rows or self._found.rows
        config = replace(self._config, batch_size=-(-rows // parallelism))
        plan = Plan.of(config, Uniform(rows))  # only the numbers of rows are needed here
        # Without a context Ray only wants to know how many tasks there are. :func:`read` has warned
        # if a context has no counter.
        epoch = self._epoch + getattr(data_context, EXECUTION_COUNTER, 0)
        layout = Layout.of(0, self._schema.slot_columns)
        nothing = layout.delivered(_memory(layout), 0, {})
        schema = _block(self._schema, nothing).schema
        tasks = []
        for batch in range(len(plan)):
            task = Task(config, self._found, self._table, self._holder, epoch, batch)
            numbers = plan.numbers(batch)
            count = numbers.stop - numbers.start
            metadata = BlockMetadata(
                num_rows=None if config.may_lack_rows else count,
                size_bytes=int(count * self._row_bytes), input_files=None, exec_stats=None,
            )  # fmt: skip
            tasks.append(ray.data.ReadTask(task.blocks, metadata, schema, per_task_row_limit))
        return tasks


@dataclass
class Task:
    """Reads one batch of the plan, on whatever node it runs.

    Attributes
    ----------
    config
        The configuration, with the rows of a block as ``batch_size``.
    found
        What the survey has found.
    table
        A reference to what :meth:`Surveyor.survey` returns beside what was found.
    holder
        The actor that holds the snapshot, which lives as long as the task refers to it.
    epoch, batch
        What to read.
    """

    config: Config
    found: Survey
    table: ray.ObjectRef
    holder: Any
    epoch: int
    batch: int

    def blocks(self) -> Iterator[pa.Table]:
        """Yield the block."""
        config, found = self.config, self.found
        _check_file(config)
        table: Planned = ray.get(self.table)
        plan = replace(table.plan, batch_size=config.batch_size)
        producer = Producer(
            config, table._replace(plan=plan), found.columns, snapshot=found.snapshot,
            identity=found.identity, worker=self.batch, workers=len(plan), outputs=found.outputs,
        )  # fmt: skip
        schema = _schema(config, found)
        layout = Layout.of(config.batch_size, schema.slot_columns)
        arrays = _memory(layout)
        try:
            producer.start(self.epoch, self.batch, last_epoch=self.epoch)
            filled = producer.fill(arrays)
        finally:
            producer.close()
        assert filled is not None
        for key, reason in filled.bad[:MOST_SAID]:
            logger.warning("%s: row with key %s: %s", config.place, key, reason)
        if len(filled.bad) > MOST_SAID:
            logger.warning("%s: %d more bad rows", config.place, len(filled.bad) - MOST_SAID)
        yield _block(schema, layout.delivered(arrays, filled.rows, filled.parts()))


def _schema(config: Config, found: Survey) -> Schema:
    """Return what a block holds. Raises ConfigError if two of its columns have the same name."""
    schema = Schema(config, found.columns, found.key_dtype, found.outputs)
    names = [entry.name for entry in schema.entries]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two columns of a block have the name {name!r}: rename a field")
    return schema


def _memory(layout: Layout) -> Arrays:
    """Return the arrays of a slot of its own."""
    return layout.arrays(np.empty(layout.slot_bytes, np.uint8))


def _block(schema: Schema, arrays: Arrays) -> pa.Table:
    """Return the arrays as an Arrow table, with the names of a batch. Pixels are not copied."""
    return pa.table({entry.name: _arrow(entry, arrays) for entry in schema.entries})


def _arrow(entry: Entry, arrays: Arrays) -> Any:
    items = entry.items(arrays)
    if not isinstance(items, Ragged):
        return ArrowTensorArray.from_numpy(items) if items.ndim > 1 else pa.array(items)
    if entry.column.dtype == "bytes":
        return pa.array(items.to_bytes(), pa.binary())
    if entry.column.is_ragged and entry.column.dtype in BYTES_OF:
        texts = decoded_texts(items.values, items.offsets)
        return pa.array(texts, pa.string())
    values = pa.array(items.values.reshape(-1))
    for size in reversed(items.values.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    return pa.ListArray.from_arrays(pa.array(items.offsets, pa.int32()), values)


def _check_file(config: Config) -> None:
    """Raise SourceError if this node does not have the SQLite file of the driver's node."""
    if config.url.is_postgres:
        return
    from ..source.sqlite.file import path_of

    if not os.path.exists(path_of(config)):
        raise SourceError(
            f"{config.url}: no such file on node {ray.util.get_node_ip_address()}. Every node that "
            f"runs tasks needs the file at this path, on a shared file system or as a copy; or "
            f"keep the tasks on the node that has it, with ray_remote_args and a scheduling "
            f"strategy"
        )

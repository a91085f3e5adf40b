"""Find out what must be known of a table before it can be planned: its keys and label columns.

Where there are workers, a process of its own does the survey, and not the training process.
TensorFlow brings a SQLite and a TLS library of its own, and calls of Python's sqlite3 and of libpq
would find their symbols in place of the right ones. (Seen with TensorFlow 2.21: sqlite3_step out of
libtensorflow_cc, and a crash in the first TLS connection of a psycopg2 that was imported after it.)

The process stays for as long as its source lends its snapshot to the workers.
"""

from __future__ import annotations

import contextlib
import io
import resource
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..batches.schema import Output
from ..cache.file import name_of
from ..errors import ConfigError, PlanError, SourceError
from ..fields.columns import Column
from ..fields.imports import import_all
from ..fields.values import BLOB
from ..options.config import Config
from ..plan.keys import Keys, dtype_name, key_values
from ..plan.order import spread
from ..plan.plan import check_keys
from ..plan.split import chosen, follows_in, numbers_of, without_numbers
from ..source.files import FileReader
from ..source.opening import import_driver, open_source
from ..source.protocol import Snapshot, Source
from ..system.limits import explained
from ..transport.child import run_child
from ..transport.memory import map_array, map_keys, write_array, write_keys
from ..transport.messages import AWAKE, ERROR, SURVEY, SURVEYED, Failure, Record
from ..transport.pipes import Channel
from ..transport.process import START_TIMEOUT_S, Process, end
from ..transport.serial import pack, unpack
from .group import end_forks
from .probe import SOME_ROWS, probe
from .sampled import NOT_SAMPLED, Sampled, sample, with_classes

SOME_FILES = 16
"""The number of files that are looked at for their sizes."""


@dataclass(frozen=True)
class Survey:
    """What a survey has found.

    Attributes
    ----------
    rows
        The number of rows of the table.
    key_dtype
        The NumPy dtype of the keys; see :mod:`fastloader.plan.keys`.
    columns
        The label columns, with their types.
    snapshot
        What the sources of the workers should see, or None.
    identity
        The identity of the database, which the workers' sources must share.
    notes
        Warnings.
    state
        The state of the table, if there is a cache.
    cache
        The name for what is cached of the table in this state, if there is a cache.
    outputs
        What each group of functions of a transform leaves.
    remark
        What trying the transform has taken, for the log.
    follows_at
        Where the memory has which rows follow the one before in the table; 0 if all do.
    sampled
        What sampling depends on, if it is not uniform.
    """

    rows: int
    key_dtype: str
    columns: tuple[Column, ...]
    snapshot: Snapshot | None
    identity: str
    notes: tuple[str, ...]
    state: str = ""
    cache: str = ""
    outputs: tuple[tuple[Output, ...], ...] = ()
    remark: str = ""
    follows_at: int = 0
    sampled: Sampled = NOT_SAMPLED


def survey(config: Config, memory: io.FileIO) -> tuple[Survey, Keys, Source]:
    """Survey the table.

    Parameters
    ----------
    memory
        Where the keys are written to.

    Returns
    -------
    tuple
        What was found, the checked keys, (rows,), which map ``memory``, and the source, still open.

    Raises
    ------
    SourceError, PlanError, ConfigError
        The table cannot be read or planned, or a module of ``worker_imports`` not imported.
    """
    import_driver(config)
    import_all(config.worker_imports)  # here, so that errors show before there are workers
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = open_source(config, who="survey")
        try:
            keys, follows_at = _keys(config, source, memory)
            columns = tuple(with_classes(config, source, source.label_columns(keys)))
            columns += tuple(_columns_of_files(config, source, keys, columns))
            state = source.state() if config.cache is not None else ""
            snapshot, identity = source.snapshot(), source.identity()
            follows = None
            if follows_at:
                follows = map_array(memory, np.bool_, len(keys), follows_at)
            sampled = sample(config, memory, keys, follows, snapshot=snapshot, identity=identity)
        except BaseException:
            source.close()
            raise
    notes = tuple(str(note.message) for note in caught)
    try:  # what a function warns of is no note of ours
        outputs, remark = _tried(config, source, keys, columns)
    except BaseException:
        source.close()
        raise
    cache = name_of(config, keys, columns, state, outputs) if state else ""
    found = Survey(
        len(keys), dtype_name(keys.dtype), columns, snapshot, identity, notes, state, cache,
        outputs, remark, follows_at, sampled,
    )  # fmt: skip
    return found, keys, source


def _tried(
    config: Config, source: Source, keys: Keys, columns: Sequence[Column]
) -> tuple[tuple[tuple[Output, ...], ...], str]:
    """Return what a transform leaves, and a remark about what it needs, if there is one."""
    if not config.transform:
        return (), ""
    start_s, start_kb = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outputs = probe(config, source, keys, columns)
    seconds = time.perf_counter() - start_s
    more_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start_kb
    return outputs, (
        f"transform: importing what the functions use, and running them on up to {SOME_ROWS} rows, "
        f"took {seconds:.1f} s and {more_kb / 1024:.0f} MB, as it will in each worker"
    )


def _columns_of_files(
    config: Config, source: Source, keys: Keys, columns: Sequence[Column]
) -> Iterator[Column]:
    """Yield a column for each folder of files other than images, with the sizes of some files."""
    if not config.value_files:
        return
    ranges = [(key, key) for key in key_values(keys[spread(len(keys), SOME_FILES)])]
    sizes: dict[str, list[int]] = {name: [] for name in config.value_files}
    with contextlib.closing(FileReader(config)) as files:
        for chunk in files.chunks(source, source.read(ranges, columns)):
            for name, its in sizes.items():
                values = chunk.columns[name]
                its.extend(values.blobs[values.kinds == BLOB, 1].tolist())
    for name, its in sizes.items():
        yield Column(name, "uint8", (0,), "raw").with_sizes(its)


def _keys(config: Config, source: Source, memory: io.FileIO) -> tuple[Keys, int]:
    """Write the keys of the rows to load. Return them, and ``follows_at`` of the survey.

    Raises
    ------
    PlanError
        The keys are not unique, or there are none.
    """
    if config.split is not None:
        return _split_keys(config, config.split, source, memory)
    rows, dtype = 0, np.dtype(np.int64)
    for part in source.keys():  # noqa: SIM118 # it is no dict
        write_keys(memory, part)
        rows, dtype = rows + len(part), part.dtype
    keys = map_keys(memory, dtype_name(dtype), rows)
    _check(config, keys)
    return keys, 0


def _split_keys(config: Config, split: str, source: Source, memory: io.FileIO) -> tuple[Keys, int]:
    """Write the keys of a split, and after them which of their rows follow the one before."""
    parts = [*source.keys()]
    keys = np.concatenate(parts) if parts else np.empty(0, np.int64)
    if len(keys) and config.split_column is not None:
        keys, numbers = without_numbers(keys)
    else:
        numbers = numbers_of(keys)
    _check(config, keys)  # all of them, because equal ones may be in different splits
    positions = chosen(numbers, split)
    if len(positions) == 0:
        raise PlanError(f"{config.place}: split={split!r} has none of {len(keys)} rows")
    write_keys(memory, keys[positions])
    follows_at = write_array(memory, follows_in(positions))
    return map_keys(memory, dtype_name(keys.dtype), len(positions)), follows_at


def _check(config: Config, keys: Keys) -> None:
    if len(keys) == 0 and config.where is not None:
        raise PlanError(f"{config.place}: no row meets where={config.where!r}")
    check_keys(keys, config.place)


# ---- in a process of its own ---------------------------------------------------------------------


class Surveyor:
    """The process that does the survey, as the training process sees it.

    It starts at once, so that it is awake when it is asked.

    Parameters
    ----------
    memory
        Where the process writes the keys.
    echoes
        See :class:`~fastloader.transport.process.Process`.
    """

    def __init__(self, memory: io.FileIO, *, echoes: bool) -> None:
        self.process = Process("fastloader.worker.survey", [memory], name="survey", echoes=echoes)

    def survey(self, config: Config) -> Survey:
        """Return what the process finds.

        Raises
        ------
        FastloaderError
            What the process raised; SourceError if it ended.
        """
        try:
            self.process.channel.send(Record(SURVEY, payload=pack(config)))
            record = self.process.receive(START_TIMEOUT_S)
            if record is None:
                end([self.process], 0)
                raise ConfigError(
                    f"cannot start worker processes: {sys.executable} (sys.executable) was started "
                    f"and has said nothing for {START_TIMEOUT_S:g} s. It may be a program that "
                    f"embeds Python: then pass workers=0. Its last words:\n"
                    f"{self.process.last_words}"
                )
            if record.kind == AWAKE:
                record = self.process.receive()
        except (EOFError, BrokenPipeError):
            end([self.process])
            raise SourceError(
                f"{config.url}: the process that surveys the table {self.process.how}. Its last "
                f"words:\n{self.process.last_words}"
            ) from None
        finally:
            self.process.take_output()
            self.process.log_output()
        assert record is not None  # there was no time limit
        if record.kind == ERROR:
            raise unpack(record.payload, Failure).error()
        return unpack(record.payload, Survey)

    def stop(self) -> None:
        """Tell the process to end, and with it the snapshot, without waiting for that."""
        self.process.channel.shut_down()

    def close(self, *, patient: bool = True) -> None:
        """Release everything, after :meth:`stop`. May be called twice."""
        self.process.kill(patient=patient)
        self.process.close()


def serve(channel: Channel, memory: io.FileIO) -> None:
    """Do one survey, and keep its snapshot until the pipe is closed."""
    channel.send(Record(AWAKE))
    record = channel.receive()
    assert record is not None
    config = unpack(record.payload, Config)
    if config.transform:
        end_forks()
    try:
        found, _keys, source = survey(config, memory)
    except Exception as error:
        failure = Failure.of(explained(error, f"look at the table {config.place}"))
        channel.send(Record(ERROR, payload=pack(failure)))
        return
    try:
        if found.snapshot is None:
            source.close()
        channel.send(Record(SURVEYED, payload=pack(found)))
        while found.snapshot is not None:
            channel.receive()  # EOFError when the loader is closed
    finally:
        source.close()


def main(path: int) -> None:
    """Run in the process that surveys; see :func:`fastloader.transport.child.run_child`."""
    run_child(serve, path)

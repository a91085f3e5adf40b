"""What has to be known of a table before it can be planned: its keys and its label columns.

Done by a process of its own where there are workers. Not in the training process: TensorFlow
brings a SQLite and a TLS library of its own, whose symbols calls of Python's sqlite3 and of libpq
would find in place of their own. (Seen with TensorFlow 2.21: sqlite3_step out of libtensorflow_cc,
and a crash in the first TLS connection of a psycopg2 that was imported after it.)

The process stays for as long as its source lends its snapshot to the workers.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
from dataclasses import asdict, dataclass

import numpy as np

from ..cache.file import name_of
from ..errors import ConfigError, SourceError, from_json, to_json
from ..fields.columns import Column, columns_from
from ..fields.imports import import_all
from ..options.config import Config
from ..plan.keys import Keys
from ..plan.plan import check_keys
from ..source.opening import open_source
from ..source.protocol import Snapshot, Source
from ..system.limits import explained
from ..transport.memory import map_keys, write_keys
from ..transport.messages import AWAKE, ERROR, SURVEY, SURVEYED, Record
from ..transport.pipes import Channel
from ..transport.process import START_TIMEOUT_S, Process, end, run_child


@dataclass(frozen=True)
class Survey:
    """What was found.

    rows: of the table.
    key_dtype: of the keys; see ``keys.py``.
    columns: the label columns, with their types.
    snapshot: for the sources of the workers, or None.
    identity: of the database, which has to be theirs.
    notes: warnings.
    state: of the table, and
    cache: the name for what is cached of it, if there is a cache.
    """

    rows: int
    key_dtype: str
    columns: tuple[Column, ...]
    snapshot: Snapshot | None
    identity: str
    notes: tuple[str, ...]
    state: str = ""
    cache: str = ""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Survey:
        values = json.loads(payload)
        return cls(
            values["rows"],
            values["key_dtype"],
            columns_from(map(dict.values, values["columns"])),
            snapshot_from(values["snapshot"]),
            values["identity"],
            tuple(values["notes"]),
            values["state"],
            values["cache"],
        )


def snapshot_from(values: dict[str, object] | None) -> Snapshot | None:
    """The snapshot whose fields went through JSON."""
    return None if values is None else Snapshot(**values)  # type: ignore[arg-type]


def survey(config: Config, memory: io.FileIO) -> tuple[Survey, Keys, Source]:
    """What was found, the checked keys, which are in ``memory`` now, and the source, still open.

    Raises SourceError, PlanError or ConfigError.
    """
    import_all(config.worker_imports)  # now, so that what is wrong shows before there are workers
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        source = open_source(config, who="survey")
        try:
            dtype = np.dtype(np.int64)
            parts = source.keys()
            for part in parts:
                write_keys(memory, part)
                dtype = part.dtype
            keys = map_keys(memory, dtype.str)
            check_keys(keys, config.where)
            columns = source.label_columns(keys)
            state = source.state() if config.cache is not None else ""
            cache = name_of(config, keys, columns, state) if state else ""
            snapshot, identity = source.snapshot(), source.identity()
        except BaseException:
            source.close()
            raise
    notes = tuple(str(note.message) for note in caught)
    found = Survey(len(keys), dtype.str, columns, snapshot, identity, notes, state, cache)
    return found, keys, source


# ---- in a process of its own ---------------------------------------------------------------------


class Surveyor:
    """The process that does the survey. It starts at once, so that it is awake when it is asked.

    memory: where the keys go.
    """

    def __init__(self, memory: io.FileIO) -> None:
        self.process = Process("fastloader.worker.survey", [memory], name="survey")

    def survey(self, config: Config) -> Survey:
        """Return what the process finds. Raises what it raised, or SourceError if it ended."""
        try:
            self.process.channel.send(Record(SURVEY, payload=json.dumps(config.as_dict()).encode()))
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
                f"{config.url}: the process that was to look at the table {self.process.how}. Its "
                f"last words:\n{self.process.last_words}"
            ) from None
        assert record is not None  # there was no time limit
        if record.kind == ERROR:
            raise from_json(record.payload)
        return Survey.from_json(record.payload)

    def stop(self) -> None:
        """Tell the process to end, and with it the snapshot. Does not wait for that."""
        self.process.channel.shut_down()

    def close(self, *, patient: bool = True) -> None:
        """Give everything back, after :meth:`stop`. May be called twice."""
        self.process.kill(patient=patient)
        self.process.close()


def serve(channel: Channel, memory: io.FileIO) -> None:
    """Does one survey, and keeps its snapshot until the pipe is closed."""
    channel.send(Record(AWAKE))
    record = channel.receive()
    assert record is not None
    config = Config.from_dict(json.loads(record.payload))
    try:
        found, _keys, source = survey(config, memory)
    except Exception as error:
        payload = to_json(explained(error, f"look at the table {config.where}"))
        channel.send(Record(ERROR, payload=payload))
        return
    try:
        if found.snapshot is None:
            source.close()
        channel.send(Record(SURVEYED, payload=found.to_json()))
        while found.snapshot is not None:
            channel.receive()  # EOFError when the loader is closed
    finally:
        source.close()


def main(path: int) -> None:
    run_child(serve, path)

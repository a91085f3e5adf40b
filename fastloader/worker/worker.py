"""A worker process: it fills the slots of its ring while any of them is free."""

from __future__ import annotations

import contextlib
import io
from collections import deque
from dataclasses import dataclass

from ..batches.schema import Schema
from ..cache.file import Place
from ..options.config import Config
from ..plan.mixture import Portion
from ..system.limits import explained
from ..transport import messages
from ..transport.child import on_end, run_child
from ..transport.messages import Failure, Record
from ..transport.pipes import Channel
from ..transport.ring import Layout, Ring
from ..transport.serial import pack, unpack
from .group import end_forks
from .note import Note
from .planned import planned
from .producer import Producer
from .survey import Survey


@dataclass(frozen=True)
class Specification:
    """What a worker is told before it begins.

    Attributes
    ----------
    config
        The loader's options, with the password of the database.
    found
        What the survey has found.
    place
        The place of the cache, if there is one.
    slots
        The number of slots in the worker's ring.
    worker
        The number of the worker, from 0.
    """

    config: Config
    found: Survey
    place: Place | None
    slots: int
    worker: int


class Worker:
    """The state of a worker, which lives in its own process.

    Parameters
    ----------
    channel
        The worker's end of the pipe.
    spec
        What to do.
    memory, plan
        The memory of the ring, and that of the keys.
    """

    def __init__(
        self, channel: Channel, spec: Specification, memory: io.FileIO, plan: io.FileIO
    ) -> None:
        config, found = spec.config, spec.found
        self._channel = channel
        schema = Schema(config, found.columns, found.key_dtype, found.outputs)
        layout = Layout.of(config.batch_size, schema.slot_columns)
        self._ring = Ring(memory, layout, spec.slots, allocate=False)
        self._producer = Producer(
            config,
            planned(config, found, plan),
            found.columns,
            snapshot=found.snapshot,
            identity=found.identity,
            worker=spec.worker,
            workers=config.workers,
            place=spec.place,
            outputs=found.outputs,
            note=Note(self._ring.note),
        )
        if config.transform:
            end_forks()
        self._free: deque[int] = deque()
        self._run = 0
        self._working = False  # False before the first start, and after an error

    def run(self) -> None:
        """Work until the loader closes its end of the pipe: EOFError or BrokenPipeError."""
        clock = self._producer.clock
        on_end.append(self._producer.interrupt)
        with contextlib.closing(self._producer):
            while True:
                if not self._free or not self._working:
                    clock.enter("slot_wait" if self._working else None)
                self._listen(wait=not (self._working and self._free))
                if self._working and self._free:
                    self._fill()

    def _listen(self, *, wait: bool) -> None:
        """Act on the records that have arrived. If ``wait``, wait for at least one of them."""
        record = self._channel.receive(None if wait else 0)
        while record is not None:
            if record.kind == messages.FREE:
                self._free.append(record.slot)
            elif record.kind == messages.START:
                self._run = record.run
                self._working = True
                if record.payload:
                    self._producer.join(unpack(record.payload, Portion))
                self._producer.start(record.epoch, record.batch, first_row=record.first_row)
            record = self._channel.receive(0)

    def _superseded(self, run: int) -> bool:
        """Return whether the loader has begun another run than ``run``."""
        self._listen(wait=False)
        return run != self._run

    def _fill(self) -> None:
        """Make the next batch, and announce it or the error in its place."""
        run, slot, producer = self._run, self._free[0], self._producer
        try:
            filled = producer.fill(self._ring.slot(slot), lambda: self._superseded(run))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            self._working = False
            failure = Failure.of(explained(error, f"make batch {producer.batch}"))
            where = (producer.epoch, producer.batch)
            self._channel.send(Record(messages.ERROR, run, *where, payload=pack(failure)))
            return
        if run != self._run:
            return
        if filled is None:
            self._working = False
            return
        self._free.popleft()
        where = (producer.epoch, producer.batch)
        tail, filled.tail = filled.tail, b""
        self._channel.send(Record(messages.READY, run, *where, slot, pack(filled), tail))


def serve(channel: Channel, memory: io.FileIO, plan: io.FileIO) -> None:
    """Be a worker until the loader is closed."""
    record = channel.receive()
    assert record is not None
    assert record.kind == messages.SPEC
    try:
        worker = Worker(channel, unpack(record.payload, Specification), memory, plan)
    except Exception as error:
        failure = Failure.of(explained(error, "start a worker"))
        channel.send(Record(messages.ERROR, epoch=messages.NEVER, payload=pack(failure)))
        return
    worker.run()


def main(path: int) -> None:
    """Run in a worker process; see :func:`fastloader.transport.child.run_child`."""
    run_child(serve, path)

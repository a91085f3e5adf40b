"""A worker process: fills the slots of its ring while there are free ones."""

from __future__ import annotations

import contextlib
import io
import json
from collections import deque
from dataclasses import asdict, astuple

from ..cache.file import Place, place_from
from ..errors import to_json
from ..fields.columns import columns_from
from ..options.config import Config
from ..system.limits import explained
from ..transport import messages
from ..transport.memory import map_keys
from ..transport.messages import Record
from ..transport.pipes import Channel
from ..transport.process import on_end, run_child
from ..transport.ring import Layout, Ring
from .producer import Producer
from .survey import Survey, snapshot_from


def specification(
    config: Config,
    found: Survey,
    layout: Layout,
    place: Place | None,
    *,
    slots: int,
    worker: int,
) -> bytes:
    """What :class:`Worker` is made of, as the payload of a SPEC record."""
    return json.dumps(
        {
            "config": config.as_dict(),
            "key_dtype": found.key_dtype,
            "columns": [astuple(column) for column in found.columns],
            "snapshot": found.snapshot and asdict(found.snapshot),
            "identity": found.identity,
            "slot_columns": [astuple(column) for column in layout.columns],
            "place": place and asdict(place),
            "slots": slots,
            "worker": worker,
        }
    ).encode()


class Worker:
    """One worker's state; :meth:`run` is its life."""

    def __init__(self, channel: Channel, spec: bytes, memory: io.FileIO, plan: io.FileIO) -> None:
        values = json.loads(spec)
        config = Config.from_dict(values["config"])
        self._channel = channel
        self._producer = Producer(
            config,
            map_keys(plan, values["key_dtype"]),
            columns_from(values["columns"]),
            snapshot=snapshot_from(values["snapshot"]),
            identity=values["identity"],
            worker=values["worker"],
            workers=config.workers,
            place=place_from(values["place"]),
        )
        layout = Layout.of(config.batch_size, columns_from(values["slot_columns"]))
        self._ring = Ring(memory, layout, values["slots"], allocate=False)
        self._free: deque[int] = deque()
        self._run = 0
        self._working = False  # False before the first start, and after an error

    def run(self) -> None:
        """Until the loader closes its end of the pipe: EOFError or BrokenPipeError."""
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
        """Takes in what the loader has to say, waiting for at least one record if asked to."""
        record = self._channel.receive(None if wait else 0)
        while record is not None:
            if record.kind == messages.FREE:
                self._free.append(record.slot)
            elif record.kind == messages.START:
                self._run = record.run
                self._working = True
                self._producer.start(record.epoch, record.batch)
            record = self._channel.receive(0)

    def _superseded(self, run: int) -> bool:
        self._listen(wait=False)
        return run != self._run

    def _fill(self) -> None:
        run, slot, producer = self._run, self._free[0], self._producer
        try:
            filled = producer.fill(self._ring.slot(slot), lambda: self._superseded(run))
        except (EOFError, BrokenPipeError):
            raise
        except Exception as error:
            self._working = False
            payload = to_json(explained(error, f"make batch {producer.batch}"))
            where = (producer.epoch, producer.batch)
            self._channel.send(Record(messages.ERROR, run, *where, payload=payload))
            return
        if run != self._run:
            return
        if filled is None:
            self._working = False
            return
        self._free.popleft()
        where, payload = (producer.epoch, producer.batch), filled.to_payload()
        self._channel.send(Record(messages.READY, run, *where, slot, filled.rows, payload))


def serve(channel: Channel, memory: io.FileIO, plan: io.FileIO) -> None:
    """Be a worker until the loader is closed."""
    record = channel.receive()
    assert record is not None
    assert record.kind == messages.SPEC
    try:
        worker = Worker(channel, record.payload, memory, plan)
    except Exception as error:
        payload = to_json(explained(error, "start a worker"))
        channel.send(Record(messages.ERROR, epoch=messages.NEVER, payload=payload))
        return
    worker.run()


def main(path: int) -> None:
    run_child(serve, path)

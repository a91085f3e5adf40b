"""The two pipes between a worker and its loader, and the records on them.

They say whose turn it is with a slot (``ring.py``) and end with whichever process ends.
"""

from __future__ import annotations

import io
import select
import struct
import time
from typing import NamedTuple

SURVEY, SPEC, FREE, START = 1, 2, 3, 4  # from the loader
SURVEYED, READY, ERROR = 5, 6, 7  # from the worker


class Record(NamedTuple):
    """What travels on a pipe, the same both ways; fields that a kind does not name are 0.

    SURVEY: payload, the configuration as JSON. To the process that surveys.
    SPEC: payload, the worker's specification as JSON. Once, before all that follow.
    FREE: slot.
    START: run, its number; epoch and batch, from which on the worker makes all of its batches, of
        this epoch and of those that follow. Whatever else it does it drops.
    SURVEYED: payload, what the survey found as JSON; the keys are in the plan's memory.
    READY: run, epoch, batch, slot, rows; payload, the rest of the batch as JSON.
    ERROR: run, epoch, batch that cannot be delivered; payload, the exception as JSON. The worker
        waits for the next START.
    """

    kind: int
    run: int = 0
    epoch: int = 0
    batch: int = 0
    slot: int = 0
    rows: int = 0
    payload: bytes = b""


class PipeBroken(Exception):
    """What came through a pipe is no record."""


class Channel:
    """One process's ends of the two pipes between it and its peer."""

    _HEADER = struct.Struct("<HHIqqqII")
    _MAGIC = 0xFA57

    def __init__(self, incoming: io.FileIO, outgoing: io.FileIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self._poll = select.poll()
        self._poll.register(incoming.fileno(), select.POLLIN)
        self._buffer = bytearray()

    def send(self, record: Record) -> None:
        """Raises BrokenPipeError once the peer is gone."""
        data = memoryview(
            self._HEADER.pack(
                self._MAGIC, record.kind, record.slot, record.run, record.epoch, record.batch,
                record.rows, len(record.payload),
            )
            + record.payload
        )  # fmt: skip
        while data:
            data = data[self._outgoing.write(data) or 0 :]

    def receive(self, timeout_s: float | None = None) -> Record | None:
        """The next record, waiting for it. Raises EOFError once the peer is gone; None when
        ``timeout_s`` has passed."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (record := self._parsed()) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
            if not self._poll.poll(left):
                return None
            data = self._incoming.read(65536)
            if not data:
                raise EOFError
            self._buffer += data
        return record

    def _parsed(self) -> Record | None:
        size = self._HEADER.size
        if len(self._buffer) < size:
            return None
        magic, kind, slot, run, epoch, batch, rows, payload = self._HEADER.unpack_from(self._buffer)
        if magic != self._MAGIC:
            raise PipeBroken
        if len(self._buffer) < size + payload:
            return None
        body = bytes(self._buffer[size : size + payload])
        del self._buffer[: size + payload]
        return Record(kind, run, epoch, batch, slot, rows, body)

    def fileno(self) -> int:
        """Of the incoming pipe."""
        return self._incoming.fileno()

    def close_outgoing(self) -> None:
        """Tells the peer that no more will come."""
        self._outgoing.close()

    def close(self) -> None:
        """May be called twice."""
        self._incoming.close()
        self._outgoing.close()

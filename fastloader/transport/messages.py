"""What the two processes on a pipe say to each other."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from ..observe.clock import Span
from ..observe.stats import Pictures
from ..plan.keys import Key, Keys, key_values

SURVEY, SPEC, FREE, START = 1, 2, 3, 4  # from the loader
SURVEYED, READY, ERROR, AWAKE = 5, 6, 7, 8  # from the worker

NEVER = -1
"""The epoch of an error that is no batch's."""


class Record(NamedTuple):
    """What travels on a pipe, the same both ways; fields that a kind does not name are 0.

    SURVEY: payload, the configuration as JSON. To the process that surveys.
    SPEC: payload, the worker's specification as JSON. Once, before all that follow.
    FREE: slot.
    START: run, its number; epoch and batch, from which on the worker makes all of its batches, of
        this epoch and of those that follow. Whatever else it does it drops.
    AWAKE: the process that surveys has started. Its first record.
    SURVEYED: payload, what the survey found as JSON; the keys are in the plan's memory.
    READY: run, epoch, batch, slot, rows; payload, the rest of the batch as JSON.
    ERROR: run, epoch, batch that cannot be delivered; payload, the exception as JSON. The worker
        waits for the next START. With epoch NEVER the worker could not begin at all, and ends.
    """

    kind: int
    run: int = 0
    epoch: int = 0
    batch: int = 0
    slot: int = 0
    rows: int = 0
    payload: bytes = b""


class Turn(NamedTuple):
    """One iteration of the loader: its epoch, in a run of epochs each of which began when all of
    the one before it had been handed out. A worker goes from one to the next by itself."""

    run: int
    epoch: int


class Times(NamedTuple):
    """What a batch has cost its worker, in seconds: the stages, and CPU time of all its threads."""

    fetch_s: float = 0.0
    source_wait_s: float = 0.0
    decode_s: float = 0.0
    slot_wait_s: float = 0.0
    cpu_s: float = 0.0

    def pack(self) -> bytes:
        return TIMES.pack(*self)


TIMES = struct.Struct(f"<{len(Times._fields)}d")
NO_TIMES = Times()


@dataclass
class Filled:
    """What a slot holds now, and what a slot cannot hold.

    rows: delivered ones.
    bad: (key, reason) of the rows that were dropped or filled.
    partial: (key, reason) of rows whose pictures end early and were filled up with grey.
    text: the values of each text column.
    passed_over: rows of the key range that are not in the plan: new since the keys were read.
    reconnects: of the source since the last batch.
    cached: rows that came out of the cache.
    pictures: that were decoded, by format.
    spans: of the worker's clocks since the last batch, if there is a trace: its own and the
        fetching thread's.
    notes: what the log should say once, of the cache's file; each is in every batch from then on.
    times: what the batch has cost.
    """

    rows: int
    bad: list[tuple[Key, str]] = field(default_factory=list)
    partial: list[tuple[Key, str]] = field(default_factory=list)
    text: dict[str, list[str]] = field(default_factory=dict)
    passed_over: int = 0
    reconnects: int = 0
    cached: int = 0
    pictures: dict[str, Pictures] = field(default_factory=dict)
    spans: list[list[Span]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    times: Times = NO_TIMES

    def to_payload(self) -> bytes:
        """Return all but the number of rows: the times, and the rest as JSON if there is any."""
        rest = [
            self.bad, self.partial, self.text, self.passed_over, self.reconnects, self.cached,
            self.pictures, self.spans, self.notes,
        ]  # fmt: skip
        return self.times.pack() + (json.dumps(rest).encode() if any(rest) else b"")

    @classmethod
    def from_payload(cls, rows: int, payload: bytes) -> Filled:
        """Return what :meth:`to_payload` wrote."""
        times, rest = Times(*TIMES.unpack_from(payload)), payload[TIMES.size :]
        if not rest:
            return cls(rows, times=times)
        (
            bad, partial, text, passed_over, reconnects, cached, pictures, spans, notes
        ) = json.loads(rest)  # fmt: skip
        return cls(
            rows, [*map(tuple, bad)], [*map(tuple, partial)], text, passed_over, reconnects, cached,
            {name: Pictures(*its) for name, its in pictures.items()},
            [[Span(*span) for span in thread] for thread in spans], notes, times,
        )  # fmt: skip


def by_key(keys: Keys, reasons: dict[int, str]) -> list[tuple[Key, str]]:
    """Return (key, reason) in the order of the positions. reasons: by position in ``keys``."""
    positions = sorted(reasons)
    shown = key_values(keys[positions]) if positions else []
    return [(key, reasons[i]) for key, i in zip(shown, positions, strict=True)]

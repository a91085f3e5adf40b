"""What there is to know of a batch beside its columns, on its way from a worker to the loader."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ..observe.clock import NO_TIMES, TIMES, Span, Times
from ..observe.stats import Pictures
from ..plan.keys import Key, Keys, key_values


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

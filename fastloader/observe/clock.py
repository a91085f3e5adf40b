"""Where the time goes: a clock for each thread that works, which is in one stage at a time.

A worker's own thread is at ``source_wait``, ``decode`` or ``slot_wait``, the thread beside it at
``fetch``; the consumer's is at ``wait``, ``hand_over`` or ``consumer``. See
:class:`fastloader.observe.stats.Stats` for what they mean. All processes of a machine read the same
``time.perf_counter()``.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

MOST_SPANS = 100_000
"""Of a clock that nobody reads; the oldest go."""


class Span(NamedTuple):
    """A stretch of time in one stage; start, end: ``time.perf_counter()`` in seconds."""

    stage: str
    start: float
    end: float


class Clock:
    """Adds up the seconds of each stage. One thread enters stages; any may read.

    traced: keep the spans too, for :mod:`fastloader.observe.trace`.

    A change of stage takes 0.4 us, traced 0.6; a lap 4 us. There are some ten changes and two laps
    for a batch, 12 us in all: 0.03 % of the 40 ms that a worker needs for 64 photographs.
    """

    def __init__(self, *, traced: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._spans: deque[Span] | None = deque(maxlen=MOST_SPANS) if traced else None
        self._stage: str | None = None
        self._since = 0.0

    def enter(self, stage: str | None) -> None:
        """Ends the stage under way and begins another; None for none."""
        if stage == self._stage:
            return
        now = time.perf_counter()
        self.settle(now)
        self._stage, self._since = stage, now

    def settle(self, now: float | None = None) -> None:
        """Counts the stage under way up to now."""
        now = time.perf_counter() if now is None else now
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
            if self._spans is not None:
                self._spans.append(Span(self._stage, self._since, now))
        self._since = now

    def spans(self) -> list[Span]:
        """Those since the last call."""
        found = []
        while self._spans:
            found.append(self._spans.popleft())
        return found


class Lap:
    """The seconds between one look at some clocks and the next, by stage."""

    def __init__(self, *clocks: Clock) -> None:
        self._clocks = clocks
        self._last: dict[str, float] = {}

    def end(self) -> dict[str, float]:
        now = {stage: s for clock in self._clocks for stage, s in clock.seconds.copy().items()}
        last, self._last = self._last, now
        return {f"{stage}_s": s - last.get(stage, 0.0) for stage, s in now.items()}

"""Where the time goes: each thread that works has a clock and is in one stage at a time.

A worker's main thread is in ``source_wait``, ``decode`` or ``slot_wait``, and its fetching thread
in ``fetch``. The consumer's thread is in ``wait``, ``hand_over`` or ``consumer``. See
:class:`fastloader.observe.stats.Stages` for what they mean. All processes of a machine read the
same ``time.perf_counter()``.
"""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

MOST_SPANS = 100_000
"""The limit for a clock whose spans nobody reads. The oldest ones are dropped."""


class Span(NamedTuple):
    """A stretch of time in one stage; start, end: ``time.perf_counter()`` in seconds."""

    stage: str
    start: float
    end: float


class Clock:
    """The seconds of each stage. One thread enters stages; any thread may read.

    A change of stage takes 0.4 us (0.6 us if traced), and a lap 4 us. A batch has about ten changes
    and two laps: 12 us, or 0.03 % of the 40 ms that a worker needs for 64 photographs.

    Parameters
    ----------
    traced
        Keep the spans too, for :mod:`fastloader.observe.trace`.

    Attributes
    ----------
    seconds
        The seconds of each stage so far.
    """

    def __init__(self, *, traced: bool = False) -> None:
        self.seconds: dict[str, float] = {}
        self._spans: deque[Span] | None = deque(maxlen=MOST_SPANS) if traced else None
        self._stage: str | None = None
        self._since = 0.0

    def enter(self, stage: str | None) -> None:
        """End the current stage and begin another, or none if it is None."""
        if stage == self._stage:
            return
        now = time.perf_counter()
        self.settle(now)
        self._stage, self._since = stage, now

    def settle(self, now: float | None = None) -> None:
        """Add the time of the current stage up to ``now``, a ``time.perf_counter()``."""
        now = time.perf_counter() if now is None else now
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + now - self._since
            if self._spans is not None:
                self._spans.append(Span(self._stage, self._since, now))
        self._since = now

    def spans(self) -> list[Span]:
        """Return the spans since the last call."""
        found = []
        while self._spans:
            found.append(self._spans.popleft())
        return found


class Lap:
    """The seconds of each stage between one reading of some clocks and the next."""

    def __init__(self, *clocks: Clock) -> None:
        self._clocks = clocks
        self._last: dict[str, float] = {}

    def end(self) -> dict[str, float]:
        """Return the seconds of each stage since the last call, by names such as "decode_s"."""
        now = {stage: s for clock in self._clocks for stage, s in clock.seconds.copy().items()}
        last, self._last = self._last, now
        return {f"{stage}_s": s - last.get(stage, 0.0) for stage, s in now.items()}

"""What has been delivered so far, in numbers, which rows were not as they should be, and what each
epoch has shown."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import fields

from .clock import Span
from .config import Config
from .keys import Key
from .machine import cores
from .producer import Filled
from .stats import Pictures, Stages, advice, bottleneck, together
from .trace import Trace

logger = logging.getLogger("fastloader")

ARRIVALS = 4096
"""Of these many batches it is known when they were handed out: more than any pipeline holds."""


class Tally:
    """Counts batches, and says in the log what a user should know. The loader's lock guards it.

    config: of the loader. trace: to note the epochs in.

    counts: of the same names in :class:`fastloader.Stats`. seconds: likewise.
    pictures: decoded ones by format.
    bad, partial: reasons by key.
    arrivals: (number in ``progress.py``'s count, time.perf_counter(), rows) of the last batches.
    """

    def __init__(self, config: Config, trace: Trace | None) -> None:
        self._config = config
        self._trace = trace
        names = (
            "epochs", "batches", "rows", "bad_rows", "partial_rows", "passed_over", "reconnects",
            "cached_rows",
        )  # fmt: skip
        self.counts = dict.fromkeys(names, 0)
        self.seconds = dict.fromkeys((field.name for field in fields(Stages)), 0.0)
        self.pictures: dict[str, Pictures] = {}
        self.bad: dict[Key, str] = {}
        self.partial: dict[Key, str] = {}
        self.arrivals: deque[tuple[int, float, int]] = deque(maxlen=ARRIVALS)
        self._epoch, self._began, self._counts_before = 0, 0.0, self.counts
        self._seconds_before = self.seconds

    def begin(self, epoch: int) -> None:
        """An epoch."""
        self._epoch, self._began = epoch, time.perf_counter()
        self._counts_before, self._seconds_before = self.counts.copy(), self.seconds.copy()
        self.counts["epochs"] += 1

    def add(
        self, filled: Filled, number: int | None, now: float
    ) -> tuple[list[tuple[Key, str]], list[tuple[Key, str]]]:
        """Counts a batch. Returns the new bad rows and the new partial ones."""
        self.spend(filled.times._asdict())
        self.counts["batches"] += 1
        self.counts["rows"] += filled.rows
        self.counts["bad_rows"] += len(filled.bad)
        self.counts["partial_rows"] += len(filled.partial)
        self.counts["passed_over"] += filled.passed_over
        self.counts["reconnects"] += filled.reconnects
        self.counts["cached_rows"] += filled.cached
        self.pictures = together(self.pictures, filled.pictures)
        if number is not None:
            self.arrivals.append((number, now, filled.rows))
        new = [row for row in filled.bad if row[0] not in self.bad]
        cut = [row for row in filled.partial if row[0] not in self.partial]
        self.bad.update(new)
        self.partial.update(cut)
        return new, cut

    def spend(self, seconds: Mapping[str, float]) -> None:
        """Counts the time of stages."""
        for stage, s in seconds.items():
            self.seconds[stage] += s

    def end_of_epoch(self) -> str:
        """What the epoch under way has shown, now that its last batch is there."""
        now = time.perf_counter()
        rows, cached = (
            self.counts[name] - self._counts_before[name] for name in ("rows", "cached_rows")
        )
        seconds = {name: s - self._seconds_before[name] for name, s in self.seconds.items()}
        stages, workers, took_s = Stages(**seconds), self._config.workers, now - self._began
        found = advice(stages, workers=workers, cores=cores())
        if self._trace is not None:
            epoch = Span(f"epoch {self._epoch}", self._began, now)
            where = bottleneck(stages, workers)
            self._trace.spans("epochs", [epoch], rows=rows, bottleneck=where, advice=found)
        kept = "" if self._config.cache is None else f"{cached} of them from the cache; "
        return (
            f"epoch {self._epoch}: {rows} rows in {took_s:.1f} s, {rows / took_s:.0f} images/s; "
            f"{kept}{found}"
        )

    def report(
        self, batch: int, filled: Filled, new: list[tuple[Key, str]], cut: list[tuple[Key, str]]
    ) -> None:
        """Says in the log what :meth:`add` found. Needs no lock."""
        if filled.reconnects:
            logger.warning(
                "batch %d: the connection to the database was lost and made again", batch
            )
        if new:
            done = "dropped" if self._config.on_error == "skip" else "filled with zeros"
            logger.warning(
                "batch %d: %d bad rows %s; the first is key %s: %s (all: loader.bad_rows)",
                batch, len(new), done, *new[0],
            )  # fmt: skip
        if cut:
            logger.warning(
                "batch %d: %d of the pictures end early and were filled up with grey; the first is "
                "key %s: %s (all: loader.partial_rows; strict=True makes them bad rows)",
                batch, len(cut), *cut[0],
            )  # fmt: skip

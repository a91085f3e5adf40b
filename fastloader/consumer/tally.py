"""Counts what a loader has delivered, and says in the log what a user should know.

It runs in the training process.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

from ..batches.schema import leaves_out_empty
from ..observe.clock import Span
from ..observe.stats import Pictures, Stages, advice, bottleneck, together
from ..observe.trace import Trace
from ..options.config import Config
from ..plan.keys import Key
from ..system.machine import cores
from ..transport.messages import Filled

logger = logging.getLogger("fastloader")

COUNTS = (
    "epochs", "batches", "rows", "bad_rows", "partial_rows", "dropped_rows", "passed_over",
    "reconnects", "cached_rows",
)  # fmt: skip
STAGES = tuple(field.name for field in fields(Stages))

ARRIVALS = 4096
"""For how many of the last batches the time of arrival is kept: more than any pipeline holds."""


class Totals(NamedTuple):
    """What has been delivered so far.

    Totals are never changed, only replaced as a whole, so a reader needs no lock.

    Attributes
    ----------
    counts
        The counts of :class:`fastloader.Stats`, by name.
    seconds
        The times of :class:`fastloader.Stats`, by stage.
    pictures
        The decoded images, by format.
    """

    counts: Mapping[str, int]
    seconds: Mapping[str, float]
    pictures: Mapping[str, Pictures]


class Tally:
    """Counts batches, and reports what is wrong with them.

    The loader's lock guards :meth:`begin` and :meth:`add`. Readers need no lock; see
    :class:`fastloader.consumer.progress.Progress`.

    Parameters
    ----------
    config
        The options of the loader.
    trace
        The trace that the epochs are noted in, if there is one.

    Attributes
    ----------
    totals
        The totals so far, without what :meth:`leave_behind` has left and :meth:`add` has not yet
        added.
    bad, partial
        Reasons by key, of the bad and of the partial rows.
    arrivals
        (number, time.perf_counter(), rows) of the last batches; the number is that of the count in
        :class:`fastloader.consumer.progress.Progress`.
    """

    def __init__(self, config: Config, trace: Trace | None) -> None:
        self._config = config
        self._trace = trace
        self.totals = Totals(dict.fromkeys(COUNTS, 0), dict.fromkeys(STAGES, 0.0), {})
        self.bad: dict[Key, str] = {}
        self.partial: dict[Key, str] = {}
        self.arrivals: deque[tuple[int, float, int]] = deque(maxlen=ARRIVALS)
        self._left_behind: deque[Mapping[str, float]] = deque()
        self._notes: set[str] = set()
        self._epoch, self._began, self._before = 0, 0.0, self.totals

    def begin(self, epoch: int) -> None:
        """Begin an epoch."""
        self._epoch, self._began, self._before = epoch, time.perf_counter(), self.totals
        counts = self.totals.counts
        self.totals = self.totals._replace(counts={**counts, "epochs": counts["epochs"] + 1})

    def add(
        self, filled: Filled, number: int | None, now: float, seconds: Mapping[str, float]
    ) -> tuple[list[tuple[Key, str]], list[tuple[Key, str]]]:
        """Count a batch, and the time that its consumer has spent.

        Parameters
        ----------
        filled
            The batch.
        number
            Its number in the count of ``Progress``; None for a batch of an older iteration.
        now
            When it was handed out, by time.perf_counter().
        seconds
            What its consumer has spent on the batch before, by stage.

        Returns
        -------
        new, cut : list of (key, reason)
            The bad rows and the partial rows that were not known before.
        """
        if number is not None:
            self.arrivals.append((number, now, filled.rows))
        new = [row for row in filled.bad if row[0] not in self.bad]
        cut = [row for row in filled.partial if row[0] not in self.partial]
        self.bad.update(new)
        self.partial.update(cut)
        here = self.totals
        counts, total = dict(here.counts), dict(here.seconds)
        counts["batches"] += 1
        counts["rows"] += filled.rows
        counts["bad_rows"] += len(filled.bad)
        counts["partial_rows"] += len(filled.partial)
        counts["dropped_rows"] += filled.dropped
        counts["passed_over"] += filled.passed_over
        counts["reconnects"] += filled.reconnects
        counts["cached_rows"] += filled.cached
        add_to(total, seconds)
        add_to(total, filled.times._asdict())
        while self._left_behind:
            add_to(total, self._left_behind.popleft())
        self.totals = Totals(counts, total, together(here.pictures, filled.images))
        return new, cut

    def leave_behind(self, seconds: Mapping[str, float]) -> None:
        """Count the time of stages, from a finalizer.

        A finalizer may run in the middle of anything, so this takes no lock.
        """
        self._left_behind.append(seconds)

    def now(self) -> Totals:
        """Return everything that has been counted."""
        while True:
            totals = self.totals
            seconds = dict(totals.seconds)
            for left_behind in self._left_behind.copy():
                add_to(seconds, left_behind)
            if self.totals is totals:
                return totals._replace(seconds=seconds)

    def end_of_epoch(self) -> str:
        """Return the line for the log that sums up the epoch, once its last batch has come."""
        now = time.perf_counter()
        totals, before = self.totals, self._before
        rows, cached = (
            totals.counts[name] - before.counts[name] for name in ("rows", "cached_rows")
        )
        seconds = {name: s - before.seconds[name] for name, s in totals.seconds.items()}
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
        """Say in the log what :meth:`add` found. Needs no lock."""
        for note in filled.notes:
            if note not in self._notes:
                self._notes.add(note)
                logger.warning("%s", note)
        if filled.reconnects:
            logger.warning("batch %d: the connection to the database was lost and restored", batch)
        if new:
            done = "dropped" if self._config.on_error == "skip" else "filled with zeros"
            logger.warning(
                "batch %d: %d bad %s %s; the first is key %s: %s (all: loader.bad_rows)",
                batch, len(new), "row" if len(new) == 1 else "rows", done, *new[0],
            )  # fmt: skip
        if new and not filled.rows and not leaves_out_empty(self._config):
            logger.warning(
                "batch %d has no rows left and is delivered empty, because the other shards take "
                "this step too",
                batch,
            )
        if cut:
            end = "image ends early or is" if len(cut) == 1 else "images end early or are"
            logger.warning(
                "batch %d: %d %s damaged, and the missing pixels are gray; the first is key %s: %s "
                "(all: loader.partial_rows; strict=True makes them bad rows)",
                batch, len(cut), end, *cut[0],
            )  # fmt: skip


def add_to(total: dict[str, float], seconds: Mapping[str, float]) -> None:
    """Add the seconds of each stage to the total of that stage."""
    for stage, s in seconds.items():
        total[stage] += s

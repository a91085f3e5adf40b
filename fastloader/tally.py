"""What has been delivered so far, in numbers, and which rows were not as they should be."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from .keys import Key
from .producer import Filled

logger = logging.getLogger("fastloader")

ARRIVALS = 4096
"""Of these many batches it is known when they were handed out: more than any pipeline holds."""


class Tally:
    """Counts batches, and says in the log what a user should know. The loader's lock guards it.

    on_error: of the configuration.
    """

    def __init__(self, on_error: str) -> None:
        self._on_error = on_error
        names = ("batches", "rows", "bad_rows", "partial_rows", "passed_over", "reconnects")
        self.counts = dict.fromkeys(names, 0)
        self.wait_s = 0.0
        self.bad: dict[Key, str] = {}
        self.partial: dict[Key, str] = {}
        self.arrivals: deque[tuple[int, float, int]] = deque(maxlen=ARRIVALS)
        """(number in ``progress.py``'s count, time.perf_counter(), rows) of the last batches."""

    def add(self, filled: Filled, waited_s: float, number: int | None, now: float) -> list[Any]:
        """Counts a batch. Returns the new bad rows and the new partial ones."""
        self.wait_s += waited_s
        self.counts["batches"] += 1
        self.counts["rows"] += filled.rows
        self.counts["bad_rows"] += len(filled.bad)
        self.counts["partial_rows"] += len(filled.partial)
        self.counts["passed_over"] += filled.passed_over
        self.counts["reconnects"] += filled.reconnects
        if number is not None:
            self.arrivals.append((number, now, filled.rows))
        new = [row for row in filled.bad if row[0] not in self.bad]
        cut = [row for row in filled.partial if row[0] not in self.partial]
        self.bad.update(new)
        self.partial.update(cut)
        return [new, cut]

    def report(self, batch: int, filled: Filled, new: list[Any], cut: list[Any]) -> None:
        """Says in the log what :meth:`add` found. Needs no lock."""
        if filled.reconnects:
            logger.warning(
                "batch %d: the connection to the database was lost and made again", batch
            )
        if new:
            done = "dropped" if self._on_error == "skip" else "filled with zeros"
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

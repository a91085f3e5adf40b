"""Which batches a worker makes, and which of their rows it has to fetch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..cache.rows import CachedRows
from ..plan.keys import Keys
from ..plan.mixture import Portion
from ..plan.order import Positions, Rows, Uniform
from ..plan.plan import KeyRange, Plan, key_ranges
from .planned import Planned

STRETCH_ROWS = 4096
"""Of so many rows the order is computed at a time: of 64 rows, calling NumPy takes most of the
time. Larger stretches gain no more."""


class Assignment:
    """The batches of one worker. Both of its threads ask, one of them ahead of the other.

    Parameters
    ----------
    planned
        The rows of the table, and the plan of their batches.
    worker, workers
        Batch ``j`` belongs to worker ``j % workers``.
    cached
        The rows that need not be fetched, if there is a cache.
    """

    def __init__(
        self, planned: Planned, *, worker: int, workers: int, cached: CachedRows | None
    ) -> None:
        self._plan, self._keys, self._follows = planned
        self._worker, self._workers = worker, workers
        self._cached = cached
        self._rest = (0, 0)  # an epoch that begins after some rows, and how many they are
        self._in_stretch = max(1, STRETCH_ROWS // self._plan.batch_size)
        self._lock = threading.Lock()
        self._stretches: dict[tuple[Plan, int, int], list[Rows]] = {}

    def join(self, portion: Portion) -> None:
        """Make a part of a mixture from now on. The next time changes nothing."""
        self._plan = portion.plan(self._plan)

    def start(self, epoch: int, first_row: int) -> None:
        """Note that an epoch begins after its first rows."""
        self._rest = (epoch, first_row)

    def plan(self, epoch: int) -> Plan:
        """Return the plan of an epoch."""
        rest, first_row = self._rest
        return self._plan.rest(first_row) if epoch == rest else self._plan

    def batches(self, epoch: int, first: int, last_epoch: int | None) -> Iterator[tuple[int, int]]:
        """Yield (epoch, batch) of what the worker makes, epoch after epoch.

        Parameters
        ----------
        first
            Batches of the first epoch that come before this one are left out.
        last_epoch
            Where to stop; None for never.
        """
        while last_epoch is None or epoch <= last_epoch:
            each = self.plan(epoch).batches_of(self._worker, self._workers)
            if not each and epoch != self._rest[0]:
                return
            yield from ((epoch, batch) for batch in each if batch >= first)
            epoch, first = epoch + 1, 0

    def following(self, epoch: int, batch: int) -> tuple[int, int]:
        """Return epoch and number of the worker's batch after this one."""
        batch += self._workers
        return (epoch, batch) if batch < len(self.plan(epoch)) else (epoch + 1, self._worker)

    def rows(self, epoch: int, batch: int) -> tuple[Rows, Positions]:
        """Return the rows of a batch and which of them have to be fetched.

        Returns
        -------
        rows
            The rows, in the order of delivery.
        fetched
            The places in ``rows`` of those that are not in the cache.
        """
        stretch, at = divmod((batch - self._worker) // self._workers, self._in_stretch)
        plan = self.plan(epoch)
        rows = self._stretch(plan, epoch, stretch)[at]
        if self._cached is None:
            return rows, np.arange(len(rows.positions))
        missing = self._cached.missing((epoch, plan.first_row, batch), rows.positions)
        return rows, np.flatnonzero(missing)

    def _stretch(self, plan: Plan, epoch: int, stretch: int) -> list[Rows]:
        """Return the rows of some of the worker's batches."""
        where = plan, epoch, stretch
        with self._lock:
            if where not in self._stretches:
                begin = stretch * self._in_stretch
                batches = plan.batches_of(self._worker, self._workers)
                found = plan.read(epoch, batches[begin : begin + self._in_stretch])
                # One for each thread is enough, unless one of them is about to begin an epoch.
                for oldest in [*self._stretches][:-3]:
                    del self._stretches[oldest]
                self._stretches[where] = found
            return self._stretches[where]

    def keys(self, positions: Positions) -> Keys:
        """Return the keys of rows."""
        return self._keys[positions]

    def ranges(self, positions: Positions) -> list[KeyRange]:
        """Return the key ranges that have to be read for rows."""
        return key_ranges(self._keys, positions, self._follows)

    def ranges_from(self, epoch: int, first_batch: int) -> Iterator[KeyRange]:
        """Yield the key ranges to read in an epoch, from a batch on."""
        for batch in self.plan(epoch).batches_of(self._worker, self._workers, first_batch):
            rows, fetched = self.rows(epoch, batch)
            yield from self.ranges(rows.positions[fetched])

    def close(self) -> None:
        """Let go of the keys, and with them of the plan's memory."""
        self._keys = self._keys[:0].copy()
        self._follows = None
        self._stretches.clear()
        self._plan = replace(self._plan, order=Uniform(self._plan.order.rows))

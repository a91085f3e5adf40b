"""Which batches a worker makes, and which of their rows it has to fetch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..cache.rows import CachedRows
from ..options.config import Config
from ..plan.keys import Keys
from ..plan.order import Positions
from ..plan.plan import KeyRange, Plan, key_ranges


class Assignment:
    """The batches of one worker. Both of its threads ask, one of them ahead of the other.

    Parameters
    ----------
    config
        The loader's options.
    keys
        The keys of the table in its order, (rows,).
    worker, workers
        Batch ``j`` belongs to worker ``j % workers``.
    cached
        The rows that need not be fetched, if there is a cache.
    follows
        Which rows follow the one before in the table; see :func:`~fastloader.plan.plan.key_ranges`.
    """

    def __init__(
        self,
        config: Config,
        keys: Keys,
        *,
        worker: int,
        workers: int,
        cached: CachedRows | None,
        follows: NDArray[np.bool_] | None = None,
    ) -> None:
        self._follows = follows
        self._plan = Plan.of(config, len(keys))
        self._keys = keys
        self._worker, self._workers = worker, workers
        self._cached = cached

    def batches(self, epoch: int, first: int, last_epoch: int | None) -> Iterator[tuple[int, int]]:
        """Yield (epoch, batch) of what the worker makes, epoch after epoch.

        Parameters
        ----------
        first
            Batches of the first epoch that come before this one are left out.
        last_epoch
            Where to stop; None for never.
        """
        each = self._plan.batches_of(self._worker, self._workers)
        while each and (last_epoch is None or epoch <= last_epoch):
            yield from ((epoch, batch) for batch in each if batch >= first)
            epoch, first = epoch + 1, 0

    def following(self, epoch: int, batch: int) -> tuple[int, int]:
        """Return epoch and number of the worker's batch after this one."""
        batch += self._workers
        return (epoch, batch) if batch < len(self._plan) else (epoch + 1, self._worker)

    def rows(self, epoch: int, batch: int) -> tuple[Positions, Positions]:
        """Return the rows of a batch and which of them have to be fetched.

        Returns
        -------
        positions
            Where the rows stand in the key column, (rows,), in the order of delivery.
        fetched
            The places in ``positions`` of the rows that are not in the cache.
        """
        positions = self._plan.positions(epoch, batch)
        if self._cached is None:
            return positions, np.arange(len(positions))
        return positions, np.flatnonzero(self._cached.missing(epoch, batch, positions))

    def keys(self, positions: Positions) -> Keys:
        """Return the keys of rows."""
        return self._keys[positions]

    def ranges(self, positions: Positions) -> list[KeyRange]:
        """Return the key ranges that have to be read for rows."""
        return key_ranges(self._keys, positions, self._follows)

    def ranges_from(self, epoch: int, first_batch: int) -> Iterator[KeyRange]:
        """Yield the key ranges to read in an epoch, from a batch on."""
        for batch in self._plan.batches_of(self._worker, self._workers, first_batch):
            positions, fetched = self.rows(epoch, batch)
            yield from self.ranges(positions[fetched])

    def close(self) -> None:
        """Let go of the keys, and with them of the plan's memory."""
        self._keys = self._keys[:0].copy()
        self._follows = None

"""Which rows of a batch come out of the cache file, and which decoded rows go into it.

It runs in each process that makes batches. The file itself is in :mod:`fastloader.cache.file`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..batches.schema import Arrays
from ..fields.ragged_rows import RaggedRows
from ..options.config import Config
from ..plan.order import Positions
from ..source.opening import state_holds
from .file import Cache, Place

Where: TypeAlias = tuple[int, int, int]
"""A batch: its epoch, the row that the epoch's batches begin after, and its number."""


class CachedRows:
    """The cache as a producer sees it.

    Two threads ask about each batch: first the fetching thread, which fetches the rows that are
    missing, then the thread that fills the slot. Other processes add rows meanwhile, so whichever
    thread is first decides for both.

    Parameters
    ----------
    config
        The loader's options.
    place
        The file, which may turn out to be missing or broken: see :attr:`notes`.
    """

    def __init__(self, config: Config, place: Place) -> None:
        self._config, self._state = config, place.state
        self._cache = Cache(place)
        self._lock = threading.Lock()
        self._again: dict[Where, NDArray[np.bool_]] = {}
        self._failed: Where = (-1, -1, -1)  # the last batch that has to be made again
        self.start()

    @property
    def notes(self) -> list[str]:
        """What is wrong with the cache file, for the log."""
        return [*self._cache.notes]

    def start(self) -> None:
        """Begin another run, but keep what :meth:`complete` has decided about a batch."""
        with self._lock:
            self._decided, self._again = self._again, {}
            self._done: Where = (-1, -1, -1)  # the last batch that was completed

    def missing(self, where: Where, positions: Positions) -> NDArray[np.bool_]:
        """Return which of a batch's rows have to be fetched, (n,). Either thread may ask."""
        with self._lock:
            if where <= self._done:  # complete, because no row had to be fetched
                return np.zeros(len(positions), np.bool_)
            if where not in self._decided:
                found = self._cache.holds(positions)
                if found.any() and not self._state_holds():
                    found[:] = False
                self._decided[where] = ~found
            return self._decided[where]

    def complete(
        self,
        where: Where,
        positions: Positions,
        *,
        decoded: Sequence[int],
        targets: Arrays,
        ragged: Mapping[str, RaggedRows],
        bad: Collection[int],
    ) -> bool:
        """Complete a batch with the rows of the cache, and store its decoded rows there.

        Parameters
        ----------
        where
            The batch.
        positions
            The rows of the batch in the key column, (n,).
        decoded
            The places in the batch of the rows that were decoded. These rows are the first ones in
            ``targets``, and are moved to their places.
        targets
            The arrays of the batch.
        ragged
            The rows of the other columns, in their places already.
        bad
            The places of rows that must not be stored.

        Returns
        -------
        bool
            False if some rows are not in the cache after all, or if the table has changed since
            they were chosen, which may be an epoch ago. Then the batch cannot be used. After
            :meth:`start`, :meth:`missing` names all rows that are missing.
        """
        for target in targets.values():
            for i, at in reversed(list(enumerate(decoded))):
                if i != at:
                    target[at] = target[i]
        rows = self._cache.rows({name: c[: len(positions)] for name, c in targets.items()})
        cached = sorted(set(range(len(positions))).difference(decoded))
        holds = self._state_holds()
        wrong = [
            at
            for at in cached
            if not holds or not self._cache.load(positions[at], rows, ragged, at)
        ]
        if holds:
            for at in set(decoded).difference(bad):
                self._cache.store(positions[at], rows, ragged, at)
        with self._lock:
            if wrong:
                # The decoded rows are in the cache now, and need not be decoded again. But a disk
                # may lose them, so the third time the cache is not asked for any row.
                missing = ~self._cache.holds(positions)
                missing[wrong if holds and where != self._failed else slice(None)] = True
                self._again, self._failed = {where: missing}, where
            else:
                del self._decided[where]
                self._done = where
        return not wrong

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._cache.close()

    def _state_holds(self) -> bool:
        """Return whether the table is still in the state that the rows were cached in."""
        with contextlib.suppress(OSError):
            return state_holds(self._config, self._state)
        return False

"""Which rows of which batch come out of the cache, and the way there and back."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from .cache import Cache, Place
from .config import Config
from .order import Positions
from .ring import KEYS, Arrays
from .source import state_holds


class CachedRows:
    """The cache as a producer sees it.

    A batch is looked at twice: by the fetching thread, which fetches the rows that are missing, and
    by the one that fills the slot. Other processes add rows meanwhile, so whoever is first decides
    for both.
    """

    def __init__(self, config: Config, place: Place) -> None:
        self._config, self._state = config, place.state
        self._cache = Cache(place)
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """Another run begins."""
        with self._lock:
            self._decided: dict[tuple[int, int], NDArray[np.bool_]] = {}
            self._done = (-1, -1)  # the last batch that was completed

    def missing(self, epoch: int, batch: int, positions: Positions) -> NDArray[np.bool_]:
        """Which of a batch's rows have to be fetched, (n,). For either thread."""
        where = (epoch, batch)
        with self._lock:
            if where <= self._done:  # it is complete, and nothing of it had to be fetched
                return np.zeros(len(positions), np.bool_)
            if where not in self._decided:
                found = self._cache.holds(positions)
                if found.any() and not state_holds(self._config, self._state):
                    found[:] = False
                self._decided[where] = ~found
            return self._decided[where]

    def complete(
        self,
        epoch: int,
        batch: int,
        positions: Positions,
        decoded: Sequence[int],
        targets: Arrays,
        *,
        bad: Collection[int],
    ) -> bool:
        """Moves the rows that were missing, which are the first in ``targets``, to their places
        ``decoded``, keeps them unless they are ``bad``, and puts cached ones between them. False if
        one of these is not there after all, or the table has changed since they were chosen, which
        may be an epoch ago; the batch is of no use then."""
        for target in targets.values():
            for i, at in reversed(list(enumerate(decoded))):
                if i != at:
                    target[at] = target[i]
        text = {name: column for name, column in targets.items() if column.dtype == object}
        rows = self._cache.rows({name: c[: len(positions)] for name, c in targets.items()})
        cached = sorted(set(range(len(positions))).difference(decoded))
        if cached and not state_holds(self._config, self._state):
            return False
        for at in cached:
            words = self._cache.load(int(positions[at]), rows, at)
            if words is None:
                return False
            for name, value in words.items():
                text[name][at] = value
        if decoded and state_holds(self._config, self._state):
            for at in set(decoded).difference(bad):
                words = {name: column[at] for name, column in text.items() if name != KEYS}
                self._cache.store(int(positions[at]), rows, at, words)
        with self._lock:
            del self._decided[epoch, batch]
            self._done = (epoch, batch)
        return True

    def close(self) -> None:
        """May be called twice."""
        self._cache.close()

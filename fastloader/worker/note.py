"""Where a worker notes which row a function of the user's has, for when it dies or never returns.

The note is in the memory of the ring, which outlives the worker.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

NOWHERE = -1
"""The position while no function runs."""


class Note:
    """The note of one worker.

    Parameters
    ----------
    numbers
        int64 (2,): the position of the row in the keys of the table, and since when the function
        has been running, by ``time.monotonic_ns()``, which all processes share.
    """

    def __init__(self, numbers: NDArray[np.int64]) -> None:
        self._numbers = memoryview(numbers)  # type: ignore[arg-type]

    def enter(self, position: int) -> None:
        """Note that a function begins with a row, or with the batch that begins with it."""
        self._numbers[1] = time.monotonic_ns()
        self._numbers[0] = position

    def leave(self) -> None:
        """Note that no function runs."""
        self._numbers[0] = NOWHERE

    @property
    def position(self) -> int:
        """The position of the row. A worker may have written anything."""
        return int(self._numbers[0])

    @property
    def runs_s(self) -> float:
        """For how many seconds the function has been running; 0 if none runs."""
        if self.position == NOWHERE:
            return 0.0
        return (time.monotonic_ns() - int(self._numbers[1])) / 1e9

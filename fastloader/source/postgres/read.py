"""Which key ranges of a read are still to come, so that it can be resumed on a new connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from ...plan.keys import Key

SEGMENT_RANGES = 1000
"""Key ranges that one cursor goes through: 20 KB of SQL for integers."""


class Read:
    """What is still to come of a read.

    pending: key ranges that are not finished, from number ``first`` of the read on.
    done: the last key that has come of the first of them.
    base, end: numbers of the cursor's first range and of the one after its last.
    """

    def __init__(self, ranges: Iterable[tuple[Key, Key]]) -> None:
        self._ranges = iter(ranges)
        self.pending: deque[tuple[Key, Key]] = deque()
        self.first = self.base = self.end = 0
        self.done: Key | None = None

    def fill(self) -> bool:
        """Takes up ranges for a cursor; False when there are no more."""
        self.pending.extend(islice(self._ranges, SEGMENT_RANGES - len(self.pending)))
        return bool(self.pending)

    def declare(self) -> None:
        """A cursor begins here."""
        self.base, self.end = self.first, self.first + len(self.pending)

    def advance(self, number: int, key: Key) -> None:
        """All has come up to this key of the range with this number."""
        self._drop(number)
        self.done = key

    def finish(self) -> None:
        """The cursor has no more."""
        self._drop(self.end)
        self.done = None

    def _drop(self, number: int) -> None:
        while self.first < number:
            self.pending.popleft()
            self.first += 1

    def __str__(self) -> str:
        first, last = self.pending[0]
        return f"keys {first} to {last}" if self.done is None else f"keys after {self.done}"

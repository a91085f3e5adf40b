"""Keep track of a read, so that it can be resumed on a new connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from ...plan.keys import Key

SEGMENT_RANGES = 1000
"""The number of key ranges in one query: 20 KB of SQL for integers."""


class Read:
    """The part of a read that is still to come.

    Key ranges are numbered from 0 in the order of the read.

    Parameters
    ----------
    ranges
        First and last key of each range, both inclusive.

    Attributes
    ----------
    pending
        The key ranges that have been taken up and are not finished.
    first
        The number of the first pending range.
    done
        The last key that was read of the first pending range, or None.
    base, end
        The numbers of the query's first range and of the one after its last.
    """

    def __init__(self, ranges: Iterable[tuple[Key, Key]]) -> None:
        self._ranges = iter(ranges)
        self.pending: deque[tuple[Key, Key]] = deque()
        self.first = self.base = self.end = 0
        self.done: Key | None = None

    def fill(self) -> bool:
        """Take up ranges for a query, and return whether any are pending."""
        self.pending.extend(islice(self._ranges, SEGMENT_RANGES - len(self.pending)))
        return bool(self.pending)

    def declare(self) -> None:
        """Note that a new query goes through the pending ranges."""
        self.base, self.end = self.first, self.first + len(self.pending)

    def advance(self, number: int, key: Key) -> None:
        """Note that all rows were read up to this key of the range with this number."""
        self._drop(number)
        self.done = key

    def finish(self) -> None:
        """Note that the query has no more rows."""
        self._drop(self.end)
        self.done = None

    def _drop(self, number: int) -> None:
        while self.first < number:
            self.pending.popleft()
            self.first += 1

    def __str__(self) -> str:
        first, last = self.pending[0]
        return f"keys {first} to {last}" if self.done is None else f"keys after {self.done}"

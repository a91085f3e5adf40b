"""How many dead workers a loader replaces before it gives up."""

from __future__ import annotations


class RestartBudget:
    """The restarts that are left in an epoch, shared by all workers of a loader.

    Parameters
    ----------
    max_restarts
        Restarts per epoch.

    Attributes
    ----------
    total
        Workers that were replaced so far, in all epochs.
    """

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._left = max_restarts
        self.total = 0

    def begin(self) -> None:
        """Begin an epoch, with the full budget."""
        self._left = self._max_restarts

    def spend(self) -> bool:
        """Spend one restart. Return whether there was one left."""
        self._left -= 1
        self.total += self._left >= 0
        return self._left >= 0

"""How several threads and signal handlers share the keeper of a ring."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from ..errors import CLOSED, ClosedError, FastloaderError, SupersededError
from ..transport.messages import Turn

T = TypeVar("T")


NO_TURN = Turn(0, -1)
"""The turn of a keeper before its first one."""


def superseded(turn: Turn, current: Turn) -> SupersededError:
    """Return the error for an iteration that has ended because a newer one has begun."""
    if current == NO_TURN:
        return SupersededError(
            f"this iteration (epoch {turn.epoch}) has ended because refresh() has read the table "
            f"again; iterate again"
        )
    return SupersededError(
        f"this iteration (epoch {turn.epoch}) has ended because a newer one (epoch "
        f"{current.epoch}) of the same loader has begun; a loader serves one at a time. For two at "
        f"once, make two loaders"
    )


class Gate:
    """Base class of a keeper: lets in one thread at a time, and cleans up once nobody is inside.

    A signal handler may close the keeper on the very thread that is inside. The handler must
    neither wait for that thread nor take away what it is using. So the thread itself releases
    everything as it leaves.
    """

    def __init__(self) -> None:
        self._gate = threading.RLock()  # reentrant, for the signal handler
        self._is_inside = False
        self._is_shut = False
        self._turn = NO_TURN

    def _check(self, turn: Turn) -> None:
        """Raise the error that says why a turn has ended, if it has."""
        current = self._turn
        if self._is_shut:
            raise ClosedError(CLOSED)
        if turn != current:
            raise superseded(turn, current)

    def _run(self, what: Callable[[], T]) -> T:
        """Call ``what`` inside the gate and return what it returns."""
        with self._gate:
            if self._is_inside:
                raise FastloaderError(
                    "a signal handler or finalizer cannot take batches from a loader while the "
                    "code that it has interrupted takes one: set a flag there, and let the loop "
                    "act on it"
                )
            try:
                self._is_inside = True
                return what()
            except Exception:
                if self._is_shut:  # which took away what was needed
                    raise ClosedError(CLOSED) from None
                raise
            finally:
                self._is_inside = False
                if self._is_shut:
                    self._put_away()

    def close(self, *, patient: bool = True) -> None:
        """Release everything, now or when the thread that is inside leaves.

        See :meth:`fastloader.consumer.feeder.Feeder.close`.
        """
        self._is_shut = True
        with self._gate:
            if not self._is_inside:
                self._put_away(patient=patient)

    def _put_away(self, *, patient: bool = True) -> None:
        """Release everything. May be called more than once, and in the middle of itself."""
        raise NotImplementedError

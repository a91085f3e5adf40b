"""What a loader asks of one ring's keeper, and what all keepers share.

There are two: ``supervisor.py`` has a worker process fill the ring, ``in_process.py`` fills it in
the thread that asks for a batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar

from ..errors import ClosedError, FastloaderError, SupersededError
from ..fields.slots import Arrays
from ..transport.messages import Filled, Turn
from ..transport.process import Process
from ..transport.ring import Ring

T = TypeVar("T")


class Taken(NamedTuple):
    """A batch on its way to the consumer: its columns in the ring, and the rest of it."""

    arrays: Arrays
    filled: Filled


class Feeder(Protocol):
    """What a loader asks of one ring's keeper.

    It may be used from several threads. A signal handler may call :meth:`stop` and :meth:`close`,
    whatever it has interrupted.
    """

    ring: Ring

    @property
    def process(self) -> Process | None:
        """The process that fills the ring, if it is another one."""

    def begin(self, turn: Turn, first_batch: int) -> None:
        """Get ready to give out an epoch's batches from the first one on. In the run that is under
        way the epoch follows the last one, and is being worked on already; for another run, drop
        what is under way and start there."""

    def take(self, turn: Turn, batch: int) -> Taken:
        """Wait for a batch. Raises SupersededError once another turn has begun, ClosedError once
        the keeper is stopped."""

    def poll(self, turn: Turn, batch: int) -> bool:
        """Return whether :meth:`take` would not wait."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when :meth:`poll` may have a new answer."""

    def stop(self) -> None:
        """Tell all who wait, and the process, to end. Does not wait for them."""

    def close(self, *, patient: bool = True) -> None:
        """Give everything back, after :meth:`stop`. May be called twice, and in the middle of
        itself. patient: wait for what is ending."""


class RestartBudget:
    """How many workers may still be replaced in this epoch, over all of them."""

    def __init__(self, max_restarts: int) -> None:
        self._max_restarts = max_restarts
        self._left = max_restarts
        self.total = 0

    def begin(self) -> None:
        """An epoch begins."""
        self._left = self._max_restarts

    def spend(self) -> bool:
        """Return whether one more worker may be replaced."""
        self._left -= 1
        self.total += self._left >= 0
        return self._left >= 0


class Gate:
    """What a keeper is to its threads: it lets one at a time in, and puts away what it has once
    nobody is inside. A base class.

    A signal handler may close it on the very thread that is inside. It must not wait for that
    thread then, nor take away what the thread is using: the thread itself puts everything away as
    it leaves.
    """

    def __init__(self) -> None:
        self._gate = threading.RLock()  # reentrant, for the signal handler
        self._is_inside = False
        self._is_shut = False
        self._turn = Turn(0, -1)

    def _check(self, turn: Turn) -> None:
        """Raise the error that says why a turn has ended, if it has."""
        current = self._turn
        if self._is_shut:
            raise ClosedError("the loader is closed")
        if turn != current:
            raise SupersededError(
                f"this iteration (epoch {turn.epoch}) has ended because a newer one (epoch "
                f"{current.epoch}) of the same loader has begun; a loader serves one at a time. "
                f"For two at once, make two loaders"
            )

    def _run(self, what: Callable[[], T]) -> T:
        """Return ``what()``, called inside."""
        with self._gate:
            if self._is_inside:
                raise FastloaderError(
                    "a signal handler or finalizer cannot take batches from a loader that the code "
                    "it has interrupted is taking one from: set a flag there, and let the loop act "
                    "on it"
                )
            try:
                self._is_inside = True
                return what()
            except Exception:
                if self._is_shut:  # which took away what was needed
                    raise ClosedError("the loader is closed") from None
                raise
            finally:
                self._is_inside = False
                if self._is_shut:
                    self._put_away()

    def close(self, *, patient: bool = True) -> None:
        """Put everything away, now or when whoever is inside leaves. See :class:`Feeder`."""
        self._is_shut = True
        with self._gate:
            if not self._is_inside:
                self._put_away(patient=patient)

    def _put_away(self, *, patient: bool = True) -> None:
        """Give everything back. Called perhaps more than once, and in the middle of itself."""
        raise NotImplementedError

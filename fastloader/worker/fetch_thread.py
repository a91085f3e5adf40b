"""A thread that makes calls for another thread, one after the other.

``concurrent.futures`` cannot be used here. Its threads refuse work once the interpreter is about to
end, but ``atexit`` functions, finalizers and threads that outlive ``main`` still run then.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeAlias, TypeVar

from ..errors import ClosedError

T = TypeVar("T")


class Outcome(Generic[T]):
    """What a call on the thread will return or raise."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def is_there(self) -> bool:
        """Return whether the call has ended, so that :meth:`take` does not wait."""
        return not self._queue.empty()

    def take(self) -> T:
        """Wait for the call to end, and return or raise what it did. May be called once.

        Raises
        ------
        ClosedError
            The interpreter is ending, and the thread does not run any more.
        """
        if sys.is_finalizing() and not self.is_there():
            raise ClosedError("the interpreter is ending, and no rows can be read any more")
        value, error = self._queue.get()
        if error is not None:
            try:
                raise error
            finally:
                del error  # or the error, its traceback and this frame would refer to each other
        return value  # type: ignore[return-value]  # None only where T allows it

    def _put(self, value: T | None, error: BaseException | None) -> None:
        self._queue.put((value, error))


Calls: TypeAlias = "SimpleQueue[tuple[Callable[[], object], Outcome[Any]] | None]"


class FetchThread:
    """The thread, which starts at once. It does not keep the interpreter from ending.

    Parameters
    ----------
    name
        What debuggers call the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: Calls = SimpleQueue()
        self._has_ended: list[bool] = []
        self._running = threading.Lock()  # held while the thread runs
        self._running.acquire()
        # The thread does not refer to this object, so it ends with the object's last
        # reference, even if nobody closes it.
        args = (self._calls, self._has_ended, self._running)
        threading.Thread(target=_serve, args=args, name=name, daemon=True).start()

    def submit(self, call: Callable[[], T]) -> Outcome[T]:
        """Have ``call()`` run after everything that was submitted before."""
        outcome: Outcome[T] = Outcome()
        self._calls.put((call, outcome))
        return outcome

    def close(self) -> None:
        """Have the thread end after everything that was submitted. May be called twice."""
        self._calls.put(None)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the thread to end, for at most ``timeout_s``, and return whether it has.

        This is not ``join()``, because that fails in a signal handler that has interrupted it.
        """
        # Once the interpreter has begun to end, no thread but the main one runs any more.
        if (
            not self._has_ended
            and not sys.is_finalizing()
            and self._running.acquire(timeout=timeout_s)
        ):
            self._running.release()
        return bool(self._has_ended) or sys.is_finalizing()

    def __del__(self) -> None:
        self._calls.put(None)  # which takes no lock, so a finalizer may do it


def _serve(calls: Calls, has_ended: list[bool], running: threading.Lock) -> None:
    while (asked := calls.get()) is not None:
        call, outcome = asked
        try:
            outcome._put(call(), None)
        except BaseException as error:
            outcome._put(None, error)
        del asked, call, outcome  # or the thread would keep them alive until the next call
    has_ended.append(True)
    running.release()

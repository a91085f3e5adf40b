"""What a run leaves behind when it is told to end: nothing."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """Make SystemExit of SIGTERM and SIGHUP, which would otherwise end the process on the spot.

    Servers and folders that a ``with`` or ``finally`` puts away are then put away. Handlers of
    others stay.
    """
    ours: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ours = {n: h for n in SIGNALS if (h := signal.getsignal(n)) is signal.SIG_DFL}
    for number in ours:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def _end(number: int, _frame: object) -> None:
    for each in SIGNALS:  # a second one must not end the cleaning up
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)

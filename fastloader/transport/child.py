"""How a process of the loader's begins and ends, on its own side.

See :mod:`fastloader.transport.process` for the side of the training process, which starts it.
"""

from __future__ import annotations

import _socket
import faulthandler
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable

from ..system.limits import limit_error
from .messages import ERROR, NEVER, Failure, Record
from .pipes import Channel
from .process import CHECK_S, FOR_THE_PARENT
from .serial import pack

GRACE_S = 0.5
"""The part of CLOSE_TIMEOUT_S that a process may use to end in good order, with a word to the
server."""

on_end: list[Callable[[], None]] = []
"""Called when this process is about to end, from a thread of its own, to end what it waits for."""


def run_child(body: Callable[..., None], path: int) -> None:
    """Run ``body(channel, *memories)`` until the loader is gone or has closed.

    Parameters
    ----------
    path
        The index in ``sys.argv`` where the descriptors end and ``sys.path`` begins.
    """
    for number in FOR_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_THE_PARENT)
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what a function prints should not wait
            stream.reconfigure(line_buffering=True, errors="backslashreplace")
    parent, end_of_pipe, *memories = map(int, sys.argv[2:path])
    channel = Channel(_socket.socket(fileno=end_of_pipe))
    try:
        threading.Thread(target=_watch, args=(channel, parent), daemon=True).start()
        body(channel, *(io.FileIO(fd, "r+") for fd in memories))
    except (EOFError, BrokenPipeError):
        os._exit(0)
    except Exception as error:
        named = limit_error(error, "start a process of the loader's")
        if named is None:
            raise
        channel.send(Record(ERROR, epoch=NEVER, payload=pack(Failure.of(named))))


def _watch(channel: Channel, parent: int) -> None:
    """End this process soon after the loader has closed or its process has ended.

    It does so whatever this process waits for: a silent server, a lock, a debugger that has
    stopped it.
    """
    try:
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLRDHUP)
        while os.getppid() == parent and not poll.poll(CHECK_S * 1000):
            pass
        for interrupt in on_end:
            interrupt()
        time.sleep(GRACE_S)
    finally:
        os._exit(0)

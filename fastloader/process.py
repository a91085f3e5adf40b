"""A process of the loader's: how it is started, what it is given, how it ends.

Started as ``python -c ... fastloader.MODULE FD FD ...``: the two pipes and the memory that it
shares with the loader. Everything else, passwords included, comes through the pipe. No pickle, no
``__main__`` guard. It ignores Ctrl-C, which is for the training process, and ends when the loader
closes its end of the pipe. It never imports a framework.
"""

from __future__ import annotations

import faulthandler
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from .pipes import Channel
from .ring import create_memory

# sys.path comes from the parent, so a child finds what the parent finds, wherever it was started.
BOOT = "import sys; sys.path[:] = sys.argv[{path}:]; from {module} import main; main({path})"

ENVIRONMENT = {
    # NumPy's linear algebra would start a thread for each core, in every worker, for nothing.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # glibc would give the memory of each blob and picture back to the system and fault it in again
    # for the next: 4 faults a picture, 0.012 ms. The first is the largest that it takes.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

CLOSE_TIMEOUT_S = 1.0
"""A worker that is in the middle of a chunk may finish it; then it is killed."""

ORPHAN_CHECK_S = 1.0
"""How often an idle process looks whether its parent is still there. The end of the pipe says so at
once, unless a process that the parent forked has kept the pipe open."""

LAST_WORDS_BYTES = 2000


class Process:
    """The loader's side of it.

    module: whose ``main()`` it runs. memories: what :func:`run_child` hands to its body there.
    """

    def __init__(self, module: str, memories: Sequence[io.FileIO]) -> None:
        to_child, from_child = os.pipe(), os.pipe()
        self._stderr = create_memory("stderr")
        fds = [to_child[0], from_child[1], *(memory.fileno() for memory in memories)]
        boot = BOOT.format(path=len(fds) + 2, module=module)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", boot, module, *map(str, fds), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=self._stderr,
                stderr=self._stderr,
                env={**os.environ, **ENVIRONMENT},
                pass_fds=fds,
            )
        finally:
            os.close(to_child[0])
            os.close(from_child[1])
            self.channel = Channel(io.FileIO(from_child[0], "r"), io.FileIO(to_child[1], "w"))
        self.pid = self._process.pid

    def end(self) -> None:
        """Waits for a process that has no reason to live on, and sees to it if it does."""
        try:
            self._process.wait(CLOSE_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """It is gone when this returns."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Closes what belongs to a process that has ended. May be called twice."""
        self.channel.close()
        self._stderr.close()

    @property
    def how(self) -> str:
        """In which way it has ended, in words."""
        code = self._process.returncode
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    @property
    def last_words(self) -> str:
        """The end of what it has written to stdout and stderr."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - LAST_WORDS_BYTES))
        return self._stderr.read().decode("utf-8", "replace").strip()


def run_child(body: Callable[..., None], path: int) -> None:
    """The child's side: ``body(channel, *memories)`` until the loader is gone or has closed.

    path: where in the arguments the descriptors end and sys.path begins.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    incoming, outgoing, *memories = map(int, sys.argv[2:path])
    channel = Channel(io.FileIO(incoming, "r"), io.FileIO(outgoing, "w"))
    try:
        body(channel, *(io.FileIO(fd, "r+") for fd in memories))
    except (EOFError, BrokenPipeError):
        os._exit(0)

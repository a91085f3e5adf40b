"""How the training process starts a process of the loader's, what it hands over, how it ends it.

The process is started as ``python -c ... fastloader.MODULE PARENT FD FD ...``. The descriptors are
the pipe and the memory that it shares with the loader. Everything else, passwords included, comes
through the pipe. There is no pickle and no ``__main__`` guard, and it never imports a framework.

Signals that are meant for the training process do not end it. It has a session of its own, so
Ctrl-C and ``killpg`` do not reach it. It ignores the usual signals, which systemd, Slurm and
container runtimes send to every process of a job. It ends when the pipe ends, or its parent: a
thread waits for both, whatever the process is doing (:mod:`fastloader.transport.child`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import logging
import math
import os
import select
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from ..errors import ConfigError
from ..system.printable import printable
from .memory import create_memory
from .messages import Record
from .pipes import Channel, socket_pair

logger = logging.getLogger("fastloader")

PR_SET_PDEATHSIG = 1
"""The option of prctl(2) that chooses a signal for the death of the parent."""

# sys.path comes from the parent, so a child finds what the parent finds, wherever it was started.
# The child first makes its own session, because posix_spawn() cannot do that in many builds of
# Python. It also asks for a signal that wakes it when its parent dies: a stopped process cannot
# look.
BOOT = (
    "import os, sys, signal, ctypes; os.setsid(); "
    f"ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, signal.SIGCONT); "
    "sys.path[:] = sys.argv[{path}:]; from {module} import main; main({path})"
)

MARK = "_FASTLOADER_PROCESS"
"""An environment variable of the loader's processes. A program that finds it at its start was
started in place of a worker."""

ENVIRONMENT = {
    MARK: "1",
    # There is a worker for each core. NumPy's linear algebra, and libraries that functions of the
    # user's call, would start a thread for each core in every one. A function can ask for more.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",  # it would ask the package index at each import
    # Otherwise glibc returns the memory of each blob and image to the system and faults it in again
    # for the next one: 4 faults an image, 0.012 ms. glibc takes no larger first value.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}

FOR_THE_PARENT = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
"""Signals that all processes of a job get although only the training process is meant."""

CLOSE_TIMEOUT_S = 1.0
"""How long processes that were told to end may take to finish. Then they are killed."""

START_TIMEOUT_S = 120.0
"""How long a process may take to send its first record. It imports NumPy and this package, perhaps
from a busy network file system."""

KILL_TIMEOUT_S = 5.0
"""How long to wait for killed processes. One that waits for a dead disk cannot end before the disk
answers."""

CHECK_S = 1.0
"""How often to check that the process at the other end of a pipe still exists. The end of the pipe
shows it at once, unless a fork of either process keeps the pipe open."""

LOOK_S = 0.05
"""How often to check for the end of processes whose pipes a fork holds open."""

EXIT_S = 0.001
"""About how long a process needs from the end of its pipe to its own."""

LAST_WORDS_BYTES = 6000
"""How much of the end of a process's output is kept for an error. The traceback of a crash, with
all threads, has 2 to 4 KB."""

MOST_OUTPUT_BYTES = 64 << 10
"""How much of a process's output is taken at a time. What came before that is dropped."""

MOST_UNLOGGED = 100
"""How many pieces of output may wait for the log."""

UNKNOWN = 1 << 16
"""Stands for the exit code of a process that another part of the program has waited for."""

_unreaped: deque[int] = deque()
"""Processes whose Process is gone and that nobody has waited for. Finalizers append to it."""


class Process:
    """The loader's side of a process. It may be used from several threads.

    Parameters
    ----------
    module
        The process runs the ``main()`` of this module.
    memories
        What :func:`fastloader.transport.child.run_child` hands over there.
    name
        What the log calls the process.
    echoes
        Whether what the process writes goes to the standard error of this one, and not to the log.

    Attributes
    ----------
    pid
        The number of the process; 0 if it could not be started.
    channel
        The loader's end of the pipe.
    """

    def __init__(
        self, module: str, memories: Sequence[io.FileIO], *, name: str, echoes: bool = False
    ) -> None:
        _check_interpreter()
        self.pid = 0
        self._status: int | None = None  # its exit code, or minus its signal
        _reap()
        self._name, self._echoes = name, echoes
        self._tail = b""
        self._unlogged: deque[bytes] = deque(maxlen=MOST_UNLOGGED)
        self._output = create_memory("output")
        try:
            # Output always goes to the end of the file, also after the loader has emptied it.
            fcntl.fcntl(self._output, fcntl.F_SETFL, os.O_APPEND)
            ours, theirs = socket_pair()
        except BaseException:
            self._output.close()
            raise
        self.channel = Channel(ours, waits=False)
        try:
            # One bytecode starts it and stores its number, so that Ctrl-C cannot come between.
            (self.pid,) = map(
                self._spawner(module, theirs.fileno(), memories), [{**os.environ, **ENVIRONMENT}]
            )
            theirs.close()
        except BaseException as error:
            theirs.close()
            self.kill()
            self.close()
            if isinstance(error, OSError) and error.errno == errno.EBADF:
                # glibc reports in this way that a descriptor's number exceeds RLIMIT_NOFILE.
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
            raise

    def _spawner(
        self, module: str, end: int, memories: Sequence[io.FileIO]
    ) -> Callable[[Mapping[str, str]], int]:
        """Return a function that starts the process in an environment and returns its number."""
        output = self._output.fileno()
        fds = [end, *(memory.fileno() for memory in memories)]
        # The child gets them under other numbers, because before glibc 2.29 a descriptor that is
        # duplicated onto itself stays close-on-exec.
        there = [fd for fd in range(3, 3 + 2 * len(fds)) if fd not in fds][: len(fds)]
        boot = BOOT.format(path=len(fds) + 3, module=module)
        arguments = [
            sys.executable, "-c", boot, module, str(os.getpid()), *map(str, there), *sys.path
        ]  # fmt: skip
        actions = [
            *((os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
            *((os.POSIX_SPAWN_DUP2, *pair) for pair in zip(fds, there, strict=True)),
        ]
        # Signals stay blocked until the process ignores them. Otherwise one could end it early.
        return partial(
            os.posix_spawn, sys.executable, arguments,
            file_actions=actions, setsigmask=FOR_THE_PARENT,
        )  # fmt: skip

    def receive(self, timeout_s: float = math.inf) -> Record | None:
        """Return the next record, waiting for it; None when ``timeout_s`` has passed.

        Raises
        ------
        EOFError
            The process has ended, even if a fork keeps its end of the pipe open.
        PipeBroken
            What came is not a record.
        """
        deadline = time.monotonic() + timeout_s
        while (record := self.channel.receive(CHECK_S)) is None:
            if self.has_ended():
                record = self.channel.receive(0)  # it may have come in between
                if record is None:
                    raise EOFError
                break
            if time.monotonic() > deadline:
                return None
        return record

    def has_ended(self) -> bool:
        """Return whether the process has ended. If so, it is waited for and leaves no zombie."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # another part of the program has waited for it
                self._status = UNKNOWN
            else:
                if pid:
                    self._status = os.waitstatus_to_exitcode(status)
        return self._status is not None

    def kill(self, *, patient: bool = True) -> None:
        """Kill the process.

        Parameters
        ----------
        patient
            Wait until it is gone, for at most ``KILL_TIMEOUT_S``.
        """
        if self.pid:
            end([self], 0, patient=patient)

    def close(self) -> None:
        """Release what belongs to a process that has ended. May be called twice."""
        self.channel.close()
        self._output.close()

    @property
    def how(self) -> str:
        """How the process has ended, in words."""
        code = self._status
        if code is None or code == UNKNOWN:
            return "ended, and another part of this program has taken its exit code"
        if code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"

    def take_output(self) -> None:
        """Take what the process has written to stdout and stderr out of its file.

        Otherwise the file would grow without end. :meth:`log_output` and :attr:`last_words` use it.
        """
        size = 0 if self._output.closed else os.fstat(self._output.fileno()).st_size
        if not size:
            return
        # What the process writes between these two calls is lost. A lock would cost more than that.
        data = os.pread(self._output.fileno(), MOST_OUTPUT_BYTES, max(0, size - MOST_OUTPUT_BYTES))
        os.ftruncate(self._output.fileno(), 0)
        self._tail = (self._tail + data)[-LAST_WORDS_BYTES:]
        self._unlogged.append(data)

    def inherit_output(self, other: Process) -> None:
        """Have :meth:`log_output` also log what was taken from another process."""
        self._unlogged.extend(other._unlogged)

    def log_output(self) -> None:
        """Log what was taken, at DEBUG. Hold no lock meanwhile: logging has its own."""
        while self._unlogged:
            for line in _text(self._unlogged.popleft()).splitlines():
                if self._echoes and sys.stderr is not None:
                    print(f"{self._name}: {line}", file=sys.stderr)
                else:
                    logger.debug("%s: %s", self._name, line)

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if not self.has_ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def last_words(self) -> str:
        """The end of what the process has written to stdout and stderr."""
        self.take_output()
        return _text(self._tail).strip()

    def __del__(self) -> None:
        # The pipe closes now, so the process ends by itself. A finalizer must not wait for that.
        if getattr(self, "_status", 0) is None and self.pid:
            _unreaped.append(self.pid)


def _check_interpreter() -> None:
    """Raise ConfigError unless ``sys.executable`` is a Python.

    Anything else would run the whole program once more in place of a worker.
    """
    if MARK in os.environ:
        problem = (
            f"this program was started in place of a worker, so {sys.executable} (sys.executable) "
            f"runs the program itself, not Python"
        )
    elif getattr(sys, "frozen", False):
        problem = f"this program is frozen: {sys.executable} runs the program itself, not Python"
    elif not sys.executable:
        problem = "sys.executable is empty, as in programs that embed Python"
    elif not (os.path.isfile(sys.executable) and os.access(sys.executable, os.X_OK)):
        problem = f"sys.executable is {sys.executable!r}, which cannot be run"
    else:
        return
    raise ConfigError(f"cannot start worker processes, because {problem}. Pass workers=0")


def _text(data: bytes) -> str:
    return printable(data.decode("utf-8", "replace"))


def end(
    processes: Sequence[Process], timeout_s: float = CLOSE_TIMEOUT_S, *, patient: bool = True
) -> None:
    """Wait for processes that were told to end, and kill those that still run after a time.

    Parameters
    ----------
    timeout_s
        The time limit for all of them together.
    patient
        Wait for those that were killed, too, for at most ``KILL_TIMEOUT_S``.
    """
    if _wait(processes, timeout_s):
        return
    for process in processes:
        if not process.has_ended():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    if patient and not _wait(processes, KILL_TIMEOUT_S):
        pids = [process.pid for process in processes if not process.has_ended()]
        logger.warning(
            "processes %s were killed %g s ago and have not ended: probably they wait for a disk "
            "or a network file system. They end once that answers",
            pids, KILL_TIMEOUT_S,
        )  # fmt: skip


def _wait(processes: Sequence[Process], timeout_s: float) -> bool:
    """Return whether all have ended, after at most ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    while alive := [process for process in processes if not process.has_ended()]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        # Each wakes us when it ends, unless a fork keeps its end of the pipe open.
        poll = select.poll()
        for process in alive:
            if (fd := process.channel.fileno()) >= 0:  # a signal handler may have closed it
                poll.register(fd, 0)
        if poll.poll(min(left_s, LOOK_S) * 1000):
            time.sleep(EXIT_S)  # the pipe closes a moment before the process ends
    return True


def _reap() -> None:
    """Wait for those processes of ``_unreaped`` that have ended."""
    for _ in range(len(_unreaped)):
        # Another thread may be here too, and another part of the program may have waited for one.
        with contextlib.suppress(IndexError, ChildProcessError):
            pid = _unreaped.popleft()
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                _unreaped.append(pid)


def _inheritable() -> Iterator[int]:
    """Yield the descriptors that some library has opened without close-on-exec."""
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is closed by now
            if int(name) > 2 and os.get_inheritable(int(name)):
                yield int(name)

"""A file of spans that Perfetto (ui.perfetto.dev) and chrome://tracing show as rows of bars.

The format is the JSON array of the Trace Event Format: "X" is a span, "M" a name, and times are in
microseconds. The array is complete after each write, so the file of a killed program can be opened.
The file is written by the training process.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from ..system.descriptors import forget_in_children
from .clock import Span

logger = logging.getLogger("fastloader")

BUFFERED = 500
"""The number of events that are lost if the program is killed. A batch has about ten."""

MOST_EVENTS = 2_000_000
"""The limit for a file: 200 MB, which Perfetto still opens. A day of training would be more."""

_END = "\n]\n"


class TraceFile:
    """One trace file, shared by all loaders of a process that trace into the same path.

    The first loader overwrites the file. It may be used from several threads, and from signal
    handlers and finalizers that interrupt any of its methods: events are appended to a deque, and
    the caller that finds enough of them writes them, unless another one is writing already.

    Tracing must never stop training. If the file cannot be written, a warning is logged once and
    tracing ends.

    Parameters
    ----------
    path
        The absolute path of the file.

    Attributes
    ----------
    processes
        The number of loaders that have used the file; each is shown as a process.

    Raises
    ------
    OSError
        If the file cannot be created.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._writing = threading.Lock()  # who finds it locked does not wait
        self._events: deque[dict[str, Any]] = deque()
        self._count = 0
        self._written = 0  # bytes before the closing bracket
        self._is_on = True
        self.processes = 0
        with open(path, "w", encoding="utf-8") as file:
            file.write("[" + _END)
        self._written = 1
        forget_in_children(self, TraceFile.forget)

    def add(self, events: Iterable[dict[str, Any]]) -> None:
        """Add events, in any order."""
        if self._is_on:
            self._events.extend(events)
            if len(self._events) >= BUFFERED:
                self.flush()

    def flush(self) -> None:
        """Write the events, unless another caller is writing, which then writes these too."""
        while self._events and not self._writing.locked():
            with self._writing:
                try:
                    self._write()
                except OSError as error:
                    self.forget()
                    self._mend()
                    logger.warning(
                        "trace=%r ends here, because the file cannot be written any more: %s",
                        self._path, error.strerror,
                    )  # fmt: skip

    def _write(self) -> None:
        """Append the events to the file. Raises OSError."""
        lines = []
        while self._events:
            event = self._events.popleft()
            self._count += 1
            if self._count == MOST_EVENTS:
                logger.warning("trace=%r is full after %d events", self._path, MOST_EVENTS)
            if self._count < MOST_EVENTS:
                lines.append(json.dumps(event, separators=(",", ":")))
        text = "".join(
            ("\n" if self._written == 1 and i == 0 else ",\n") + line
            for i, line in enumerate(lines)
        )
        data = text.encode()
        with open(self._path, "r+b") as file:
            file.seek(self._written)
            file.write(data + _END.encode())
            file.truncate()  # an interrupted write may have left a longer file
        self._written += len(data)

    def _mend(self) -> None:
        """Cut off an event that is only half written."""
        with contextlib.suppress(OSError), open(self._path, "r+b") as file:
            file.truncate(self._written)
            file.seek(self._written)
            file.write(_END.encode())

    def forget(self) -> None:
        """Stop tracing in this process, which may be a fork that does not own the file."""
        self._is_on = False
        self._events.clear()


_files: dict[tuple[int, str], TraceFile] = {}
_files_lock = threading.Lock()


def _file_at(path: str) -> TraceFile:
    """Return this process's file at a path, for one more loader."""
    where = (os.getpid(), path)  # a fork has a file of its own
    with _files_lock:
        if where not in _files:
            _files[where] = TraceFile(path)
        _files[where].processes += 1
        return _files[where]


class Trace:
    """One loader's rows in a trace.

    Parameters
    ----------
    path
        The path of the file. ``%p`` in it is replaced by the process ID, for processes that share a
        folder.
    name
        The name of the loader, which is shown above its rows.

    Raises
    ------
    OSError
        If the file cannot be created.
    """

    def __init__(self, path: str, name: str) -> None:
        self._file = _file_at(os.path.abspath(path.replace("%p", str(os.getpid()))))
        self._process = self._file.processes
        self._rows: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._name("process_name", 0, name)

    def spans(self, row: str, spans: Iterable[Span], **about: Any) -> None:
        """Add spans to a row. ``about`` is shown when one of them is selected."""
        number = self._row(row)
        self._file.add(
            {
                "name": span.stage, "ph": "X", "pid": self._process, "tid": number,
                "ts": round(span.start * 1e6, 1), "dur": round((span.end - span.start) * 1e6, 1),
                "args": about,
            }
            for span in spans
        )  # fmt: skip

    def _row(self, row: str) -> int:
        """Return the number of a row, which is new at its first span."""
        if row not in self._rows:
            # If two threads get here at once, one number wins, and both write the same name.
            self._name("thread_name", self._rows.setdefault(row, next(self._numbers)), row)
        return self._rows[row]

    def _name(self, what: str, row: int, name: str) -> None:
        """Add the event that names the loader or one of its rows."""
        event = {"name": what, "ph": "M", "pid": self._process, "tid": row, "args": {"name": name}}
        self._file.add([event])

    def flush(self) -> None:
        """Write the events that are still in memory."""
        self._file.flush()

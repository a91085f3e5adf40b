"""A file of spans that Perfetto (ui.perfetto.dev) and chrome://tracing show as rows of bars.

The format is the JSON array of the Trace Event Format ("X" is a span, "M" a name, times are in
microseconds). It is complete after each write, so what a killed program leaves can be opened.
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
"""Events that may be lost when the program is killed. Ten are a batch."""

MOST_EVENTS = 2_000_000
"""200 MB, which Perfetto still opens; a day of training would be many times that."""

_END = "\n]\n"


class TraceFile:
    """One file, which the loaders of a process share that trace into the same path. It is written
    anew by the first of them.

    It may be used from several threads, and from signal handlers and finalizers in the middle of
    anything: an event is appended to a deque, and whoever finds enough of them writes them, unless
    somebody is writing already.

    Watching must never end what it watches. If the file cannot be written, the log says so once,
    and tracing ends.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._writing = threading.Lock()  # whoever finds it locked leaves the writing to others
        self._events: deque[dict[str, Any]] = deque()
        self._count = 0
        self._written = 0  # bytes, without the end
        self._is_on = True
        self.processes = 0
        with open(path, "w", encoding="utf-8") as file:
            file.write("[" + _END)
        self._written = 1
        forget_in_children(self, TraceFile.forget)

    def add(self, events: Iterable[dict[str, Any]]) -> None:
        """The order does not matter."""
        if self._is_on:
            self._events.extend(events)
            if len(self._events) >= BUFFERED:
                self.flush()

    def flush(self) -> None:
        """Write what there is, unless somebody is writing: they will."""
        while self._events and not self._writing.locked():
            with self._writing:
                try:
                    self._write()
                except OSError as error:
                    self.forget()
                    self._mend()
                    logger.warning(
                        "trace=%r ends here, since the file cannot be written any more: %s",
                        self._path, error.strerror,
                    )  # fmt: skip

    def _write(self) -> None:
        lines = []
        while self._events:
            event = self._events.popleft()
            self._count += 1
            if self._count == MOST_EVENTS:
                logger.warning("%s: full after %d events", self._path, MOST_EVENTS)
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
            file.truncate()  # an interrupted write may have left more
        self._written += len(data)

    def _mend(self) -> None:
        """Cut off what is only half written."""
        with contextlib.suppress(OSError), open(self._path, "r+b") as file:
            file.truncate(self._written)
            file.seek(self._written)
            file.write(_END.encode())

    def forget(self) -> None:
        """Leave the file to the process that this one is a fork of."""
        self._is_on = False
        self._events.clear()


_files: dict[tuple[int, str], TraceFile] = {}
_files_lock = threading.Lock()


def _file_at(path: str) -> TraceFile:
    where = (os.getpid(), path)  # a fork begins its own
    with _files_lock:
        if where not in _files:
            _files[where] = TraceFile(path)
        _files[where].processes += 1
        return _files[where]


class Trace:
    """One loader's rows in a trace. Raises OSError where the file cannot be written.

    path: ``%p`` in it stands for this process, for those that share a folder.
    name: of the loader, shown above its rows.
    """

    def __init__(self, path: str, name: str) -> None:
        self._file = _file_at(os.path.abspath(path.replace("%p", str(os.getpid()))))
        self._process = self._file.processes
        self._rows: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._name("process_name", 0, name)

    def spans(self, row: str, spans: Iterable[Span], **about: Any) -> None:
        """about: shown when a span is selected."""
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
        if row not in self._rows:
            # Of two threads that are here at once, one has its way, and both give the same name.
            self._name("thread_name", self._rows.setdefault(row, next(self._numbers)), row)
        return self._rows[row]

    def _name(self, what: str, row: int, name: str) -> None:
        event = {"name": what, "ph": "M", "pid": self._process, "tid": row, "args": {"name": name}}
        self._file.add([event])

    def flush(self) -> None:
        """Writes what there is."""
        self._file.flush()

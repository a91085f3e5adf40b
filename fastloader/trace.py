"""A file of spans that Perfetto (ui.perfetto.dev) and chrome://tracing show as rows of bars.

The format is the JSON array of the Trace Event Format ("X" is a span, "M" a name, times are in
microseconds). It is complete after each write, so what a killed program leaves can be opened.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Iterable
from typing import Any

from .clock import Span

logger = logging.getLogger("fastloader")

BUFFERED = 500
"""Events that may be lost when the program is killed. Ten are a batch."""

MOST_EVENTS = 2_000_000
"""200 MB, which Perfetto still opens; a day of training would be many times that."""

_END = "\n]\n"


class TraceFile:
    """One file, which the loaders of a process share that trace into the same path. It is written
    anew by the first of them. Safe to use from several threads."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._count = 0
        self._written = 0  # bytes, without the end
        self.processes = 0
        with open(path, "w", encoding="utf-8") as file:
            file.write("[" + _END)
        self._written = 1

    def add(self, events: Iterable[dict[str, Any]]) -> None:
        """The order does not matter."""
        with self._lock:
            for event in events:
                self._count += 1
                if self._count == MOST_EVENTS:
                    logger.warning("%s: full after %d events", self._path, MOST_EVENTS)
                if self._count < MOST_EVENTS:
                    self._lines.append(json.dumps(event, separators=(",", ":")))
            if len(self._lines) >= BUFFERED:
                self._write()

    def flush(self) -> None:
        with self._lock:
            self._write()

    def _write(self) -> None:
        text = "".join(
            ("\n" if self._written == 1 and i == 0 else ",\n") + line
            for i, line in enumerate(self._lines)
        )
        self._lines = []
        data = text.encode()
        with open(self._path, "r+b") as file:
            file.seek(self._written)
            file.write(data + _END.encode())
        self._written += len(data)


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
        self._lock = threading.Lock()
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
        with self._lock:
            if row in self._rows:
                return self._rows[row]
            number = self._rows[row] = len(self._rows) + 1
        self._name("thread_name", number, row)
        return number

    def _name(self, what: str, row: int, name: str) -> None:
        event = {"name": what, "ph": "M", "pid": self._process, "tid": row, "args": {"name": name}}
        self._file.add([event])

    def flush(self) -> None:
        """Writes what there is."""
        self._file.flush()

"""Ctrl-C in every place where it can come.

CPython runs signal handlers between two bytecodes: after a call, where a function begins, and where
a loop jumps back (``eval_breaker`` in its ceval.c). There a KeyboardInterrupt can appear. Signals
from outside hit such a place by chance; here a test goes through all of them.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import fastloader

PACKAGE = Path(fastloader.__file__).parent


def files_of(modules: Collection[str]) -> set[str]:
    """Return the files of modules, and those of packages with everything below them."""
    files = set()
    for module in modules:
        path = PACKAGE / module
        found = [*path.rglob("*.py")] if path.is_dir() else [path.with_suffix(".py")]
        assert all(file.is_file() for file in found), f"no module {module}"
        files |= {str(file) for file in found}
    return files


class Interrupter:
    """Raises KeyboardInterrupt at one place of what runs in :meth:`run`.

    Parameters
    ----------
    modules : Collection[str]
        The modules and packages of fastloader in which places count, for example
        ``"observe/trace"`` or ``"consumer"``. One that does not exist is an error.
    at : int
        The number of the place, from 0.

    Attributes
    ----------
    seen : int
        How many places were passed.
    where : str
        The function and the line of the interrupt.
    """

    def __init__(self, modules: Collection[str], at: int) -> None:
        self._files = files_of(modules)
        self._at = at
        self._before: dict[FrameType, int] = {}
        self.seen = 0
        self.where = ""

    def run(self, what: Callable[[], object]) -> bool:
        """Call a function. Return whether it was interrupted; then there may be more places."""
        old = sys.gettrace()
        sys.settrace(self._trace)
        try:
            what()
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(old)
            self._before.clear()
        return self.seen > self._at

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG002
        if event == "call":
            if frame.f_code.co_filename not in self._files:
                return None
            frame.f_trace_opcodes = True
            return self._trace
        if event == "exception":  # what raises goes to its handler at once
            self._before.pop(frame, None)
        elif event == "opcode":
            before, self._before[frame] = self._before.get(frame), frame.f_lasti
            if (before, frame.f_lasti) in _places(frame.f_code):
                self.seen += 1
                if self.seen == self._at + 1:
                    self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                    raise KeyboardInterrupt
        return self._trace


_cached: dict[CodeType, set[tuple[int | None, int]]] = {}


def _places(code: CodeType) -> set[tuple[int | None, int]]:
    """Return pairs of instructions, by their offsets, between which a signal handler may run.

    CPython attributes what the handler raises to the first instruction, and a trace function to the
    second one. So only pairs with the same ``except`` or ``finally`` count.
    """
    if code not in _cached:
        handlers = {
            offset: entry.target
            for entry in reversed(dis._parse_exception_table(code))  # type: ignore[attr-defined]
            for offset in range(entry.start, entry.end, 2)
        }
        instructions = [*dis.get_instructions(code)]
        _cached[code] = {
            (one.offset, other.offset)
            for one in instructions
            if one.opname.startswith(("CALL", "JUMP_BACKWARD", "RESUME"))
            for other in instructions
            if handlers.get(one.offset) == handlers.get(other.offset)
        }
    return _cached[code]


def each_place(modules: Collection[str], *, step: int = 1) -> Iterator[Interrupter]:
    """Yield an interrupter for each place, or each ``step``-th, until one is not reached."""
    at = 0
    while True:
        interrupter = Interrupter(modules, at)
        yield interrupter
        if interrupter.seen <= at:
            return
        at += step

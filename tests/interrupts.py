"""Ctrl-C in every place where it can come.

CPython runs signal handlers between two bytecodes: after a call, where a function begins, and where
a loop goes round (``eval_breaker`` in its ceval.c). That is where a KeyboardInterrupt can appear.
Signals from outside find such a place by chance; here each of them gets its turn.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable, Collection, Iterator
from types import CodeType, FrameType
from typing import Any

import fastloader

PACKAGE = fastloader.__file__.rpartition("/")[0]


class Interrupter:
    """Raises KeyboardInterrupt at one place of what runs in :meth:`run`.

    modules: of the package, in which places count. at: the number of the place, from 0.

    seen: places that were passed.
    """

    def __init__(self, modules: Collection[str], at: int) -> None:
        self._files = {f"{PACKAGE}/{module}.py" for module in modules}
        self._at = at
        self._before: dict[FrameType, int] = {}
        self.seen = 0
        self.where = ""

    def run(self, what: Callable[[], object]) -> bool:
        """Calls it. Returns whether it was interrupted; it may have more to do then."""
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
    """Pairs of instructions, by their offsets, between which a signal handler may run.

    What it raises counts as raised by the first of them, and here by the second one: so only pairs
    that have the same ``except`` or ``finally``.
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
    """One for each place, or each ``step``-th; until one is not reached any more."""
    at = 0
    while True:
        interrupter = Interrupter(modules, at)
        yield interrupter
        if interrupter.seen <= at:
            return
        at += step

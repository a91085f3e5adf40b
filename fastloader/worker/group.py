"""Calls the functions of a transform: those on rows one after the other, or one on a batch.

It knows neither slots nor processes. What a function may do wrong becomes a reason in words.
"""

from __future__ import annotations

import inspect
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import ConfigError
from ..system.printable import printable
from ..transforms.sending import takes_rng, unpickled
from ..transforms.step import DROP, Step
from .views import Unfit

MOST_REASON = 4000
"""The most characters of a traceback that are kept. The end says what went wrong."""

Values = dict[str, Any]
"""A row or a batch by the names of its entries."""

Put = tuple[str, Callable[[int, Any], None], bool]
"""The name of an entry; what stores its value, given a row or a number of rows; and whether nothing
has to be stored if the value is the very object that the function got."""

_is_fork = [False]


def _note_fork() -> None:
    _is_fork[0] = True


class Failed(Exception):
    """A function has failed; the message says how, with its traceback."""


class Group:
    """Functions that run together: all those on rows between two on batches, or one on a batch.

    Parameters
    ----------
    steps
        The functions.

    Attributes
    ----------
    steps
        The functions as they were given.
    is_rows
        Whether they get rows.
    names
        Their names, for messages.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        self.is_rows = steps[0].scope == "row"
        self._calls = [(step, *_loaded(step)) for step in steps]
        self.names = ", ".join(step.name for step in steps)

    def call(self, values: Values, rng: Any) -> Values | None:
        """Return what the functions make of a row or a batch; None if they drop it.

        Raises
        ------
        Failed
            A function has raised an exception, or has returned something else.
        """
        for step, function, with_rng in self._calls:
            try:
                result = function(values, rng) if with_rng else function(values)
            except (Exception, SystemExit) as error:
                if _is_fork[0]:
                    os._exit(1)
                raise Failed(explained(step, error)) from None
            if _is_fork[0]:  # a fork would go on as a second worker, with the same slots
                os._exit(0)
            if result is DROP:
                if not (step.scope == "row" and step.drops):
                    raise Failed(f"{step.name} returned DROP: {_may_drop(step)}")
                return None
            if result is not None and result is not values:
                values = _checked(step, result)
        return values


def groups_of(steps: Sequence[Step]) -> list[Group]:
    """Return the functions in groups. Raises ConfigError if one cannot be loaded."""
    parts: list[list[Step]] = []
    for step in steps:
        if step.scope == "row" and parts and parts[-1][0].scope == "row":
            parts[-1].append(step)
        else:
            parts.append([step])
    return [*map(Group, parts)]


def end_forks() -> None:
    """Have a process that a function forks from this one end when the function returns there."""
    os.register_at_fork(after_in_child=_note_fork)


def explained(step: Step, error: BaseException) -> str:
    """Return in words that a function has raised an exception, with the traceback as text."""
    frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
    text = "".join(traceback.format_exception(type(error), error, frames)).strip()
    # Not str(error), which is the user's code too.
    said = traceback.format_exception_only(type(error), error)
    what = next((line for line in said if not line.startswith(" ")), "").partition("\n")[0]
    if len(text) > MOST_REASON:
        text = f"... {text[-MOST_REASON:]}"
    return printable(f"{step.name} raised {what[:MOST_REASON]}\n{text}")


def store(result: Values, given: Values, outputs: Sequence[Put], at: int) -> None:
    """Store what the functions have returned.

    Parameters
    ----------
    result, given
        What they have returned, and what they got.
    outputs
        How to store each entry.
    at
        The position of the row, or the number of rows of the batch.

    Raises
    ------
    Unfit
        A value is missing, or is not what the entry holds.
    """
    changed = []
    for name, put, stays in outputs:
        try:
            value = result[name]
        except KeyError:
            raise Unfit(f"{name!r} is missing from what it returned") from None
        if not (stays and value is given.get(name)):
            changed.append((put, value))
    if len(changed) > 1:  # two entries may have changed places
        changed = [(put, _apart(value)) for put, value in changed]
    for put, value in changed:
        put(at, value)
    if len(result) > len(outputs):
        _check_names(result, outputs, given)


def _check_names(result: Values, outputs: Sequence[Put], given: Values) -> None:
    """Raise Unfit for an entry that is neither delivered nor was it given, and so is new."""
    names = {name for name, *_ in outputs}
    for name in result:
        if name not in names and name not in given:
            raise Unfit(
                f"{name!r} is new, and was not in the first rows: return it for all rows, or "
                f"declare it with outputs="
            )


def _apart(value: Any) -> Any:
    """Return a copy of a view, because another entry may be written into what it shows."""
    flags = getattr(value, "flags", None)
    return value.copy() if flags is not None and not getattr(flags, "owndata", True) else value


def _loaded(step: Step) -> tuple[Callable[..., Any], bool]:
    try:
        function = unpickled(step.pickled)
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"transform: a worker cannot load {step.name} ({type(error).__name__}: {error}). It "
            f"imports what the function uses with the sys.path of this program"
        ) from error
    return function, takes_rng(function)


def _checked(step: Step, result: Any) -> Values:
    if isinstance(result, Mapping):
        return {**result}
    advice = "return the dict, or None if it was changed in place"
    if inspect.iscoroutine(result):
        result.close()
        advice = "an async function cannot be used"
    raise Failed(f"{step.name} returned a {type(result).__qualname__}: {advice}")


def _may_drop(step: Step) -> str:
    if step.scope == "batch":
        return "only functions of rows can drop them, with per_row(function, drops=True)"
    return f"pass per_row({step.name}, drops=True), because batches may then have fewer rows"

"""Arguments that were given, and those that were not.

An option that is not given may come from its environment variable. So the defaults in the signature
of :class:`fastloader.FastLoader` are not the values themselves, but objects that look like them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from ..errors import UsageError
from .spelling import REMEDIES, did_you_mean
from .table import OPTIONS

T = TypeVar("T")
P = ParamSpec("P")


class NotGiven:
    """Stands for an option that was not given, so that None can be given.

    Parameters
    ----------
    shown
        The default in words, for ``help()``.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


UNSET: Any = NotGiven("...")
"""Stands for an option that was not given and has no default."""


def default(value: T) -> T:
    """Return what stands for an option that was not given and that has this default."""
    shown: Any = NotGiven(f'"{value}"' if isinstance(value, str) else repr(value))
    return shown  # type: ignore[no-any-return]


def given_only(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that were given."""
    return {name: x for name, x in arguments.items() if not isinstance(x, NotGiven)}


def check_names(names: Mapping[str, Any]) -> None:
    """Raise UsageError if one of the names is no option."""
    for name in names:
        if name not in OPTIONS:
            hint = REMEDIES.get(name) or did_you_mean(name, OPTIONS)
            hint = hint or f"the options are {', '.join(OPTIONS)}"
            raise UsageError(f"there is no option {name!r}; {hint}")


def options_only(init: Callable[P, None]) -> Callable[P, None]:
    """Have a constructor say which option was probably meant, where Python would only refuse."""

    @functools.wraps(init)
    def checked(*args: P.args, **kwargs: P.kwargs) -> None:
        check_names(kwargs)
        if len(args) > 2:
            raise UsageError(
                f"only the database is given without a name; if {args[2]!r} is the table, write "
                f"table={args[2]!r}"
            )
        init(*args, **kwargs)

    return checked

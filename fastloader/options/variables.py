"""Environment variables that look like options and are not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping

from ..checks.option import PREFIX
from ..errors import FastloaderWarning
from .spelling import did_you_mean
from .table import OPTIONS

NOT_OPTIONS = ("TEST_", "EXPECT_", "SANITIZE")
"""How the names of other variables begin, after the prefix: those of the tests and the build."""

_warned: set[str] = set()


def unknown_variables(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield a message for each variable with our prefix that is no option."""
    for name in sorted(environ):
        option = name.removeprefix(PREFIX)
        if option == name or option.startswith(NOT_OPTIONS) or option.lower() in OPTIONS:
            continue
        form = f"{PREFIX}{{}}"
        hint = did_you_mean(option, [one.upper() for one in OPTIONS], form)
        yield f"{name} is not an option and has no effect{'; ' if hint else ''}{hint}"


def warn_of_unknown_variables(stacklevel: int) -> None:
    """Warn of each variable that is no option, once in a process."""
    for message in unknown_variables():
        if message not in _warned:
            _warned.add(message)
            warnings.warn(message, FastloaderWarning, stacklevel=stacklevel + 1)

"""Import the modules of ``worker_imports`` in every process that decodes images."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from ..errors import ConfigError


def import_all(modules: Iterable[str]) -> None:
    """Import the modules of ``worker_imports``.

    Raises
    ------
    ConfigError
        If a module cannot be imported; the message names it.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # whatever the module does
            raise ConfigError(
                f"worker_imports: cannot import {name!r} ({type(error).__name__}: {error}). A "
                f"worker imports it with the sys.path of this program; what is defined in "
                f"__main__ or a notebook has to go into a module"
            ) from error

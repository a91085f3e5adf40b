"""Feed training with images from a database, decoded and resized on all cores without copies."""

from ._version import __version__
from .errors import (
    ClosedError,
    ConfigError,
    CopyError,
    FastloaderError,
    FastloaderWarning,
    PlanError,
    RowError,
    SourceError,
    StateError,
    SupersededError,
    WorkerDied,
    WorkerError,
)
from .loader import FastLoader
from .observe.stats import Pictures, Stats

__all__ = [
    "ClosedError",
    "ConfigError",
    "CopyError",
    "FastLoader",
    "FastloaderError",
    "FastloaderWarning",
    "Pictures",
    "PlanError",
    "RowError",
    "SourceError",
    "StateError",
    "Stats",
    "SupersededError",
    "WorkerDied",
    "WorkerError",
    "__version__",
]

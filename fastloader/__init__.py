"""Feed training with images from a database, decoded and resized on all cores without copies."""

from ._version import __version__
from .consumer.epoch import Epoch
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
    UsageError,
    WorkerDied,
    WorkerError,
)
from .fields.columns import Column
from .loader import FastLoader
from .observe.stats import Pictures, Stages, Stats
from .options.config import Config

__all__ = [
    "ClosedError",
    "Column",
    "Config",
    "ConfigError",
    "CopyError",
    "Epoch",
    "FastLoader",
    "FastloaderError",
    "FastloaderWarning",
    "Pictures",
    "PlanError",
    "RowError",
    "SourceError",
    "Stages",
    "StateError",
    "Stats",
    "SupersededError",
    "UsageError",
    "WorkerDied",
    "WorkerError",
    "__version__",
]

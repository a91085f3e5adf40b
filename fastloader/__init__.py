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
from .fields.array import Array
from .fields.columns import Column
from .fields.field import Field
from .fields.image import Image
from .fields.number import Number
from .fields.text import Text
from .loader import FastLoader
from .observe.stats import Pictures, Stages, Stats
from .options.config import Config

__all__ = [
    "Array",
    "ClosedError",
    "Column",
    "Config",
    "ConfigError",
    "CopyError",
    "Epoch",
    "FastLoader",
    "FastloaderError",
    "FastloaderWarning",
    "Field",
    "Image",
    "Number",
    "Pictures",
    "PlanError",
    "RowError",
    "SourceError",
    "Stages",
    "StateError",
    "Stats",
    "SupersededError",
    "Text",
    "UsageError",
    "WorkerDied",
    "WorkerError",
    "__version__",
]

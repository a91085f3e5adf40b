"""Feed training with images from a database, decoded and resized on all cores without copies."""

from ._version import __version__
from .batches.ragged import Ragged
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
    TransformError,
    UsageError,
    WorkerDied,
    WorkerError,
)
from .fields.array import Array
from .fields.bytes import Bytes
from .fields.category import Category
from .fields.columns import Column
from .fields.field import Field
from .fields.image import Image
from .fields.json import Json
from .fields.number import Number
from .fields.text import Text
from .loader import FastLoader
from .mixture import Mixture, mix
from .observe.stats import Pictures, Stages, Stats
from .options.config import Config
from .options.sampling import Balanced, ClassBatch, Sampling, Weighted
from .transforms.step import DROP, Spec, Step, per_batch, per_row

__all__ = [
    "DROP",
    "Array",
    "Balanced",
    "Bytes",
    "Category",
    "ClassBatch",
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
    "Json",
    "Mixture",
    "Number",
    "Pictures",
    "PlanError",
    "Ragged",
    "RowError",
    "Sampling",
    "SourceError",
    "Spec",
    "Stages",
    "StateError",
    "Stats",
    "Step",
    "SupersededError",
    "Text",
    "TransformError",
    "UsageError",
    "Weighted",
    "WorkerDied",
    "WorkerError",
    "__version__",
    "mix",
    "per_batch",
    "per_row",
]

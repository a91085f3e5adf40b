"""What has to be known of a table before it can be planned: its keys and its label columns.

Done by a worker where there is one. Not in the training process: TensorFlow brings a SQLite of its
own, whose symbols a later call of Python's sqlite3 would find in place of the system's.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from .columns import Column, columns_from
from .config import Config
from .plan import check_keys
from .source import open_source


@dataclass(frozen=True)
class Survey:
    """rows: of the table. columns: the label columns, with their types. notes: warnings."""

    rows: int
    columns: tuple[Column, ...]
    notes: tuple[str, ...]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Survey:
        values = json.loads(payload)
        columns = columns_from(map(dict.values, values["columns"]))
        return cls(values["rows"], columns, tuple(values["notes"]))


def survey(config: Config) -> tuple[NDArray[np.int64], Survey]:
    """The checked keys and the rest. Raises SourceError, PlanError or ConfigError."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.closing(open_source(config)) as source:
            keys = source.keys()
            check_keys(keys, f"{config.url}, {config.table or 'query'}")
            columns = source.label_columns(keys)
    return keys, Survey(len(keys), columns, tuple(str(note.message) for note in caught))

"""Where rows come from. One protocol, one module for each kind of database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..columns import Column
from ..config import Config


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a read.

    keys: of the rows, ascending within a key range.
    images: for each row its blob, a buffer that stays valid as long as the chunk, or whatever else
        was in the image column.
    labels: for each label column the rows' values: int, float, str, bytes or None.
    """

    keys: Sequence[int]
    images: Sequence[Any]
    labels: Sequence[Sequence[Any]]


class Source(Protocol):
    """A table or query, opened. Belongs to the process that opened it; one thread at a time.

    Every method raises SourceError with what the server said and where, never with a password.
    """

    def keys(self) -> NDArray[np.int64]:
        """All keys, int64 (n,), ascending. Raises PlanError on NULL and on another type."""

    def label_columns(self, keys: NDArray[np.int64]) -> tuple[Column, ...]:
        """The label columns in the order of the configuration, with the types that they will have.

        Looks at as few of the rows with these keys as it can.
        """

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[Chunk]:
        """The rows whose keys lie in the ranges (both ends inclusive), in the order of the ranges,
        ascending within each. ``ranges`` is consumed as the rows are."""

    def close(self) -> None:
        """May be called twice."""


def open_source(config: Config) -> Source:
    """Opens what ``config.url`` names."""
    from .sqlite import SQLiteSource

    return SQLiteSource(config)

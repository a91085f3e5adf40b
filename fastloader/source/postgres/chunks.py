"""Turn the rows of a PostgreSQL result into a chunk, without copying the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import SourceError
from ...fields.columns import Column
from ...options.config import Config
from ..protocol import Chunk, too_large
from ._libpq import Result
from .read import Read
from .table import PostgresTable
from .types import integers, keys_of, labels_of


def chunk_of(
    result: Result,
    read: Read,
    *,
    asked: int,
    columns: Sequence[Column],
    table: PostgresTable,
    config: Config,
) -> Chunk:
    """Return the chunk of a result with at least one row.

    Parameters
    ----------
    result
        Rows of :meth:`PostgresTable.rows_sql`. The chunk keeps it alive.
    read
        The read that the rows belong to.
    asked
        The number of rows that the server was asked for.
    columns
        The label columns.
    table
        The table that was read.
    config
        The loader's options.

    Raises
    ------
    SourceError
        If the server has sent too many rows, or rows in the wrong order.
    """
    if len(result) > asked:
        raise SourceError(f"the server sent {len(result)} rows where {asked} were asked for")
    ranges = integers(result, 0) + (read.base - 1)  # ordinality counts from 1
    if ranges[0] < read.first or ranges[-1] >= read.end or (np.diff(ranges) < 0).any():
        raise SourceError("the server sent rows in another order than that of the ranges")
    keys = keys_of(result, 1, table.key_type)
    images = []
    bad: dict[int, str] = {}
    for i, name in enumerate(config.images):
        words = table.missing_image(name)
        blobs, missing = _blobs(result, 2 + 2 * i, name, words, limit=config.max_blob_bytes)
        images.append(blobs)
        bad = missing | bad  # the first reason stays
    labels = []
    for i, column in enumerate(columns, start=2 + 2 * len(images)):
        values, missing = labels_of(result, i, table.label_types[column.name], column)
        labels.append(values)
        bad |= missing
    return Chunk(keys, ranges, images, labels, bad, owner=result)


def _blobs(
    result: Result, at: int, name: str, missing: str, *, limit: int
) -> tuple[NDArray[np.intp], dict[int, str]]:
    """Return addresses and sizes of the blobs of an image column, and why rows have none.

    The result's column ``at`` has the sizes, and the next one the blobs. ``missing`` is what the
    column holds where it has no image.
    """
    blobs = result.blobs(at + 1)
    bad = {}
    for row in np.flatnonzero(blobs[:, 1] < 0).tolist():
        size = result.value(row, at)
        bad[row] = f"column {name!r} is {missing}"
        if size is not None:
            bad[row] = too_large(name, str(int.from_bytes(size, "big")), limit)
    # Only large objects get here: the server cannot tell their size without reading them.
    for row in np.flatnonzero(blobs[:, 1] > limit).tolist():
        bad[row] = too_large(name, f"more than {limit}", limit)
    return blobs, bad

"""Turn the rows of a PostgreSQL result into a chunk, without copying the images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...errors import SourceError
from ...fields.columns import Column
from ...fields.values import BLOB, NULL, TOO_LARGE, Values
from ...options.config import Config
from ..protocol import Chunk
from ._libpq import Result
from .read import Read
from .table import PostgresTable
from .types import OID, blobs_of, integers, keys_of, values_of

MISSING_OBJECT = "NULL, or the oid of a large object that does not exist"
"""What an image column of oids holds where it has no image."""


def chunk_of(
    result: Result,
    read: Read,
    before: Chunk | None = None,
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
    before
        The chunk of the rows before these, if they came in the same round trip.
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
    earliest = read.first if before is None else before.ranges[-1]
    if ranges[0] < earliest or ranges[-1] >= read.end or (np.diff(ranges) < 0).any():
        raise SourceError("the server sent rows in another order than that of the ranges")
    keys = keys_of(result, 1, table.key_types)
    at = 1 + len(table.key_types)
    found = {}
    bad: dict[int, str] = {}
    for i, (name, limit) in enumerate(config.blob_limits.items()):
        found[name] = _images(result, at + 2 * i, limit=limit)
        if table.image_oids[name] == OID:
            for row in np.flatnonzero(found[name].kinds == NULL).tolist():
                bad.setdefault(row, f"column {name!r} is {MISSING_OBJECT}")
    first = at + 2 * len(config.blob_limits)
    labels, missing = values_of(result, first, columns, table.label_types)
    return Chunk(keys, ranges, found | labels, bad | missing)


def _images(result: Result, at: int, *, limit: int) -> Values:
    """Return the blobs of an image column, or paths, of which it does not matter if they are text.

    The result's column ``at`` has their sizes, and the next one the blobs.
    """
    values = blobs_of(result, at + 1, BLOB)
    for row in np.flatnonzero(values.kinds == NULL).tolist():
        size = result.value(row, at)
        if size is not None:
            values.kinds[row], values.blobs[row, 1] = TOO_LARGE, int.from_bytes(size, "big")
    # Only large objects get here: the server cannot tell their size without reading them.
    larger = values.blobs[:, 1] > limit
    values.blobs[larger & (values.kinds == BLOB), 1] = -1
    values.kinds[larger] = TOO_LARGE
    return values

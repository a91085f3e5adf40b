from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

class QueryError(Exception):
    """A query failed. ``message``: the server's or libpq's words. ``sqlstate``: the server's code,
    or None if it is not the server who says so. ``lost``: the connection is of no more use."""

    message: str
    sqlstate: str | None
    lost: bool

    def __init__(self, message: str, sqlstate: str | None, lost: bool) -> None: ...

@disjoint_base
class Result:
    """The rows that a query has returned, whose memory lives as long as this object."""

    columns: list[tuple[str, int]]
    """Names and type OIDs."""
    modifiers: list[int]
    """Of the columns' types, such as precision and scale of a numeric; -1 without."""

    def __len__(self) -> int: ...
    def value(self, row: int, column: int) -> bytes | None:
        """A copy of one value as it came, text or binary; None for NULL."""

    def blobs(self, column: int) -> NDArray[np.intp]:
        """Where each row's value lies: intp (rows, 2), address and size; NULL has the size -1."""

    def raw(self, column: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """The values' bytes, uint8 (rows, width), with zeros behind those that are shorter and
        nothing but zeros for those that are longer; and their sizes, intp (rows,), -1 for NULL."""

    def arrays(
        self, column: int, element: int, width: int, shape: tuple[int, ...]
    ) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """PostgreSQL arrays of this shape, with elements of ``width`` bytes and the type OID
        ``element``: uint8 (rows, size * width), big-endian, with zeros for what is not read; and
        for each row, intp (rows,): 0 if it is read, 1 for NULL, 2 for what holds a NULL or cannot
        be read, 3 for another shape."""

@disjoint_base
class Session:
    """Queries on a psycopg2 connection, which must not be used otherwise meanwhile."""

    timeout_s: float

    def __init__(self, connection: Any, timeout_s: float) -> None:
        """``timeout_s``: without a byte from the server after which a query is given up."""

    def query(self, sql: bytes) -> list[Result]:
        """Runs one or more statements in one round trip; the results of those that return rows.

        Raises QueryError.
        """

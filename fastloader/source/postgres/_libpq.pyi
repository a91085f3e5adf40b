from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

class QueryError(Exception):
    """A query failed.

    Attributes
    ----------
    message
        What the server or libpq said.
    sqlstate
        The server's code, or None if the error is not the server's.
    lost
        Whether the connection cannot be used any more.
    """

    message: str
    sqlstate: str | None
    lost: bool

    def __init__(self, message: str, sqlstate: str | None, lost: bool) -> None: ...

@disjoint_base
class Result:
    """The rows that a query returned. Their memory lives as long as this object.

    ``len(result)`` is the number of rows. Columns are named by their index; one that does not exist
    raises IndexError.

    Attributes
    ----------
    columns
        Names and type OIDs of the columns. For rows of COPY the server does not tell.
    modifiers
        Modifiers of the columns' types, such as precision and scale of a numeric; -1 for none. For
        rows of COPY the server does not tell.
    """

    columns: list[tuple[str, int]]
    modifiers: list[int]

    def __len__(self) -> int: ...
    def value(self, row: int, column: int) -> bytes | None:
        """Return a copy of one value as the server sent it, text or binary. NULL is None."""

    def blobs(self, column: int) -> NDArray[np.intp]:
        """Return where each row's value lies: address and size, intp (rows, 2).

        The size of NULL is -1. The addresses are valid as long as the result.
        """

    def raw(self, column: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """Return copies of the values, uint8 (rows, width), and their sizes, intp (rows,).

        Shorter values are padded with zeros. Longer ones are all zeros. The size of NULL is -1.
        """

    def numbers(
        self, columns: Sequence[tuple[int, str, int, int]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[tuple[int, int]]]:
        """Return kinds and numbers of the values, as ``fields.values.Values`` has them.

        Parameters
        ----------
        columns
            For each column its index, the dtype of its binary form (``"?"``, ``">i2"``, ``">i4"``,
            ``">u4"``, ``">i8"``, ``">f4"`` or ``">f8"``), unit and epoch. With an epoch the values
            are times, of which the lowest and the highest of the type are infinite, and the numbers
            are ``(value + epoch) * unit``.

        Returns
        -------
        kinds
            NULL, INTEGER or REAL, uint8 (columns, rows).
        numbers
            int64 (columns, rows); for REAL, the bits of a float64.
        far
            Position in `columns` and row of each time that is infinite or does not fit int64. Its
            kind is NULL.

        Raises
        ------
        SourceError
            If a value has another size than the type.
        """

@disjoint_base
class Session:
    """Queries on a psycopg2 connection, which must not be used in another way meanwhile.

    Parameters
    ----------
    connection
        The psycopg2 connection. It becomes nonblocking.
    timeout_s
        The time without a byte from the server after which a query fails.
    """

    timeout_s: float

    def __init__(self, connection: Any, timeout_s: float) -> None: ...
    def query(
        self,
        sql: bytes,
        params: list[tuple[int, bytes | None]] | None = None,
        each: Callable[[Result], None] | None = None,
    ) -> list[Result]:
        """Run one or more statements in one round trip.

        Parameters
        ----------
        sql
            The statements. With `params`, even an empty list, it can only be one.
        params
            The values of ``$1``, ``$2`` and so on: for each the OID of its type, or 0 if the server
            is to find out, and its text without a NUL, or None for NULL.
        each
            Called with each result as soon as it has come. For ``COPY ... TO STDOUT (FORMAT
            binary)``, which needs it, that is a result for some of the rows at a time, while the
            server works on the next. If it raises, the connection is in the middle of an answer and
            can only be closed.

        Returns
        -------
        list of Result
            The results of the statements that return rows. It is empty if there is ``each``.

        Raises
        ------
        QueryError
            If a statement failed or the connection was lost.
        SourceError
            If what comes for a COPY is not its binary format.
        """

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from ...fields.values import Values

MISUSE: int
"""The code of the error for a call that makes no sense, such as two statements at a time."""
origin: str
"""Whose SQLite this is: "Python", "fastloader" (the one in the wheel), or "another library"."""
version: str
"""SQLite's version."""

class SQLiteError(Exception):
    """SQLite refused or failed.

    Attributes
    ----------
    message
        SQLite's message.
    code
        SQLite's extended result code. ``code & 0xff`` is the primary one.
    """

    message: str
    code: int

    def __init__(self, message: str, code: int) -> None: ...

@disjoint_base
class Database:
    """A read-only connection to a database file, and the owner of all its statements.

    It compiles no statement that calls ``random()`` or ``randomblob()``, which SQLite words "not
    authorized to use function: random".

    One thread at a time may use it and its readers, except for :meth:`interrupt`. A forked child
    cannot use it.

    Parameters
    ----------
    uri
        The file as a URI, ``file:///path?mode=ro``.
    busy_timeout_s
        The time to wait for a writer that has locked the file.

    Raises
    ------
    SQLiteError
        If SQLite cannot open the file. It does not look into the file before the first statement.

    Attributes
    ----------
    uri
        The URI that was opened.
    closed
        Whether the connection is closed.
    constants
        The values of the parameters that have names, such as ``$1``, by name. They are bound to
        every statement that has such parameters, behind those without names.
    """

    uri: str
    closed: bool
    constants: dict[str, bool | int | float | str | bytes | None]

    def __init__(self, uri: str, busy_timeout_s: float) -> None: ...
    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows as Python objects.

        Parameters and values are None, int, float, str or bytes. Text keeps its bytes: those that
        are not UTF-8 become lone surrogates.

        Raises
        ------
        SQLiteError
            If SQLite refuses or fails; with the code :data:`MISUSE` if the SQL is not exactly one
            statement, or has another number of parameters, or one whose name is not in `constants`.
        """

    def interrupt(self) -> None:
        """Have the statement or read that is under way end with SQLiteError. For any thread."""

    def close(self) -> None:
        """Close the connection. It may be called twice."""

@disjoint_base
class Rows:
    """Rows that were read. They own the memory of their values.

    ``len(rows)`` is their number.

    Attributes
    ----------
    done
        The number of ranges that were read to their end.
    is_cut
        Whether the range after those was begun: its last row here may not be its last.
    ranges
        The number of each row's range: int64 (n,).
    columns
        The values of each column. Arrays and addresses keep this object alive.
    """

    done: int
    is_cut: bool
    ranges: NDArray[np.int64]
    columns: list[Values]

    def __len__(self) -> int: ...

@disjoint_base
class Reader:
    """A compiled statement for the rows of key ranges.

    Parameters
    ----------
    database
        The connection.
    sql
        The statement. Its columns are those of `limits`, then the size in bytes of the values of
        each column that has a limit. Its parameters are these limits, then those of a range, then
        those that have names.
    limits
        The size in bytes above which a column's values are left in the database, or None, for each
        column. The statement returns NULL for them, with a size that is not NULL.
    rest
        The same for the rows of a range that was cut. The parameters may have another meaning.

    Raises
    ------
    SQLiteError
        If SQLite cannot compile a statement.
    """

    def __init__(
        self,
        database: Database,
        sql: str,
        limits: Sequence[int | None],
        rest: str | None = None,
    ) -> None: ...
    def read(
        self,
        ranges: list[tuple[int | str | bytes, ...]],
        *,
        most_bytes: int,
        rest: bool = False,
        number: int = 0,
    ) -> Rows:
        """Read the rows of some ranges, without the GIL.

        Several ranges are read in one transaction, which ends from time to time, between two
        ranges, to let writers in. No statement and no transaction is open when this returns.

        Parameters
        ----------
        ranges
            The statement's parameters for each range, in the order in which they are read.
        most_bytes
            The read ends after the row with which the rows have this size, counting 8 bytes for
            each value and the sizes of texts and blobs.
        rest
            Whether the first range is what remains of one that was cut.
        number
            The number of the first range.

        Raises
        ------
        SQLiteError
            If SQLite fails.
        """

    def close(self) -> None:
        """Free the statements, which otherwise lasts until the database is closed."""

def padded(blobs: NDArray[np.intp], width: int) -> NDArray[np.uint8]:
    """Return copies of the texts or blobs at n addresses, uint8 (n, width).

    Shorter ones are padded with zeros, and longer ones are all zeros.

    Parameters
    ----------
    blobs
        Addresses and sizes, intp (n, 2), of memory that the caller keeps alive.
    width
        The size of the longest in bytes.
    """

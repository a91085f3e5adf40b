from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

from ..fields.values import Values

STATUS: dict[str, int]
"""What keeps a file from being read, where it is not an errno: words, and numbers below zero."""

@disjoint_base
class Folder:
    """A folder that files are read from, held open.

    Parameters
    ----------
    path
        The folder.
    walks
        Whether to do without openat2. Then links are refused, even those that lead to a file
        beneath the folder. It is True anyway where there is no openat2.

    Raises
    ------
    OSError
        If the folder cannot be opened, or /proc is not mounted.

    Attributes
    ----------
    path
        The folder.
    walks
        Whether openat2 is not used.
    closed
        Whether the folder is closed.
    """

    path: str
    walks: bool
    closed: bool

    def __init__(self, path: str, *, walks: bool = False) -> None: ...
    def close(self) -> None:
        """Close the folder. It may be called twice."""

def read_files(
    folders: list[Folder],
    paths: list[Values],
    start: int,
    own: Sequence[tuple[int, int]],
    *,
    limit: int,
    most_bytes: int,
    slow_s: float = 3e-5,
) -> tuple[int, list[tuple[NDArray[np.int32], NDArray[np.intp]]], object]:
    """Read the files that rows name, without the GIL.

    Only regular files beneath the folders are opened.

    Parameters
    ----------
    folders
        A folder for each column of paths. Several columns may have the same.
    paths
        The columns.
    start
        The first row to read.
    own
        Device and inode of files that must not be opened.
    limit
        The size in bytes above which a file is not read.
    most_bytes
        The read ends after the row with which the files have this size, or when it has taken
        0.1 s.
    slow_s
        If the files of a row take longer than this and the copying of their bytes, they came from a
        disk. Then the system is told of the next 16 rows, so that it reads several at a time.

    Returns
    -------
    rows
        The number of rows from `start` on that were looked at, at least one.
    found
        For each column the statuses, int32 (rows,), and addresses and sizes of the contents,
        intp (rows, 2). A status is 0, an errno, or one of :data:`STATUS`. For a file that is too
        large there is the size alone.
    owner
        What keeps the contents alive.
    """

"""The files whose paths a column holds: they are read where rows come from the source.

The paths are hostile: they come from the database. ``_files.pyx`` opens nothing but regular files
beneath the folder of the field. Whatever else a path names makes its row a bad row.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable, Iterator

import numpy as np

from ..errors import THE_PATH, SourceError
from ..fields.values import BLOB, NULL, TOO_LARGE, Values, described
from ..options.config import MOST_PATH_BYTES, Config
from ..system.descriptors import forget_in_children
from ._files import STATUS, Folder, read_files
from .protocol import Chunk, Source

FETCH_BYTES = 1 << 20
"""The size of the files that are read ahead while others are decoded. More of them would not stay
in the processor's cache."""

SHOWN_BYTES = 200
"""A longer path is cut in messages."""

IN_A_FOLDER = {
    errno.ENOENT: "no such file in {folder}",
    errno.ENOTDIR: "no such file in {folder}",
    errno.EACCES: "no permission to read the file in {folder}",
    errno.EXDEV: "the path leads out of {folder}",
    errno.ELOOP: "a chain of links in {folder} is too long",
    errno.ENAMETOOLONG: "a name in the path is too long",
    STATUS["empty"]: "the path is empty",
    STATUS["nul"]: "the path has a NUL in it",
    STATUS["too long"]: f"the path has more than {MOST_PATH_BYTES} bytes",
    STATUS["absolute"]: "the path is absolute; it has to be relative to {folder}",
    STATUS["up"]: 'the path has ".." in it, which may lead out of {folder}',
    STATUS["link"]: "a link in {folder}, which this system cannot follow safely",
    STATUS["folder"]: "a folder in {folder}, not a file",
    STATUS["fifo"]: "a FIFO in {folder}, not a regular file",
    STATUS["socket"]: "a socket in {folder}, not a regular file",
    STATUS["device"]: "a device in {folder}, not a regular file",
    STATUS["database"]: "a file of the database itself, which only the database may open",
    STATUS["changed"]: "the file in {folder} changed while it was read",
}
"""Why there is no file, by its status."""

OF_THE_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What says nothing about a file: this process has reached a limit."""


class FileReader:
    """Reads the files of the fields with ``files=``. It belongs to one thread at a time.

    Parameters
    ----------
    config
        The loader's options.

    Raises
    ------
    SourceError
        If a folder cannot be opened on this machine.
    """

    def __init__(self, config: Config) -> None:
        self._limit = config.max_blob_bytes
        self._most_bytes = config.fetch_bytes or FETCH_BYTES
        self._columns: dict[str, tuple[str, Folder]] = {}
        folders: dict[str, Folder] = {}
        for field in config.all_fields:
            if field.folder is not None:
                if field.folder not in folders:
                    folders[field.folder] = _opened(field.folder)
                self._columns[field.in_chunk] = (field.of_column, folders[field.folder])

    def chunks(self, source: Source, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Yield the rows of a source's chunks with the contents of their files.

        Rows are short where they hold paths, so a chunk has thousands of them, and is divided by
        the sizes of the files.
        """
        for chunk in chunks:
            if not self._columns:
                yield chunk
                continue
            start = 0
            while start < len(chunk.keys):
                part = self._read(chunk, start, source.own_files())
                start += len(part.keys)
                yield part

    def _read(self, chunk: Chunk, start: int, own: list[tuple[int, int]]) -> Chunk:
        """Return the first rows of a chunk from ``start`` on, as many as make a chunk."""
        count, found, owner = read_files(
            [folder for _, folder in self._columns.values()],
            [chunk.columns[column] for column, _ in self._columns.values()],
            start,
            own,
            limit=self._limit,
            most_bytes=self._most_bytes,
        )
        rows = slice(start, start + count)
        columns = {name: values[rows] for name, values in chunk.columns.items()}
        bad = {i - start: why for i, why in chunk.bad.items() if i in range(start, start + count)}
        for (name, (column, folder)), (statuses, blobs) in zip(
            self._columns.items(), found, strict=True
        ):
            paths = columns[column]
            kinds = np.where(statuses == 0, BLOB, NULL).astype(np.uint8)
            columns[name] = Values(kinds, np.zeros(count, np.int64), blobs, owner)
            for i in np.flatnonzero(statuses).tolist():
                status = int(statuses[i])
                if status in OF_THE_PROCESS:
                    raise OSError(status, os.strerror(status))
                if paths.kinds[i] != NULL:  # which the decoder finds
                    size = int(blobs[i, 1])
                    why = self._why(paths, i, status, folder.path, size)
                    bad.setdefault(i, f"column {column!r}: {why}")
        return Chunk(chunk.keys[rows], chunk.ranges[rows], columns, bad)

    def _why(self, paths: Values, row: int, status: int, folder: str, size: int) -> str:
        """Return the reason for a row whose file was not read."""
        if status == STATUS["no path"]:
            return f"{described(paths.value(row))} is not a path"
        if status == STATUS["too large"]:
            why = (
                f"a file in {folder} is larger than {self._limit} bytes, the limit; raise "
                f"max_blob_bytes to allow it{THE_PATH}{shown(paths.start(row, SHOWN_BYTES + 1))}"
            )
            return f"{why} ({size} bytes)"
        words = IN_A_FOLDER.get(status, "{error} in {folder}")
        error = os.strerror(status) if status > 0 else ""
        why = words.format(folder=folder, error=error)
        if status == STATUS["empty"] or paths.kinds[row] == TOO_LARGE:
            return why  # there is no path to show
        return f"{why}{THE_PATH}{shown(paths.start(row, SHOWN_BYTES + 1))}"

    def close(self) -> None:
        """Close the folders. It may be called twice."""
        for _, folder in self._columns.values():
            folder.close()


def read_file(
    folder: Folder, path: object, own: list[tuple[int, int]], *, limit: int
) -> bytes | None:
    """Return the content of one file, or None if :class:`FileReader` would not read it."""
    _, ((statuses, blobs),), owner = read_files(
        [folder], [Values.of([path])], 0, own, limit=limit, most_bytes=0
    )
    content = ctypes.string_at(*blobs[0].tolist()) if statuses[0] == 0 else None
    del owner  # it has kept the content alive until here
    return content


def shown(path: bytes) -> str:
    """Return a path in words: in quotes, with unprintable bytes escaped, and not too long."""
    text = path[:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return f"'{printable}'" + ("..." if len(path) > SHOWN_BYTES else "")


def _opened(path: str) -> Folder:
    try:
        folder = Folder(path)
    except OSError as error:
        if error.errno in OF_THE_PROCESS:
            raise
        raise SourceError(
            f"files={path!r}: cannot open this folder on {os.uname().nodename}: "
            f"{error.strerror}. Every machine that reads the files needs them at this path"
        ) from None
    forget_in_children(folder, Folder.close)
    return folder

"""The cache file: decoded rows that later epochs, other processes and later runs use again.

Each process that makes batches reads and writes rows of it. :mod:`fastloader.cache.create` makes
the file, in the training process. :mod:`fastloader.cache.rows` decides which rows of a batch come
out of it.

The contract
------------
A file belongs to one state of a table and one set of options. It begins with a mark of one byte for
each row of the table. The rows follow, each at a fixed place: the images and labels as they stand
in a batch. Nothing of the file is mapped. It is read with ``pread`` and written with ``pwrite``, so
a full or broken disk, or a file that was truncated, is an error that can be handled, and not a
SIGBUS. The copy from the page cache into the slot is the only one.

There are no locks. A mark says that a row may be there. The row's checksum says whether it is. So
a row counts as absent while it is half written: by a process that writes it at this moment, or that
was killed, or because the machine stopped. Two processes that store the same row write the same
bytes. A process reads a mark once, and believes it until the row turns out to be wrong.

No error of the file is an error of the loader. The rows are decoded instead, and a note says why.

The name of the file is a digest of all that its bytes depend on, so rows of another table, state,
option or version are never looked at.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import mmap
import os
import stat
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._version import __version__
from ..batches.schema import Outputs
from ..fields import _kernel
from ..fields.columns import Column
from ..fields.image import Image
from ..fields.ragged_rows import RaggedRows
from ..options.config import Config
from ..plan.keys import Keys, digest
from ..plan.order import Positions
from ..system.descriptors import forget_in_children
from ..transport.ring import ALIGNMENT

FORMAT = 3
"""The version of the file's format."""

SUFFIX = ".fastloader"

HEADER = struct.Struct("<IIQ")
"""What a row begins with: a checksum (CRC-32, as in gzip) of the cache's name and of all that
follows, the bytes of its ragged columns, and its position in the sorted key column."""

LENGTH = np.dtype("<u4")
"""What the bytes of the ragged columns begin with: the bytes of each of them."""

MARK = b"\1"
"""The mark of a row that may be there. Any other byte means that it is not."""

NEAR = 4096
"""Marks at most this far apart are read in one call, with those between them."""

Rows = list[NDArray[np.uint8]]
"""The bytes of each column that is not text: uint8 (n, bytes of a row)."""


def name_of(
    config: Config, keys: Keys, columns: Sequence[Column], state: str, outputs: Outputs = ()
) -> str:
    """Return a digest of all that a cached row's bytes depend on.

    Parameters
    ----------
    state
        The state of the table, from :meth:`fastloader.source.protocol.Source.state`.
    outputs
        What a transform leaves.
    """
    made = {
        f"{part} {name}": field.decoder_options(is_cached=True)
        if isinstance(field, Image)
        else [type(field).__name__, field.options()]
        for part, fields in config.fields_by_part
        for name, field in fields.items()
    }
    chosen = [config.where, list(map(repr, config.params))]
    rows = [config.table, config.query, *chosen, config.key, config.max_blob_bytes]
    options: list[Any] = [*rows, config.worker_imports, made]
    if config.cache_transformed:
        kept = [asdict(output) for output in outputs[0]]
        options += [config.transform_version, config.seed, kept]
    what = [FORMAT, __version__, _libraries(), options, [asdict(c) for c in columns], state]
    return blake2b(json.dumps([*what, digest(keys)]).encode(), digest_size=20).hexdigest()


def _libraries() -> list[str]:
    """Return what decodes: the extension, to the byte, the codecs it has loaded, and Pillow."""
    import importlib.metadata  # here, because it takes 25 ms and at most one process needs it

    kernel = blake2b(Path(_kernel.__file__).read_bytes(), digest_size=16).hexdigest()
    found = [kernel, _kernel.libraries]
    for name in ("pillow", "pillow-simd"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


@dataclass(frozen=True)
class Place:
    """Where a cache is and what it keeps; enough for :class:`Cache` in any process of the loader.

    Attributes
    ----------
    path
        The path of the file.
    name
        Its name, from :func:`name_of`.
    rows
        The number of rows of the table.
    kept
        The number of rows that there is room for: the first ones of the sorted key column.
    columns
        The columns of a row, with text columns.
    state
        The state of the table that the rows belong to.
    """

    path: str
    name: str
    rows: int
    kept: int
    columns: tuple[Column, ...]
    state: str

    @property
    def row_bytes(self) -> int:
        """The bytes from one row to the next."""
        size = HEADER.size + self.ragged_bytes
        size += sum(column.row_bytes for column in self.columns if not column.is_ragged)
        return -(-size // ALIGNMENT) * ALIGNMENT

    @property
    def ragged_bytes(self) -> int:
        """The room for all ragged columns of a row, in bytes. A row with more is not kept."""
        ragged = [column for column in self.columns if column.is_ragged]
        return sum(LENGTH.itemsize + c.capacity(1) * c.row_bytes for c in ragged)

    @property
    def first_row(self) -> int:
        """Where the first row starts, in bytes, after the marks."""
        return -(-self.rows // mmap.PAGESIZE) * mmap.PAGESIZE


class Cache:
    """The rows of one file, as a worker reads and writes them.

    One thread at a time may use it, but any may call :meth:`holds`. No method raises OSError.

    Attributes
    ----------
    notes
        What is wrong with the file, for the log.
    """

    def __init__(self, place: Place) -> None:
        self.notes: list[str] = []
        self._place = place
        self._name = place.name.encode()
        self._row_bytes = place.row_bytes
        self._known = np.zeros(place.rows, np.bool_)  # marks that were read, or set
        self._ragged = [column for column in place.columns if column.is_ragged]
        self._ragged_bytes = place.ragged_bytes
        self._kept = place.kept
        self._is_full = False
        self._fd = -1
        try:
            self._file = _regular(place.path)
            forget_in_children(self._file, io.FileIO.close)
            self._fd = self._file.fileno()
        except OSError as error:
            self._give_up("opened", error)

    def holds(self, positions: Positions) -> NDArray[np.bool_]:
        """Return which of the rows are marked, (n,)."""
        is_kept = positions < self._kept
        unknown = positions[is_kept & ~self._known[positions]]
        if len(unknown):
            self._read_marks(np.sort(unknown))
        return self._known[positions] & (positions < self._kept)

    def rows(self, arrays: dict[str, NDArray[np.generic]]) -> Rows:
        """Return the bytes of a batch's arrays, for :meth:`load` and :meth:`store`."""
        fixed = (arrays[c.name] for c in self._place.columns if not c.is_ragged)
        return [array.reshape(len(array), -1).view(np.uint8) for array in fixed]

    def load(self, position: int, rows: Rows, ragged: Mapping[str, RaggedRows], at: int) -> bool:
        """Put a row into place ``at`` of ``rows`` and ``ragged``.

        Returns
        -------
        bool
            False if the row is not there: then its mark is cleared, and what is in its place is
            undefined.
        """
        header, text = bytearray(HEADER.size), bytearray(self._ragged_bytes)
        row = [column[at] for column in rows]
        try:
            os.preadv(self._fd, [header, *row, text], self._offset(position))
        except OSError as error:
            self._give_up("read", error)
            return False
        checksum, text_bytes, found = HEADER.unpack(header)
        if (
            found != position
            or text_bytes > len(text)
            or not self._can_be_taken_apart(text[:text_bytes])
            or checksum != _kernel.crc32([self._name, header[4:], *row, text[:text_bytes]])
        ):
            self._mark(position, there=False)
            return False
        self._put(bytes(text[:text_bytes]), ragged, at)
        return True

    def _can_be_taken_apart(self, data: bytearray) -> bool:
        """Return whether these can be the bytes of a row's ragged columns."""
        start = len(self._ragged) * LENGTH.itemsize
        if not self._ragged or len(data) < start:
            return not self._ragged
        lengths = np.frombuffer(data[:start], LENGTH).tolist()
        items = zip(self._ragged, lengths, strict=True)
        return start + sum(lengths) == len(data) and not any(
            length % max(1, column.row_bytes) for column, length in items
        )

    def _put(self, data: bytes, ragged: Mapping[str, RaggedRows], at: int) -> None:
        """Take apart the bytes of a row's ragged columns, as :meth:`store` has joined them."""
        start = len(self._ragged) * LENGTH.itemsize
        lengths = np.frombuffer(data[:start], LENGTH).tolist() if start else []
        for column, length in zip(self._ragged, lengths, strict=True):
            ragged[column.name].put(at, data[start : start + length])
            start += length

    def store(self, position: int, rows: Rows, ragged: Mapping[str, RaggedRows], at: int) -> None:
        """Keep the row in place ``at`` of ``rows`` and ``ragged``, if there is room for it."""
        if position >= self._kept or self._is_full:
            return
        items = [ragged[column.name].row(at).tobytes() for column in self._ragged]
        words = np.array([*map(len, items)], LENGTH).tobytes() + b"".join(items)
        if len(words) > self._ragged_bytes:
            return
        row = [column[at] for column in rows]
        about = HEADER.pack(0, len(words), position)[4:]
        header = _kernel.crc32([self._name, about, *row, words]).to_bytes(4, "little") + about
        size = len(header) + len(words) + sum(len(column) for column in row)
        try:
            if os.pwritev(self._fd, [header, *row, words], self._offset(position)) < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._is_full = True
            self._note("takes no more rows", error, "The others are decoded in each epoch")
        else:
            self._mark(position, there=True)

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._kept = 0
        if self._fd >= 0:
            self._file.close()

    def _offset(self, position: int) -> int:
        return self._place.first_row + position * self._row_bytes

    def _read_marks(self, unknown: Positions) -> None:
        """Read the marks of these rows, which are in order."""
        ends = np.flatnonzero(np.diff(unknown, append=np.iinfo(np.int64).max) > NEAR)
        begins = [0, *(ends[:-1] + 1)]
        try:
            for first, last in zip(unknown[begins].tolist(), unknown[ends].tolist(), strict=True):
                marks = os.pread(self._fd, last - first + 1, first)
                # Only set marks are noted: another thread may be clearing one of the others.
                if marks == MARK:  # one row, as in large shuffled tables: 1 us, not 10 with arrays
                    self._known[first] = True
                elif len(marks) > 1:
                    there = np.flatnonzero(np.frombuffer(marks, np.uint8) == ord(MARK))
                    self._known[first + there] = True
        except OSError as error:
            self._give_up("read", error)

    def _mark(self, position: int, *, there: bool) -> None:
        self._known[position] = there
        try:
            os.pwrite(self._fd, MARK if there else b"\0", position)
        except OSError as error:  # a row that cannot be unmarked must not be asked for again
            self._give_up("written", error)

    def _give_up(self, what: str, error: OSError) -> None:
        """Work without the file from now on."""
        self._kept = 0
        self._note(f"cannot be {what}", error, "Its rows are decoded instead")

    def _note(self, problem: str, error: OSError, what: str) -> None:
        text = f"the cache file {self._place.path} {problem} ({error.strerror}). {what}"
        if text not in self.notes:
            self.notes.append(text)


def _regular(path: str) -> io.FileIO:
    """Open a file to read and write it. Raises OSError, also if it is not a regular file."""
    file = io.FileIO(path, "r+")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file")
    return file

"""Blobs that are arrays: raw bytes of numbers, or NumPy's .npy format."""

from __future__ import annotations

import ctypes
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _kernel
from .columns import Column, by
from .npy import MAGIC, Header, header_bytes, parse_header
from .values import BLOB, Values

Blobs = NDArray[np.intp]

BROKEN_NPY = "a .npy blob that is damaged or does not hold numbers"


def blob_column(name: str, start: bytes, size: int) -> Column:
    """Return the column of a database whose blobs are arrays of numbers.

    Parameters
    ----------
    start
        The first bytes of a blob, up to ``MOST_HEADER_BYTES``.
    size
        Its size in bytes.
    """
    header = parse_header(start[: header_bytes(start[:12])]) if header_bytes(start[:12]) else None
    if header is not None:
        return Column(name, header.dtype.name, header.shape, form="npy")
    return Column(name, "uint8", (size,), form="raw")


class Group(NamedTuple):
    """Blobs of a stretch of rows that have the same form.

    Attributes
    ----------
    is_in
        Which rows have it, (n,).
    header
        The header of .npy blobs; None for raw ones.
    blobs
        Address and size of the numbers of each row of the stretch, (n, 2).
    """

    is_in: NDArray[np.bool_]
    header: Header | None
    blobs: Blobs

    def lengths(
        self, inner: tuple[int, ...], item_bytes: int
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which rows are arrays of any number of items, and how many those are.

        Parameters
        ----------
        inner, item_bytes
            The shape of an item, and its size in raw blobs.
        """
        if self.header is None:
            items, rest = np.divmod(self.blobs[:, 1], max(1, item_bytes))
            return self.is_in & (rest == 0), items.astype(np.int64)
        shape = self.header.shape
        fits = self.is_in & (shape != () and shape[1:] == inner)
        return fits, np.full(len(fits), shape[0] if shape else 0, np.int64)

    def described(self, row: int) -> str:
        """Return in words what a row of the group holds."""
        if self.header is None:
            return f"a blob of {self.blobs[row, 1]} bytes"
        return f"an array of {by(self.header.shape)} x {self.header.dtype.name}"


def groups(values: Values) -> tuple[list[Group], dict[int, str]]:
    """Divide blobs by their form.

    Returns
    -------
    tuple
        The groups, and what the other rows hold, by their index.
    """
    is_blob = values.kinds == BLOB
    by_header: dict[bytes, list[int]] = {}
    bad = {i: values.described(i) for i in np.flatnonzero(~is_blob).tolist()}
    for i in np.flatnonzero(is_blob & (values.blobs[:, 1] > len(MAGIC))).tolist():
        start = values.start(i, 12)
        if start.startswith(MAGIC):
            text = values.start(i, header_bytes(start))
            by_header.setdefault(text, []).append(i)
            is_blob[i] = False
    found = [Group(is_blob, None, values.blobs)] if is_blob.any() else []
    for text, rows in by_header.items():
        header = parse_header(text) if text else None
        if header is None:
            bad |= dict.fromkeys(rows, BROKEN_NPY)
            continue
        blobs = values.blobs.copy()
        blobs[rows] += np.array((len(text), -len(text)))
        is_in = np.zeros(len(values), np.bool_)
        is_in[rows] = blobs[rows, 1] == header.data_bytes
        bad |= {i: BROKEN_NPY for i in rows if not is_in[i]}
        found.append(Group(is_in, header, blobs))
    return found, bad


def read_group(group: Group, target: NDArray[Any]) -> None:
    """Copy the numbers of a group's rows, one row after the other.

    Parameters
    ----------
    target
        Where to store them: as many numbers of the group's type as there are.
    """
    header = group.header
    if header is None or header.is_plain:
        _kernel.gather(group.blobs, group.is_in, target)
        return
    order: Literal["C", "F"] = "F" if header.is_fortran else "C"
    if header.data_bytes == 0:
        return
    rows = target.reshape(-1, *header.shape)
    for i, (address, size) in enumerate(group.blobs[group.is_in].tolist()):
        data = np.frombuffer(ctypes.string_at(address, size), header.dtype)
        rows[i] = data.reshape(header.shape, order=order)

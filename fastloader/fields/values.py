"""The values of a database column, where the database driver has put them.

A source hands rows over without a Python object for each value: numbers in an array, and text and
blobs as addresses in memory that the driver or the source owns.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NULL, INTEGER, REAL, TEXT, BLOB, TOO_LARGE = range(6)
"""What a value can be. One that is TOO_LARGE was left in the database; its size may be known."""


@dataclass(frozen=True)
class Form:
    """How the blobs of a column write arrays of numbers.

    Attributes
    ----------
    kind
        A key of ``_kernel.ARRAY_FORMS``.
    dtype
        The name of the NumPy dtype that holds the elements exactly.
    element
        The type OID of the elements of a ``"pg_array"``.
    """

    kind: str
    dtype: str
    element: int = 0


@dataclass(frozen=True, eq=False)
class Values:
    """The values of one column in n consecutive rows.

    Attributes
    ----------
    kinds
        What each value is, one of the constants of this module: uint8 (n,).
    numbers
        The numbers: int64 (n,). For a REAL, the bits of a float64.
    blobs
        Address and size in bytes of each TEXT, which is UTF-8, and of each BLOB: intp (n, 2). For
        a value that is TOO_LARGE, only its size, or -1 if that is unknown.
    owner
        What keeps the memory of the blobs alive. None if there are none.
    form
        How the blobs write arrays. None if they are not known to be arrays.
    """

    kinds: NDArray[np.uint8]
    numbers: NDArray[np.int64]
    blobs: NDArray[np.intp]
    owner: object = None
    form: Form | None = None

    @classmethod
    def of(cls, values: Sequence[Any]) -> Values:
        """Return Python objects as values: None, int, float, str or bytes."""
        kinds = np.zeros(len(values), np.uint8)
        numbers = np.zeros(len(values), np.int64)
        blobs = np.zeros((len(values), 2), np.intp)
        owner = []
        for i, value in enumerate(values):
            if isinstance(value, float):
                kinds[i], numbers[i : i + 1].view(np.float64)[0] = REAL, value
            elif isinstance(value, int):
                kinds[i], numbers[i] = INTEGER, value
            elif value is not None:
                is_text = isinstance(value, str)
                data = value.encode("utf-8", "surrogateescape") if is_text else bytes(value)
                array = np.frombuffer(data or b"\0", np.uint8)
                kinds[i], blobs[i] = TEXT if is_text else BLOB, (array.ctypes.data, len(data))
                owner.append(data)
        return cls(kinds, numbers, blobs, owner)

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> Values:
        """Return the values of some of the rows."""
        return Values(self.kinds[rows], self.numbers[rows], self.blobs[rows], self.owner, self.form)

    def up_to(self, most_bytes: int) -> Values:
        """Return the values, with texts and blobs of more bytes marked as TOO_LARGE."""
        if self.owner is None:
            return self
        larger = self.blobs[:, 1] > most_bytes
        if not larger.any():
            return self
        kinds = self.kinds.copy()
        kinds[larger] = TOO_LARGE
        return Values(kinds, self.numbers, self.blobs, self.owner, self.form)

    @property
    def nbytes(self) -> int:
        """The size of all numbers, texts and blobs."""
        if self.owner is None:
            return self.numbers.nbytes
        is_blob = (self.kinds == TEXT) | (self.kinds == BLOB)
        return self.numbers.nbytes + int(self.blobs[is_blob, 1].sum())

    def value(self, row: int) -> Any:
        """Return a value as a Python object; None also for one that is TOO_LARGE.

        Bytes of text that are not UTF-8 become lone surrogates.
        """
        kind = self.kinds[row]
        if kind == INTEGER:
            return int(self.numbers[row])
        if kind == REAL:
            return float(self.numbers[row : row + 1].view(np.float64)[0])
        if kind in (TEXT, BLOB):
            data = ctypes.string_at(*self.blobs[row].tolist())
            return data if kind == BLOB else data.decode("utf-8", "surrogateescape")
        return None

    def described(self, row: int) -> str:
        """Return a value in words, for the reason why it is not delivered."""
        if self.kinds[row] == TOO_LARGE:
            return "a value larger than max_blob_bytes"  # PostgreSQL may have sent only its start
        return described(self.value(row))

    def start(self, row: int, size: int) -> bytes:
        """Return the first ``size`` bytes of a TEXT or BLOB."""
        address, its = self.blobs[row].tolist()
        return ctypes.string_at(address, min(size, its))


def described(value: object) -> str:
    """Return a value in words, for the reason why it is not delivered."""
    if value is None:
        return "NULL"
    if isinstance(value, bytes):
        return f"a blob of {len(value)} bytes"
    return repr(value) if len(repr(value)) <= 40 else repr(value)[:40] + "..."

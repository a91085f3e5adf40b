"""Which rows belong to a part of a table: by a hash of a value, whatever other rows there are.

A row's number is the first eight bytes of BLAKE2b of its value as text, so it is the same in every
database, on every machine and in every version. Do not change it: a row would move from the
training data to the test data.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from ..options.split import split_limits
from .keys import INTEGER, Keys, key_parts, together

SOME = 100_000
"""The number of values that are Python objects at a time."""


def numbers_of(values: Keys) -> NDArray[np.uint64]:
    """Return the number of each value, uint64 (n,).

    The text of an integer is in decimal, that of a UUID has hyphens. The texts of several columns
    are joined by NULs.
    """
    found = np.empty(len(values), np.uint64)
    for start in range(0, len(values), SOME):
        some = slice(start, start + SOME)
        columns = [_texts(part[some]) for part in key_parts(values)]
        texts = columns[0] if len(columns) == 1 else [*map(b"\0".join, zip(*columns, strict=True))]
        different = set(texts)
        if 2 * len(different) > len(texts):
            digests = map(_digest, texts)
        else:  # groups are hashed once: 0.4 us of CPU a row in place of 0.9
            known = {text: _digest(text) for text in different}
            digests = map(known.__getitem__, texts)
        found[some] = np.frombuffer(b"".join(digests), "<u8")
    return found


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=8).digest()


def _texts(part: Keys) -> list[bytes]:
    if part.dtype.kind == "V":
        return [
            b"-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))
            for h in (value.hex().encode() for value in part.tolist())
        ]
    texts: list[bytes] = (part.astype("S20") if part.dtype.kind == "i" else part).tolist()
    return texts


def with_numbers(keys: Keys, numbers: NDArray[np.uint64]) -> Keys:
    """Return keys with a last column that has their rows' numbers."""
    return together([*key_parts(keys), numbers.view(INTEGER)])


def without_numbers(keys: Keys) -> tuple[Keys, NDArray[np.uint64]]:
    """Return the keys and the numbers that :func:`with_numbers` has put together."""
    *parts, numbers = key_parts(keys)
    return together(parts), np.ascontiguousarray(numbers).view(np.uint64)


def chosen(numbers: NDArray[np.uint64], split: str) -> NDArray[np.int64]:
    """Return the positions of the rows that a split has."""
    low, end = split_limits(split)
    return np.flatnonzero((numbers >= np.uint64(low)) & (numbers <= np.uint64(end - 1)))


def follows_in(positions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each chosen row whether it is the next one in the table after the one before."""
    return np.asarray(np.diff(positions, prepend=-2) == 1)

"""The keys of a table: how they are stored, and how they are shown.

Keys are stored in a NumPy array in the database's own order, which for text is not Python's. A
column of integers is int64, one of uuids their 16 bytes (V16), and text is UTF-8 (S with the length
of the longest key). Keys of several columns are a structured array of these.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = int | str | tuple[int | str, ...]
"""A key as users see it and as it travels in JSON. A uuid is text; several columns are a tuple."""

Keys = NDArray[Any]
"""Stored keys, (n,), of one of the three dtypes, or with a field of one of them for each column."""

INTEGER, UUID = "int64", "V16"


def together(parts: Sequence[Keys]) -> Keys:
    """Return the keys whose columns are ``parts``."""
    if len(parts) == 1:
        return parts[0]
    keys = np.empty(len(parts[0]), ",".join(part.dtype.str for part in parts))
    for target, part in zip(key_parts(keys), parts, strict=True):
        target[:] = part
    return keys


def key_parts(keys: Keys) -> list[Keys]:
    """Return the columns of the keys, which are views."""
    names = keys.dtype.names
    return [keys] if names is None else [keys[name] for name in names]


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return a text that ``np.dtype()`` makes the dtype of keys of."""
    return ",".join(part.str for part in dtypes_of(dtype))


def dtypes_of(dtype: np.dtype[Any]) -> list[np.dtype[Any]]:
    """Return the dtypes of the key's columns."""
    return [dtype] if dtype.names is None else [dtype[name] for name in dtype.names]


def key_values(keys: Keys) -> list[Key]:
    """Return the keys as users see them."""
    columns = [_values(part) for part in key_parts(keys)]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def column_values(keys: Keys) -> list[list[Key]]:
    """Return the keys as users see them, a list for each of their columns."""
    return [_values(part) for part in key_parts(keys)]


def _values(part: Keys) -> list[Any]:
    values: list[Any] = part.tolist()
    if part.dtype.kind == "i":
        return values
    if part.dtype.kind == "V":
        return [str(uuid.UUID(bytes=value)) for value in values]
    return [value.decode("utf-8", "surrogateescape") for value in values]


def key_numbers(keys: Keys) -> NDArray[np.uint64]:
    """Return a number for each key that depends on nothing but the key, uint64 (n,)."""
    if keys.dtype.names is not None:
        # Of the columns' numbers, because the bytes of a text also depend on the longest one.
        columns = np.array([key_numbers(part) for part in key_parts(keys)], "<u8")
        return _digests(row.tobytes() for row in columns.T)
    if keys.dtype.kind == "i":
        return keys.view(np.uint64) if keys.flags.c_contiguous else keys.astype(np.uint64)
    return _digests(bytes(key) for key in keys.tolist())


def _digests(rows: Iterable[bytes]) -> NDArray[np.uint64]:
    digests = [blake2b(row, digest_size=8).digest() for row in rows]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def same(one: Keys, other: Keys) -> NDArray[np.bool_]:
    """Return where two arrays hold the same key, also where text has another longest one.

    ``other`` may also have one key, to compare all with.
    """
    if one.dtype.names is None:
        return np.asarray(one == other)
    pairs = zip(key_parts(one), key_parts(other), strict=True)
    return np.asarray(np.logical_and.reduce([part == its for part, its in pairs]))


def array_equal(one: Keys, other: Keys) -> bool:
    """Return whether two arrays hold the same keys in the same order, also where they are void."""
    return len(one) == len(other) and bool(np.all(same(one, other)))


def digest(keys: Keys) -> str:
    """Return a short text that is different for other keys, and for the same in another order.

    That of the first keys of a table is the same as when the table had no others.
    """
    keys = _narrow(keys)
    hashed = blake2b(dtype_name(keys.dtype).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(keys).view(np.uint8).data)
    return hashed.hexdigest()


def _narrow(keys: Keys) -> Keys:
    """Return keys whose texts take no more room than the longest of them needs."""
    if all(dtype.kind != "S" for dtype in dtypes_of(keys.dtype)):
        return keys
    return together([
        part.astype(f"S{max(1, np.strings.str_len(part).max(initial=0))}")
        if part.dtype.kind == "S" else part
        for part in key_parts(keys)
    ])  # fmt: skip

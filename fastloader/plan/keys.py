"""The key column: how keys are stored, and how they are shown.

Keys are stored in a NumPy array in the database's own order, which for text is not Python's.
Integers are int64, uuids their 16 bytes (V16), and text is UTF-8 (S with the length of the longest
key).
"""

from __future__ import annotations

import uuid
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = int | str
"""A key as users see it and as it travels in JSON. A uuid is text."""

Keys = NDArray[Any]
"""Stored keys, (n,), of one of the three dtypes."""

INTEGER, UUID = "int64", "V16"


def key_values(keys: Keys) -> list[Key]:
    """Return the keys as users see them."""
    values: list[Any] = keys.tolist()
    if keys.dtype.kind == "i":
        return values
    if keys.dtype.kind == "V":
        return [str(uuid.UUID(bytes=value)) for value in values]
    return [value.decode("utf-8", "surrogateescape") for value in values]


def key_numbers(keys: Keys) -> NDArray[np.uint64]:
    """Return a number for each key that depends on nothing but the key, uint64 (n,)."""
    if keys.dtype.kind == "i":
        return keys.view(np.uint64)
    digests = [blake2b(bytes(key), digest_size=8).digest() for key in keys.tolist()]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def array_equal(one: Keys, other: Keys) -> bool:
    """Return whether two arrays hold the same keys in the same order, also where they are void."""
    return len(one) == len(other) and bool(np.all(one == other))


def digest(keys: Keys) -> str:
    """Return a short text that is different for other keys, and for the same in another order."""
    hashed = blake2b(keys.dtype.str.encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(keys).view(np.uint8).data)
    return hashed.hexdigest()

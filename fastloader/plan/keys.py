"""The key column: how keys are kept, and how they are shown.

Kept in a NumPy array in the database's own order, which for text is not Python's: integers as
int64, uuids as their 16 bytes (V16), text as UTF-8 (S and the length of the longest).
"""

from __future__ import annotations

import uuid
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

Key = int | str
"""As users see it and as it travels in JSON; a uuid is text."""

Keys = NDArray[Any]
"""Of one of the three dtypes, (n,)."""

INTEGER, UUID = "int64", "V16"


def key_values(keys: Keys) -> list[Key]:
    """The keys as users see them."""
    values: list[Any] = keys.tolist()
    if keys.dtype.kind == "i":
        return values
    if keys.dtype.kind == "V":
        return [str(uuid.UUID(bytes=value)) for value in values]
    return [value.decode("utf-8", "surrogateescape") for value in values]


def key_numbers(keys: Keys) -> NDArray[np.uint64]:
    """A number for each key that is the same wherever the key is: (n,)."""
    if keys.dtype.kind == "i":
        return keys.view(np.uint64)
    digests = [blake2b(bytes(key), digest_size=8).digest() for key in keys.tolist()]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def array_equal(one: Keys, other: Keys) -> bool:
    return len(one) == len(other) and bool(np.all(one == other))


def digest(keys: Keys) -> str:
    """A short text that other keys, or the same in another order, do not have."""
    hashed = blake2b(keys.dtype.str.encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(keys).view(np.uint8).data)
    return hashed.hexdigest()

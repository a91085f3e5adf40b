"""Store the texts and bytes of a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _kernel
from .ragged_rows import RaggedRows
from .values import BLOB, NULL, TEXT, Values


def are_texts(values: Values) -> NDArray[np.bool_]:
    """Return which of the values are text, in valid UTF-8, (n,)."""
    return _kernel.are_utf8(values.blobs, np.asarray(values.kinds == TEXT))


def are_bytes(values: Values) -> NDArray[np.bool_]:
    """Return which of the values are blobs or text, (n,)."""
    return np.asarray((values.kinds == TEXT) | (values.kinds == BLOB))


def store_bytes(
    values: Values, wanted: NDArray[np.bool_], rows: RaggedRows, at: int, null: bytes = b""
) -> None:
    """Store the bytes of texts or blobs; nothing for the others, and ``null`` for NULL.

    Parameters
    ----------
    values
        The values of n rows.
    wanted
        Which of them to store, (n,).
    rows, at
        Where to append them, and the position of the first row in the batch.
    """
    blobs = values.blobs
    if null and (nulls := values.kinds == NULL).any():
        held = np.frombuffer(null, np.uint8)
        blobs, wanted = blobs.copy(), wanted | nulls
        blobs[nulls] = (held.ctypes.data, len(held))
    lengths = np.where(wanted, blobs[:, 1], 0).astype(np.int64)
    _kernel.gather(blobs, wanted, rows.append(at, lengths))


def store_texts(texts: Sequence[Any], rows: RaggedRows) -> None:
    """Store keys as text, which :func:`decoded_texts` returns."""
    data = [text.encode("utf-8", "surrogateescape") for text in texts]
    room = rows.append(0, np.array([len(text) for text in data], np.int64))
    room[:] = np.frombuffer(b"".join(data), np.uint8)


def decoded_texts(items: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[Any]:
    """Return texts as ``str`` objects: object (n,).

    Bytes that are not UTF-8, which keys may have, become lone surrogates.

    Parameters
    ----------
    items, offsets
        As in a :class:`~fastloader.Ragged`.
    """
    data = items.copy()  # because a worker can still write to the slot
    blobs = np.empty((len(offsets) - 1, 2), np.intp)
    blobs[:, 0], blobs[:, 1] = data.ctypes.data + offsets[:-1], np.diff(offsets)
    texts, bad = _kernel.texts(blobs, np.ones(len(blobs), np.bool_))
    for i in np.flatnonzero(bad).tolist():
        texts[i] = data[offsets[i] : offsets[i + 1]].tobytes().decode("utf-8", "surrogateescape")
    found = np.empty(len(texts), object)
    found[:] = texts
    return found

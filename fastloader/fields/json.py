"""The field for JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import kinds
from .columns import Column
from .field import OPTIONS
from .ragged_rows import RaggedRows
from .scalars import are_bytes, store_bytes
from .value import Target, ValueField
from .values import Values


@dataclass(frozen=True, repr=False, kw_only=True)
class Json(ValueField):
    """JSON documents: an array of Python objects, of shape (n,).

    TensorFlow gets string tensors of the text, PyTorch a list of the objects. The column holds
    text, or ``json`` or ``jsonb`` of PostgreSQL.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    null : {"error", "mask"} or value, default "error"
        What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero, or nothing
        where sizes differ, and adds an entry to the batch, the field's name and `_valid`: bool,
        False where the value is NULL. Anything else is delivered in place of NULL.
    max_bytes : int, default 1048576
        The largest document in bytes. A larger one makes its row a bad row.
    max_depth : int, default 64
        How deep lists and objects may be nested. A document that is deeper makes its row a bad row.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    max_bytes: int = OPTIONS.option(
        1 << 20,
        kinds.integer(1, 1 << 30),
        "The largest document in bytes. A larger one makes its row a bad row.",
    )
    max_depth: int = OPTIONS.option(
        64,
        kinds.integer(1, 500),
        "How deep lists and objects may be nested. A document that is deeper makes its row a bad "
        "row.",
    )

    @property
    def is_ragged(self) -> bool:
        """Whether values may differ in size."""
        return True

    def _problem(self, found: Column) -> str:
        return "" if found.is_text else "does not hold text: cast it to text in query="

    def _column(self, name: str, found: Column) -> Column:
        return Column(name, "json", mean=found.mean, deviation=found.deviation)

    def _check_null(self, column: Column) -> None:
        """Any value that is allowed is JSON."""

    @property
    def _null_bytes(self) -> bytes:
        return json.dumps(self.null).encode() if self.null not in ("error", "mask") else b""

    def _store(self, _column: Column, values: Values, target: Target, at: int) -> dict[int, str]:
        assert isinstance(target, RaggedRows)
        good = are_bytes(values)
        bad = {i: self._bad(values, i, "JSON") for i in np.flatnonzero(~good).tolist()}
        for i in np.flatnonzero(good).tolist():
            problem = self._not_json(values, i)
            if problem:
                bad[i] = f"column {self.column!r}: {problem}"
                good[i] = False
        store_bytes(values, good, target, at, self._null_bytes)
        return bad

    def _not_json(self, values: Values, row: int) -> str:
        """Return why a value is not a document that is delivered, or ""."""
        size = int(values.blobs[row, 1])
        if size > self.max_bytes:
            return f"JSON of {size} bytes, more than max_bytes={self.max_bytes}"
        text = values.start(row, size)
        # As many brackets, even in strings, are needed for this depth. Most documents have fewer.
        if text.count(b"[") + text.count(b"{") > self.max_depth and is_deeper(text, self.max_depth):
            return f"JSON nested deeper than max_depth={self.max_depth}"
        try:
            json.loads(text.decode())
        except (ValueError, RecursionError) as error:
            return f"invalid JSON: {error}"
        return ""


def is_deeper(text: bytes, depth: int) -> bool:
    """Return whether brackets outside of strings are nested deeper than ``depth``."""
    level, in_string, escaped = 0, False, False
    for byte in text:
        if in_string:
            in_string = escaped or byte != ord('"')
            escaped = byte == ord("\\") and not escaped
        elif byte == ord('"'):
            in_string = True
        elif byte in b"[{":
            level += 1
            if level > depth:
                return True
        elif byte in b"]}":
            level -= 1
    return False


def documents(texts: list[bytes]) -> NDArray[Any]:
    """Return texts as an array of what they stand for, None for an empty one: object (n,)."""
    found = np.empty(len(texts), object)
    for i, text in enumerate(texts):
        found[i] = json.loads(text) if text else None
    return found

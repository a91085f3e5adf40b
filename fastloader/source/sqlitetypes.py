"""SQLite's types: what a label column becomes, from its declared type and some of its values.

SQLite keeps a type with every value; the declared type only says which one it prefers ("Datatypes
In SQLite", 3.1). So one value is not enough: a DECIMAL column stores 3.0 as the integer 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..columns import TEXT, Column, blob_column
from ..errors import ConfigError

NUMPY_SCALARS = (1, 2, 4, 8)
"""Bytes of one number."""


def affinity(declared: str) -> str:
    """Return the affinity of a declared type, by SQLite's own rules."""
    declared = declared.upper()
    for name, parts in (
        ("INTEGER", ("INT",)),
        ("TEXT", ("CHAR", "CLOB", "TEXT")),
        ("BLOB", ("BLOB",)),
        ("REAL", ("REAL", "FLOA", "DOUB")),
    ):
        if any(part in declared for part in parts):
            return name
    return "NUMERIC" if declared else "BLOB"


def label_column(name: str, dtype: str | None, declared: str, values: Sequence[Any]) -> Column:
    """Return the column of a batch for a label column.

    dtype: what the user asks for, or None. declared: the column's declared type, "" for none.
    values: some of its values, not all None unless there is a dtype.

    Raises ConfigError for blobs that are no array.
    """
    values = [value for value in values if value is not None]
    is_numeric = affinity(declared) in ("INTEGER", "REAL", "NUMERIC") and "[" not in declared
    numbers = [value for value in values if isinstance(value, (int, float))]
    if is_numeric and numbers:
        values = numbers
    first = values[0] if values else None
    if isinstance(first, bytes) and dtype != TEXT:
        if is_numeric and len(first) in NUMPY_SCALARS:
            raise ConfigError(
                f"label {name!r}: the column is declared {declared} and holds blobs of "
                f"{len(first)} bytes. They are probably NumPy numbers, which Python's sqlite3 "
                f"stores as raw bytes: call sqlite3.register_adapter(numpy.int64, int) before you "
                f"insert such numbers (and the same for other types), and insert these rows again"
            )
        return blob_column(name, dtype, len(first))
    return Column(name, dtype or _dtype(declared, first, numbers))


def _dtype(declared: str, first: object, numbers: Sequence[int | float]) -> str:
    declared = declared.upper()
    if "BOOL" in declared:
        return "bool"
    if isinstance(first, str):
        return TEXT
    has_fractions = affinity(declared) == "REAL" or "DEC" in declared or "NUMERIC" in declared
    if has_fractions or any(isinstance(number, float) for number in numbers):
        return "float64"
    return "int64"

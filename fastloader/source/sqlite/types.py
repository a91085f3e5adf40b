"""SQLite's types: which dtype a label column gets, from its declared type and some of its values.

SQLite stores a type with every value, and the declared type is only a preference ("Datatypes In
SQLite", 3.1). So one value is not enough: a DECIMAL column stores 3.0 as the integer 3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ConfigError
from ...fields.blobs import blob_column
from ...fields.columns import Column
from ...fields.npy import MOST_HEADER_BYTES
from ...options.labels import TEXT

NUMPY_SCALARS = (1, 2, 4, 8)
"""The sizes of one number in bytes."""

NUMBERS = re.compile(
    r"((UN)?SIGNED )?((BIG|SMALL|TINY|MEDIUM)?INT|REAL|FLOA|DOUB|NUM|DEC|BOOL)[^\[]*"
)
"""Declared types that are meant for numbers. POINT is not, although SQLite finds INT in it."""

FRACTIONS = re.compile(r"(DEC|NUMERIC)\w*( *\( *\d+ *, *[1-9]\d* *\))?")
"""Declared types for numbers with a fraction. NUMERIC(10) and NUMERIC(10, 0) have none."""


def affinity(declared: str) -> str:
    """Return the affinity of a declared type, by SQLite's own rules ("Datatypes In SQLite", 3.1).

    Returns
    -------
    str
        "INTEGER", "TEXT", "BLOB", "REAL" or "NUMERIC".
    """
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

    Parameters
    ----------
    name
        The column's name.
    dtype
        The dtype that the user asks for, or None.
    declared
        The column's declared type, or "".
    values
        Some of its values. At least one is not None, unless there is a dtype.

    Raises
    ------
    ConfigError
        If the values are blobs that do not make an array.
    """
    declared = declared.upper()
    kinds: dict[str, list[Any]] = {"number": [], "text": [], "blob": []}
    for value in values:
        if value is not None:
            kinds[_kind(value)].append(value)
    if affinity(declared) in ("INTEGER", "REAL", "NUMERIC") and (kinds["number"] or kinds["text"]):
        kinds["blob"] = []
    kind = max(kinds, key=lambda kind: len(kinds[kind]))  # the first one in a tie
    if kind == "blob" and kinds["blob"] and dtype != TEXT:
        return _blob_column(name, dtype, declared, kinds["blob"])
    if dtype is None:
        if "BOOL" in declared:
            dtype = "bool"
        elif kind == "text":
            return Column(name, TEXT).with_sizes([*map(_bytes, kinds["text"])])
        else:
            has_fractions = affinity(declared) == "REAL" or FRACTIONS.fullmatch(declared)
            is_float = has_fractions or any(isinstance(n, float) for n in kinds["number"])
            dtype = "float64" if is_float else "int64"
    return Column(name, dtype)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


def _kind(value: object) -> str:
    """Return "blob", "text" or "number"."""
    return "blob" if isinstance(value, bytes) else "text" if isinstance(value, str) else "number"


def _blob_column(name: str, dtype: str | None, declared: str, blobs: Sequence[bytes]) -> Column:
    """Return the column for blobs, unless each is probably a single number."""
    size = len(blobs[0])
    is_one = size in NUMPY_SCALARS and (dtype is None or size <= np.dtype(dtype).itemsize)
    if is_one and NUMBERS.fullmatch(declared):
        raise ConfigError(
            f"label {name!r}: the column is declared {declared} and holds blobs of {size} bytes. "
            f"They are probably NumPy numbers, which Python's sqlite3 stores as raw bytes. Call "
            f"sqlite3.register_adapter(numpy.int64, int), and the same for other types, before you "
            f"insert such numbers, and insert these rows again"
        )
    column = blob_column(name, blobs[0][:MOST_HEADER_BYTES], size)
    return column.with_sizes([len(blob) // column.numpy_dtype.itemsize for blob in blobs])

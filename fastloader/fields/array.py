"""The field for arrays of numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .columns import Column
from .value import Value


@dataclass(frozen=True, repr=False, kw_only=True)
class Array(Value):
    """An array of numbers for each row, all of the same shape: an array of shape (n, ...).

    The column holds arrays of PostgreSQL, or blobs that are the bytes of numbers of the type
    `dtype` in the order of this machine.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    dtype : str, dtype or None, default None
        The dtype of the values in a batch: bool, an integer or float type of NumPy's, or "text". A
        value that does not fit makes its row a bad row; a float may be rounded to a smaller float
        type. None takes the type of the column.
    null : {"error", "mask"} or value, default "error"
        What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero and adds an
        entry to the batch, the field's name and `_valid`: bool, False where the value is NULL.
        Anything else is delivered in place of NULL.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    def _problem(self, found: Column) -> str:
        if not found.shape:
            return f"holds {'text' if found.is_text else 'single numbers'}: use " + (
                "Text" if found.is_text else "Number"
            )
        return ""

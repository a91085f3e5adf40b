"""The field for numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .columns import Column
from .value import Value


@dataclass(frozen=True, repr=False, kw_only=True)
class Number(Value):
    """A number for each row: an array of shape (n,), by default int64, float64 or bool.

    Dates and times of PostgreSQL are microseconds since 1970, int64.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    null : {"error", "mask"} or value, default "error"
        What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero, or nothing
        where sizes differ, and adds an entry to the batch, the field's name and `_valid`: bool,
        False where the value is NULL. Anything else is delivered in place of NULL.
    dtype : str, dtype or None, default None
        The dtype of the values in a batch: bool, an integer or float type of NumPy's, or "text". A
        value that does not fit makes its row a bad row; a float may be rounded to a smaller float
        type. None takes the type of the column.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    def _problem(self, found: Column) -> str:
        if found.is_text or self.dtype == "text":
            return "holds text: use Text or Category, or cast it to a number in query="
        if found.form:
            return "holds blobs: use Array or Bytes, or cast it to a number in query="
        if found.shape:
            return f"holds arrays of {' x '.join(map(str, found.shape))}: use Array"
        return ""

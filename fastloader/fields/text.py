"""The field for text."""

from __future__ import annotations

from dataclasses import dataclass

from .columns import TEXT_DTYPE, Column
from .scalars import are_texts
from .value import Target, ValueField
from .values import Values


@dataclass(frozen=True, repr=False, kw_only=True)
class Text(ValueField):
    """Text: an array of ``str`` objects, of shape (n,).

    TensorFlow gets string tensors, PyTorch a list.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    null : {"error", "mask"} or value, default "error"
        What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero, or nothing
        where sizes differ, and adds an entry to the batch, the field's name and `_valid`: bool,
        False where the value is NULL. Anything else is delivered in place of NULL.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    @property
    def is_ragged(self) -> bool:
        """Whether values may differ in size."""
        return True

    def _problem(self, found: Column) -> str:
        if not found.is_text:
            return "does not hold text: use Number, Array or Bytes, or cast it to text in query="
        return ""

    def _column(self, name: str, found: Column) -> Column:
        return Column(name, TEXT_DTYPE, mean=found.mean, deviation=found.deviation)

    def _store(self, column: Column, values: Values, target: Target, at: int) -> dict[int, str]:
        return self._store_bytes(column, values, are_texts(values), target, at)

"""The field for bytes as they are."""

# ruff: noqa: RUF009 -- what a group's option() returns is a dataclass field

from __future__ import annotations

import os
from dataclasses import dataclass

from .columns import Column
from .field import files_option
from .scalars import are_bytes
from .value import Target, ValueField
from .values import Values


@dataclass(frozen=True, repr=False, kw_only=True)
class Bytes(ValueField):
    """The bytes of each value as they are, for a decoder of your own: a :class:`Ragged` of uint8.

    Row ``i`` is a view of shape (bytes,), without a copy; ``bytes(row)`` makes an object of it.
    TensorFlow gets string tensors, PyTorch a list of uint8 tensors. The column holds blobs or text.
    A value of more than ``max_blob_bytes`` makes its row a bad row.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    null : {"error", "mask"} or value, default "error"
        What to do with NULL. `"error"` makes its row a bad row. `"mask"` delivers zero, or nothing
        where sizes differ, and adds an entry to the batch, the field's name and `_valid`: bool,
        False where the value is NULL. Anything else is delivered in place of NULL.
    files : str, path or None, default None
        The folder of the files, if the column holds their paths and not the bytes themselves. The
        paths are relative to this folder, and nothing outside of it is ever opened.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    files: str | os.PathLike[str] | None = files_option("files", "bytes")

    @property
    def is_ragged(self) -> bool:
        """Whether values may differ in size."""
        return True

    def _problem(self, found: Column) -> str:
        if found.is_text or found.form:
            return ""
        return "does not hold blobs or text: use Number or Array, or cast it in query="

    def _column(self, name: str, found: Column) -> Column:
        return Column(name, "bytes", mean=found.mean, deviation=found.deviation)

    def _check_null(self, column: Column) -> None:
        if not isinstance(self.null, str):
            super()._check_null(column)

    def _store(self, column: Column, values: Values, target: Target, at: int) -> dict[int, str]:
        return self._store_bytes(column, values, are_bytes(values), target, at)

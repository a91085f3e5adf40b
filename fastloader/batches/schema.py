"""What a batch holds: its entries, where each of them is in a slot, and how they are arranged.

Both sides of a ring use it: the worker that fills a slot, and the training process that hands it
out. Adapters make their own types of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..fields.columns import TEXT_DTYPE, Column
from ..fields.field import Field
from ..fields.image import Image
from ..fields.json import documents
from ..fields.scalars import decoded_texts
from ..fields.value import ValueField
from ..options.config import Config
from ..plan.keys import INTEGER, dtypes_of
from .ragged import Ragged

T = TypeVar("T")

Arrays = dict[str, NDArray[Any]]
"""The arrays of a batch by their names in a slot."""

OFFSETS = ":offsets"
"""How the name of the offsets of a ragged column in a slot ends; see :class:`.ragged.Ragged`."""

KEYS = ":keys"
"""How the names of the keys in a slot begin."""

UUID_TEXT_BYTES = 36
"""The size of a UUID as text."""

INPUT = "x "
"""How the name of an input that is not an image begins in a slot."""

IMAGE = ":image "
"""How the name of an image in a slot begins."""


@dataclass(frozen=True)
class Entry:
    """One array of a batch.

    Attributes
    ----------
    part
        Where it belongs: ``"x"`` with the inputs, ``"y"`` with the labels, or ``"w"`` for the
        sample weights.
    column
        Its name in the batch, its dtype and the shape of a row.
    slot
        Its name in a slot.
    field
        The field that fills it; None for the keys.
    """

    part: Literal["x", "y", "w"]
    column: Column
    slot: str
    field: Field | None = None

    @property
    def name(self) -> str:
        """Its name in the batch."""
        return self.column.name

    def values(self, arrays: Arrays) -> NDArray[Any] | Ragged:
        """Return what the batch holds, given the arrays of a slot."""
        items = self.items(arrays)
        if not isinstance(items, Ragged):
            return items
        if self.column.dtype == TEXT_DTYPE:
            return decoded_texts(items.values, items.offsets)
        return documents(items.to_bytes()) if self.column.dtype == "json" else items

    def items(self, arrays: Arrays) -> NDArray[Any] | Ragged:
        """Return what a slot holds, before text and JSON become objects."""
        items = arrays[self.slot]
        return Ragged(items, arrays[self.slot + OFFSETS]) if self.column.is_ragged else items

    @property
    def in_slot(self) -> Column:
        """The column under its name in a slot."""
        return replace(self.column, name=self.slot)


class Schema:
    """The entries of the batches of a loader.

    Parameters
    ----------
    config
        The loader's options.
    found
        What the survey has found in the database columns, except for those of images.
    key_dtype
        The NumPy dtype of the keys; see :mod:`fastloader.plan.keys`.

    Attributes
    ----------
    entries
        All entries: inputs, labels, weights, and the keys if they are delivered.
    key_columns
        The columns of keys: int64, or text for any other key.

    Raises
    ------
    ConfigError
        A field cannot take what its column holds, or two entries have the same name.
    """

    def __init__(self, config: Config, found: Iterable[Column], key_dtype: str) -> None:
        self._config = config
        columns = {column.name: column for column in found}
        dtypes = dtypes_of(np.dtype(key_dtype))
        self.key_columns = tuple(
            Column(name, INTEGER) if dtype == INTEGER else
            Column(name, TEXT_DTYPE, mean=max(UUID_TEXT_BYTES, dtype.itemsize))
            for name, dtype in zip(config.keys, dtypes, strict=True)
        )  # fmt: skip
        entries: list[Entry] = []
        for part, fields in config.fields_by_part:
            for name, field in fields.items():
                if isinstance(field, Image):
                    slot = f"{IMAGE}{part} {name}"
                    entries.append(Entry(part, field.delivered(name), slot, field))
                elif isinstance(field, ValueField):
                    entries += [
                        Entry(part, column, f"{part} {column.name}", field)
                        for column in field.delivered(name, columns[field.in_chunk])
                    ]
        if config.with_keys:
            entries += [
                Entry("x", column, f"{KEYS} {i}") for i, column in enumerate(self.key_columns)
            ]
        self.entries = tuple(entries)
        names = [(entry.part, entry.name) for entry in entries]
        for part, name in names:
            if names.count((part, name)) > 1:
                raise ConfigError(f"two entries of a batch have the name {name!r}: rename a field")

    def of_field(self, field: Field) -> tuple[Entry, ...]:
        """Return the entries that a field fills: its values, and maybe which of them are valid."""
        return tuple(entry for entry in self.entries if entry.field is field)

    @property
    def images(self) -> list[tuple[Entry, Image]]:
        """The entries that are images, with their fields."""
        return [(e, e.field) for e in self.entries if isinstance(e.field, Image)]

    @property
    def slot_columns(self) -> list[Column]:
        """All columns of a batch, under their names in a slot."""
        return [entry.in_slot for entry in self.entries]

    @property
    def cached_columns(self) -> list[Column]:
        """The columns that a cache keeps of each row."""
        found = []
        for entry in self.entries:
            if isinstance(entry.field, Image) and entry.field.is_random:
                # What the images of each epoch are made from.
                stored, sizes = stored_image(entry)
                size = entry.field.decoder_options(is_cached=True)["size"]
                found += [Column(stored, "uint8", (*size, 3)), Column(sizes, "uint32", (2,))]
            elif entry.field is not None:
                found.append(entry.in_slot)
        return found

    def arranged(self, get: Callable[[Entry], T]) -> Any:
        """Return a batch, or anything of the same structure: x, (x, labels), (x, labels, weights).

        Keras reads a second element as targets and a third one as sample weights, whatever they
        are. So keys never get an element of their own. They are in x, which then is a dict. Without
        inputs, the labels are the first element.

        Parameters
        ----------
        get
            Returns what stands in the place of an entry.
        """
        config = self._config
        x, y, w = (
            {entry.name: get(entry) for entry in self.entries if entry.part == part}
            for part in ("x", "y", "w")
        )
        parts: list[Any] = []
        for part, is_single in ((x, config.has_single_input), (y, config.has_single_label)):
            if part:
                parts.append(next(iter(part.values())) if is_single and len(part) == 1 else part)
        parts += w.values()
        return parts[0] if len(parts) == 1 else tuple(parts)


def is_key(slot: str) -> bool:
    """Return whether an entry with this name in a slot holds keys."""
    return slot.startswith(KEYS)


def stored_image(entry: Entry) -> tuple[str, str]:
    """Return the names of what a cache stores of a random image: images and their sizes.

    They stand alongside the columns of a slot while a batch is made, but not in the slot.
    """
    return f":stored {entry.slot}", f":seen {entry.slot}"


def leaves_out_empty(config: Config) -> bool:
    """Return whether a batch is left out if ``on_error="skip"`` has dropped all of its rows.

    It is not left out with shards. Each host has to take ``len(loader)`` steps. Otherwise one would
    wait for the others, and their collective operations would pair wrongly. Every other row has a
    batch already and would come twice as a replacement, so the batch is delivered empty.
    """
    return config.on_error == "skip" and config.shard[1] == 1

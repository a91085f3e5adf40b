"""What a batch holds: its entries, where each of them is in a slot, and how they are arranged.

Both sides of a ring use it: the worker that fills a slot, and the training process that hands it
out. Adapters make their own types of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..fields.columns import TEXT_DTYPE, Column
from ..fields.field import Field
from ..fields.image import Image
from ..fields.json import documents
from ..fields.scalars import decoded_texts
from ..fields.value import ValueField
from ..options.config import Config, Part
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

LEVEL = ":level "
"""How the name of an entry begins that a transform replaces, so that it is in no slot."""


@dataclass(frozen=True)
class Output:
    """An entry that a transform leaves, as plain data.

    Attributes
    ----------
    part
        The part of a batch that it belongs to; see :class:`Entry`.
    column
        Its name in the batch, its dtype and the shape of a row.
    """

    part: Part
    column: Column


Outputs = Sequence[Sequence[Output]]
"""What each group of functions of a transform leaves; see :mod:`fastloader.worker.group`."""


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
        The field that fills it; None for the keys, and for what a transform has made of it. An
        image that a transform has changed keeps its field if it still is one.
    """

    part: Part
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
    outputs
        What each group of functions of a transform leaves; see :mod:`fastloader.worker.group`.

    Attributes
    ----------
    levels
        The entries that the fields make, then those that each group of functions leaves.
    entries
        The last level: all entries of a batch: inputs, labels, weights, and the keys if they are
        delivered.
    key_columns
        The columns of keys: int64, or text for any other key.

    Raises
    ------
    ConfigError
        A field cannot take what its column holds, or two entries have the same name.
    """

    def __init__(
        self,
        config: Config,
        found: Iterable[Column],
        key_dtype: str,
        outputs: Outputs = (),
    ) -> None:
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
        keys = [Entry("x", column, f"{KEYS} {i}") for i, column in enumerate(self.key_columns)]
        levels = _levels(entries, outputs)
        self.levels = tuple((*level, *(keys if config.with_keys else ())) for level in levels)
        self.entries = self.levels[-1]
        for level in self.levels:
            _check_names(level, across_parts=bool(config.transform))

    def of_field(self, field: Field) -> tuple[Entry, ...]:
        """Return the entries that a field fills: its values, and maybe which of them are valid."""
        return tuple(entry for entry in self.levels[0] if entry.field is field)

    @property
    def images(self) -> list[tuple[Entry, Image]]:
        """The entries that are decoded images, with their fields."""
        return [(e, e.field) for e in self.levels[0] if isinstance(e.field, Image)]

    @property
    def slot_columns(self) -> list[Column]:
        """All columns of a batch, under their names in a slot."""
        return [entry.in_slot for entry in self.entries]

    @property
    def cached_columns(self) -> list[Column]:
        """The columns that a cache keeps of each row."""
        if self._config.cache_transformed:
            return [entry.in_slot for entry in self.levels[1] if not is_key(entry.slot)]
        found = []
        for entry in self.levels[0]:
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


def _levels(decoded: Sequence[Entry], outputs: Outputs) -> list[tuple[Entry, ...]]:
    """Return the entries of each level.

    An entry that a group does not change, in type and shape, stays in its place. The last place of
    an entry is in the slot, and those before it are in memory of the worker.
    """
    chains: dict[tuple[Part, str], list[Entry]] = {}  # the places of an entry, in their order
    levels = [[(entry.part, entry.name, 0) for entry in decoded]]
    for entry in decoded:
        chains[entry.part, entry.name] = [entry]
    for level in outputs:
        levels.append([])
        for its in level:
            chain = chains.setdefault((its.part, its.column.name), [])
            if not chain or chain[-1].column != its.column:
                slot = f"{its.part} {its.column.name}"
                field = chain[0].field if chain and _is_image(chain[0], its.column) else None
                chain.append(Entry(its.part, its.column, slot, field))
            levels[-1].append((its.part, its.column.name, len(chain) - 1))
    delivered = {(part, name): place for part, name, place in levels[-1]}
    for (part, name), chain in chains.items():
        for place, entry in enumerate(chain):
            if delivered.get((part, name)) != place:
                chain[place] = replace(entry, slot=f"{LEVEL}{place} {part} {name}")
    return [tuple(chains[part, name][place] for part, name, place in level) for level in levels]


def _is_image(decoded: Entry, column: Column) -> bool:
    """Return whether what a transform has made of an image has its axes in the same order."""
    image, shape = decoded.field, column.shape
    if not isinstance(image, Image) or len(shape) != 3:
        return False
    return shape[2 if image.layout == "NHWC" else 0] == image.channels


def _check_names(level: Sequence[Entry], *, across_parts: bool) -> None:
    """Raise ConfigError if two entries have the same name, in one part or in the whole batch."""
    names = [("" if across_parts else entry.part, entry.name) for entry in level]
    for part, name in names:
        if names.count((part, name)) > 1:
            why = ", because a transform gets all entries in one dict" if across_parts else ""
            raise ConfigError(f"two entries of a batch have the name {name!r}: rename a field{why}")


def is_key(slot: str) -> bool:
    """Return whether an entry with this name in a slot holds keys."""
    return slot.startswith(KEYS)


def stored_image(entry: Entry) -> tuple[str, str]:
    """Return the names of what a cache stores of a random image: images and their sizes.

    They stand alongside the columns of a slot while a batch is made, but not in the slot.
    """
    return f":stored {entry.slot}", f":seen {entry.slot}"


class Description(str):
    """What an entry is, in words, without quotes in a structure."""

    def __repr__(self) -> str:
        return str(self)


def described(entry: Entry) -> Description:
    """Return what an entry is, such as ``uint8 (n, 224, 224, 3) NHWC``."""
    column, field = entry.column, entry.field
    shape = "".join(f", {'?' if size is None else size}" for size in column.shape)
    layout = f" {field.layout}" if isinstance(field, Image) else ""
    classes = f" of classes {list(column.classes)}" if column.classes else ""
    return Description(f"{column.dtype} (n{shape}){layout}{classes}")


def has_known_length(config: Config) -> bool:
    """Return whether every epoch has as many batches as ``len(loader)`` says now."""
    return config.follow is None and not leaves_out_empty(config)


def leaves_out_empty(config: Config) -> bool:
    """Return whether a batch is left out if all of its rows were dropped.

    A row is dropped if it is bad, with ``on_error="skip"``, or by a transform.

    It is not left out with shards. Each host has to take ``len(loader)`` steps. Otherwise one would
    wait for the others, and their collective operations would pair wrongly. Every other row has a
    batch already and would come twice as a replacement, so the batch is delivered empty.
    """
    return config.may_lack_rows and config.shard[1] == 1

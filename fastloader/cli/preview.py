"""The command ``fastloader preview``: a batch of a loader as a contact sheet, or as text."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceError
from ..fields.columns import by
from ..fields.image import Image
from ..loader import FastLoader
from ..options.config import Config, make_config
from .command import (
    MACHINE,
    CommandError,
    Outcome,
    add_loader_arguments,
    image_path,
    loader_options,
)
from .database_files import check_output

MOST_SHOWN = 60
"""The most characters of a value that are shown."""

LABEL, NAME = "label", "label_name"
"""The columns that ingest makes for a label and its name."""


class Preview:
    """Draws a batch as training will see it: a contact sheet with keys and labels.

    Crops, flips, filters, the order and the labels are those of the given options; levels of float
    types are mapped back. If the table has a column label_name, as ingest makes it, the sheet shows
    these names. Rows that cannot be delivered are black and marked. Other fields are in the
    captions; without images, the rows are printed.
    """

    name = "preview"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the loader, the output file, and which batch to draw."""
        add_loader_arguments(
            parser,
            but=["with_keys", "on_error", "slots", "prefetch", "trace"],
            why="preview draws one batch, with keys and bad rows, whatever this option says",
        )
        parser.add_argument(
            "-o",
            "--output",
            type=image_path,
            metavar="FILE",
            help="the file to write: .png, .jpg or .webp; needed if there are images",
        )
        parser.add_argument(
            "--epoch",
            type=int,
            default=0,
            metavar="N",
            help="draw epoch N [default: 0]",
        )
        parser.add_argument(
            "--batch",
            type=int,
            default=0,
            metavar="N",
            help="draw batch N of the epoch [default: 0]",
        )
        parser.add_argument(
            "--rows",
            type=int,
            default=32,
            metavar="N",
            help="draw at most N rows [default: 32]",
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Deliver the batch and draw it."""
        options = {
            **loader_options(arguments), "with_keys": True, "on_error": "fill", "slots": 2,
            "deterministic": True,
        }  # fmt: skip
        config = make_config(options)
        if config.sampling is not None:
            options["sampling"] = config.sampling  # with its column, whatever labels are added
        if config.images:
            if arguments.output is None:
                raise CommandError("name the file to draw the images in: -o sheet.png")
            check_output(arguments.output, config)
        with _with_names(config, options) as loader:
            if not 0 <= arguments.batch < len(loader):
                last = len(loader) - 1
                raise CommandError(
                    f"--batch {arguments.batch}: the batches of an epoch are 0 to {last}"
                )
            if not 0 <= arguments.epoch < 2**63:
                raise CommandError(f"--epoch {arguments.epoch}: epochs are counted from 0")
            place = {"epoch": arguments.epoch, "batch": arguments.batch}
            loader.load_state_dict({**loader.state_dict(), **place})
            element = next(iter(loader))
            bad, config = dict(loader.bad_rows), loader.config
            classes = loader.classes
            targets = [e.name for e in loader.delivery.crew.schema.entries if e.part == "y"]
        x, y = dict(element[0] if targets else element), dict[str, Any]()
        if targets:
            labels = element[1]
            y = dict(labels) if isinstance(labels, dict) else {targets[0]: labels}
        for part in (x, y):
            part |= {n: _named(part[n], classes[n]) for n in part if n in classes}
        parts = [x.pop(name).tolist() for name in config.keys]
        keys = parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))
        count = min(max(1, arguments.rows), len(keys))
        images = {
            name: (field, x.pop(name)[:count])
            for name, field in config.inputs.items()
            if isinstance(field, Image) and _is_drawn(x.get(name))
        }
        captions = [
            f"{'BAD ' if key in bad else ''}{key}{label}"
            for key, label in zip(keys, _labels(x, y, len(keys)), strict=True)
        ][:count]
        rows = [
            {"key": key, "bad": bad.get(key), "caption": caption}
            for key, caption in zip(keys, captions, strict=False)
        ]
        which = f"batch {arguments.batch} of epoch {arguments.epoch}"
        lines = [f"{arguments.output}: {which}"] if images else [which, *captions]
        if images:
            _draw(images.values(), captions, arguments.output)
        lines += [f"key {key}: {bad[key]}" for key in keys[:count] if key in bad]
        return Outcome("\n".join(lines), {"output": str(arguments.output), "rows": rows})


def _draw(
    images: Iterable[tuple[Image, NDArray[Any]]], captions: Sequence[str], output: Path
) -> None:
    """Draw the images of each row, side by side, with a caption."""
    try:
        from .sheet import contact_sheet
    except ImportError:
        raise CommandError(
            "preview needs Pillow; run pip install 'fastloader[pillow]'", MACHINE
        ) from None
    contact_sheet(_side_by_side(images), captions, output)


def _side_by_side(images: Iterable[tuple[Image, NDArray[Any]]]) -> NDArray[np.uint8]:
    """Return (n, height, width, 3), the images of a row side by side.

    The height is that of the highest image; the others are padded with white.
    """
    parts = [_levels(field, pixels) for field, pixels in images]
    height = max(part.shape[1] for part in parts)
    padded = [
        np.pad(part, [(0, 0), (0, height - part.shape[1]), (0, 0), (0, 0)], constant_values=255)
        for part in parts
    ]
    return np.concatenate(padded, axis=2)


def _is_drawn(images: Any) -> bool:
    """Return whether these are images still, whatever a transform has made of them."""
    shape: tuple[int, ...] = getattr(images, "shape", ())
    return len(shape) == 4 and not {shape[-1], shape[1]}.isdisjoint((1, 3))


def _levels(field: Image, images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return (n, height, width, 3), whatever layout and dtype the images have."""
    if images.shape[-1] not in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if field.dtype == "uint8" and images.dtype.kind == "f" and images.max(initial=0) <= 1:
        images = images * 255  # a transform has scaled them, as most do
    elif field.dtype != "uint8":
        channels = images.shape[-1]
        mean, std = (np.array(its, np.float32)[:channels] for its in (field.mean, field.std))
        images = ((images.astype(np.float32) * std + mean) * 255).round().clip(0, 255)
    return np.broadcast_to(images.clip(0, 255).astype(np.uint8), (*images.shape[:3], 3))


def _with_names(config: Config, options: dict[str, Any]) -> FastLoader:
    """Return a loader that also delivers the names of the labels, if the table has them."""
    if config.label == LABEL:
        with contextlib.suppress(SourceError):  # the table has no such column
            return FastLoader(**{**options, "label": [LABEL, NAME]})
    return FastLoader(**options)


def _labels(x: Mapping[str, Any], columns: dict[str, Any], rows: int) -> Iterator[str]:
    """Yield the text that follows each row's key in its caption, of the inputs and the labels."""
    if list(columns) == [LABEL, NAME]:
        columns = {NAME: columns[NAME]}
    if x:  # several values need their names
        columns = {f"{name} ": its for name, its in {**x, **columns}.items()}
        for i in range(rows):
            yield ": " + ", ".join(f"{name}{_shown(its[i])}" for name, its in columns.items())
        return
    for i in range(rows):
        yield "".join(f": {_shown(column[i])}" for column in columns.values())


def _shown(value: Any) -> str:
    """Return a value on one line, not too long."""
    text = str(value)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        text = np.array2string(value, threshold=4)
    elif isinstance(value, np.ndarray):
        text = f"{value.dtype} {by(value.shape)}"
    text = " ".join(text.split())
    return text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "..."


def _named(values: Any, classes: Sequence[str | int]) -> list[Any]:
    """Return the classes in place of their numbers."""
    numbers = values.tolist()
    return [classes[n] if n in range(len(classes)) else n for n in numbers]

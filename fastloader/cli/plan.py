"""The command ``fastloader plan``: a survey of a table, and how a loader would read it."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import shlex
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..batches.schema import Schema
from ..fields._kernel import Decoder
from ..fields.columns import Column
from ..fields.not_images import LONGEST_PATH, why_not_an_image
from ..fields.values import BLOB, TEXT
from ..options.config import Config, make_config
from ..options.table import OPTIONS
from ..plan.keys import Keys, dtypes_of, key_values
from ..plan.order import spread
from ..plan.plan import KeyRange, key_ranges
from ..source.files import FileReader
from ..source.protocol import Source
from ..transport.memory import create_memory
from ..transport.ring import Layout, automatic_slots
from ..worker.planned import planned
from ..worker.survey import survey
from .command import DONE, FOUND, Outcome, add_loader_arguments, loader_options, size_text
from .ingest.folder import FORMATS

SAMPLE_ROWS = 200
"""The size of the sample, which is spread over the whole table."""

EXPLAINED_RANGES = 3

SMALL_ROW_BYTES, BETTER_BLOCK = 4096, 64
"""Finding a row of fewer bytes costs more than reading it. Larger blocks gain little more. Both are
what ``benchmarks.blocks`` measures."""

MARGIN, MUCH_LARGER = 8 / 7, 1.4
"""How much more than what training sees a stored image should have, as in the usual resize to 256
for 224; and by how much it has to be larger than that for an advice."""

_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|--[^\n]*|/\*.*?\*/""", re.DOTALL)
"""The constants, quoted names and comments of a SQL statement."""


class PlanCommand:
    """Looks at a table: its keys, rows and sizes, how it will be read, and what could be improved.

    Nothing is decoded. The keys are read as the loader reads them; sizes, formats and the time of a
    fetch are those of a sample of 200 rows from the whole table.
    """

    name = "plan"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the loader."""
        add_loader_arguments(parser, but=["trace"])

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Survey the table in this process, and read a sample."""
        config = make_config(loader_options(arguments))
        with create_memory("plan") as memory, contextlib.ExitStack() as stack:
            start = time.perf_counter()
            found, keys, source = survey(config, memory)
            took_s = time.perf_counter() - start
            stack.callback(source.close)
            plan, _, follows = planned(config, found, memory)
            plan.check(config.place)
            batches = len(plan)
            ranges = key_ranges(keys, plan.positions(0, 0), follows)
            del plan, follows  # views of the memory
            sample = Sample.of(config, source, keys, found.columns)
            server, explained = source.explain(ranges[:EXPLAINED_RANGES])
            schema = Schema(config, found.columns, found.key_dtype, found.outputs)
            layout = Layout.of(config.batch_size, schema.slot_columns)
            first, last = key_values(keys[[0, -1]])
            del keys  # a view of the memory
        workers = max(1, config.workers)
        slots = config.slots or automatic_slots(layout.slot_bytes, workers)
        data: dict[str, Any] = {
            "where": config.place,
            "server": server,
            "rows": found.rows,
            "key": {"column": ", ".join(config.keys), "type": _kind(found.key_dtype),
                    "first": first, "last": last, "seconds": took_s},
            "labels": {c.name: [c.dtype, *c.shape] for c in found.columns},
            "sample": sample.data(found.rows),
            "batches": batches,
            "batch_size": config.batch_size,
            "ranges_in_a_batch": len(ranges),
            "workers": config.workers,
            "slots": slots,
            "shared_memory_bytes": workers * slots * layout.slot_bytes,
            "explain": explained,
            "advice": [
                *(_advice(config, note) for note in found.notes),
                *_shuffle_advice(config, sample.row_bytes),
                *_shrink_advice(config, sample.short_sides),
            ],
        }  # fmt: skip
        return Outcome(_text(data), data, FOUND if data["sample"]["not_images"] else DONE)


@dataclass(frozen=True)
class Sample:
    """The images of some rows.

    Attributes
    ----------
    sizes
        The sizes of the blobs, in bytes.
    formats
        The number of blobs of each format, by their first bytes.
    fetch_s
        The time that fetching all of them took.
    bad
        The number of rows whose image is missing or too large.
    not_images
        The number of values that are no images, such as paths, by the reason.
    row_bytes
        The size of all values of a row, on average.
    short_sides
        The lengths in pixels of the short sides of JPEG, PNG and WebP images in the table.
    """

    sizes: list[int]
    formats: Counter[str]
    fetch_s: float
    bad: int
    not_images: Counter[str]
    row_bytes: float
    short_sides: list[int]

    @classmethod
    def of(cls, config: Config, source: Source, keys: Keys, columns: Sequence[Column]) -> Sample:
        """Fetch SAMPLE_ROWS rows at equal distances, or all rows of a smaller table."""
        rows = spread(len(keys), SAMPLE_ROWS)
        ranges: list[KeyRange] = key_ranges(keys, rows)
        sizes, formats, bad, start = list[int](), Counter[str](), 0, time.perf_counter()
        not_images, row_bytes = Counter[str](), 0
        images = {field.in_chunk: field for field in config.images}
        sides, found = list[int](), np.zeros((1, 4), np.uint32)
        decoders = {
            name: Decoder(1, 1, max_pixels=image.max_pixels) for name, image in images.items()
        }
        files = FileReader(config)
        for chunk in files.chunks(source, source.read(ranges, columns)):
            row_bytes += sum(values.nbytes for values in chunk.columns.values())
            missing = set[int]()
            for name, image in images.items():
                values = chunk.columns[name]
                for i, kind in enumerate(values.kinds.tolist()):
                    if kind not in (BLOB, TEXT):
                        missing.add(i)
                        continue
                    head = values.start(i, LONGEST_PATH + 1)
                    match = FORMATS.match(head)
                    sizes.append(int(values.blobs[i, 1]))
                    formats[(match and match.lastgroup) or "unknown"] += 1
                    blob = values.blobs[i : i + 1]
                    if image.folder is None and not decoders[name].look(blob, found):
                        sides.append(int(found[0, 1:3].min()))
                    is_postgres = config.url.is_postgres
                    if match or image.folder is not None:
                        continue
                    why = why_not_an_image(head, image.of_column, is_postgres=is_postgres)
                    if why:
                        not_images[why] += 1
            bad += len(missing)
        files.close()
        took_s = time.perf_counter() - start
        mean = row_bytes / max(1, len(rows))
        return cls(sizes, formats, took_s, bad, not_images, mean, sides)

    def data(self, rows: int) -> dict[str, Any]:
        """Return the sample for ``--json``. ``rows`` is the number of rows of the table."""
        mean = statistics.fmean(self.sizes) if self.sizes else 0.0
        return {
            "images": len(self.sizes),
            "missing_or_too_large": self.bad,
            "row_bytes": self.row_bytes,
            "mean_bytes": mean,
            "max_bytes": max(self.sizes, default=0),
            "table_bytes": mean * rows,
            "formats": dict(self.formats),
            "not_images": dict(self.not_images),
            "fetch_ms": self.fetch_s / max(1, len(self.sizes)) * 1000,
        }


def _advice(config: Config, note: str) -> str:
    """Return the survey's advice, or other advice where a LIMIT makes an index useless."""
    if "no index serves" not in note or not has_limit(config.query or ""):
        return note
    return (
        f"{config.place}: the query has a LIMIT, so no index can serve its keys, and every key "
        f"range runs the whole query. Store its rows as a table with a primary key, and load that "
        f"table"
    )


def _shuffle_advice(config: Config, row_bytes: float) -> list[str]:
    """Return advice on the block size, if most of the time goes into finding small rows."""
    if (
        not config.shuffle
        or config.image_columns
        or row_bytes >= SMALL_ROW_BYTES
        or config.shuffle_block >= BETTER_BLOCK
    ):
        return []
    apart = "each row" if config.shuffle_block == 1 else f"every {config.shuffle_block} rows"
    return [
        f"rows of about {size_text(row_bytes)} are small, and with "
        f"shuffle_block={config.shuffle_block} {apart} must be found anew. "
        f"shuffle_block={BETTER_BLOCK} can double the rows read per second. It keeps "
        f"{BETTER_BLOCK} neighbors together, so use it if the table is not sorted by label"
    ]


def _shrink_advice(config: Config, short_sides: Sequence[int]) -> list[str]:
    """Return advice to shrink the images, if they are much larger than what training sees."""
    if config.table is None or len(config.images) != 1 or not short_sides:
        return []
    (image,) = config.images
    median, side = statistics.median(short_sides), math.ceil(min(image.size) * MARGIN)
    if median < side * MUCH_LARGER or image.filter == "nearest":  # which is for masks
        return []
    words = ["fastloader", "shrink", str(config.url), "--table", config.table, "--side", str(side)]
    if config.key != OPTIONS["key"].default:
        words += ["--key", ",".join(config.keys)]
    if image.of_column != OPTIONS["image"].default:
        words += ["--image", image.of_column]
    height, width = image.size
    return [
        f"half of the images have a short side of {median:.0f} pixels or more, and training sees "
        f"{height}x{width}. A table of smaller images takes less time in every epoch: "
        f"{shlex.join(words)}"
    ]


def has_limit(query: str) -> bool:
    """Return whether the outermost query has LIMIT, OFFSET or FETCH FIRST."""
    text = _QUOTED.sub(" ", query)
    while (shorter := re.sub(r"\([^()]*\)", " ", text)) != text:
        text = shorter
    return re.search(r"\b(limit|offset|fetch\s+(first|next))\b", text, re.IGNORECASE) is not None


def _kind(dtype: str) -> str:
    kinds = (its.kind for its in dtypes_of(np.dtype(dtype)))
    return ", ".join({"i": "integer", "V": "uuid"}.get(kind, "text") for kind in kinds)


def _text(data: dict[str, Any]) -> str:
    key, sample = data["key"], data["sample"]
    labels = ", ".join(f"{name} {' x '.join(map(str, kind))}" for name, kind in
                       data["labels"].items()) or "none"  # fmt: skip
    formats = ", ".join(f"{n} {name}" for name, n in sample["formats"].items())
    missing = sample["missing_or_too_large"]
    images = [f"rows      {data['rows']}"]
    if sample["images"]:
        images = [
            f"rows      {data['rows']}, about {size_text(sample['table_bytes'])} of images",
            f"images    {size_text(sample['mean_bytes'])} on average, "
            f"{size_text(sample['max_bytes'])} at most; {formats}; fetched in "
            f"{sample['fetch_ms']:.2f} ms each (a sample of {sample['images']})",
        ]
    lines = [
        f"{data['where']} ({data['server']})",
        *images,
        f"key       {key['column']}, {key['type']}, from {key['first']} to {key['last']}; read in "
        f"{key['seconds']:.2f} s",
        f"labels    {labels}",
        f"batches   {data['batches']} of {data['batch_size']} rows an epoch; key ranges in the "
        f"first: {data['ranges_in_a_batch']}",
        f"memory    {size_text(data['shared_memory_bytes'])} shared: {data['workers']} workers, "
        f"{data['slots']} slots each",
        "read as",
        *(f"    {line}" for line in data["explain"].splitlines()),
        *(f"advice: {note}" for note in data["advice"]),
    ]
    lines += [
        f"problem: in {_rows(n)} of the sample, {why}" for why, n in sample["not_images"].items()
    ]
    if missing:
        have = "has" if missing == 1 else "have"
        lines.append(
            f"advice: {_rows(missing)} of the sample {have} no image; see fastloader check"
        )
    return "\n".join(lines)


def _rows(count: int) -> str:
    return f"{count} {'row' if count == 1 else 'rows'}"

"""The tables of docs/benchmarks.md on loaders with formats of their own, from a record.

Run as ``python -m benchmarks.formats.page [RECORD]``, which prints them. Nothing is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from ..measure import BUILD, Sample, Spread
from .__main__ import US, Section
from .environments import ENVIRONMENTS

HEADS = {
    ("256", "jpeg"): "JPEGs, short side 256",
    ("512", "jpeg"): "JPEGs, at most 512 pixels",
    ("256", "raw"): "pixels, short side 256",
}
"""The first cell of each table, by its images and its mode."""

COLUMNS = (
    "random resized crop, flip: images/s", "fastloader is x times as fast", "CPU ms per image",
    "center crop: images/s", "fastloader is x times as fast", "CPU ms per image",
)  # fmt: skip
TITLES = {US: "**fastloader**, SQLite", "fastloader-postgres": "**fastloader**, PostgreSQL"}
TITLES |= {name: environment.title for name, environment in ENVIRONMENTS.items()}


def tables(samples: dict[str, list[Sample]]) -> Iterator[str]:
    """Yield the tables in Markdown."""
    for (images, mode), head in HEADS.items():
        sections = [Section(images, mode, view).title for view in ("random", "center")]
        names = [
            name for name in TITLES if any(samples.get(f"{title}: {name}") for title in sections)
        ]
        if not names:
            continue
        yield f"| {' | '.join((head, *COLUMNS))} |"
        yield f"| --- |{' ---: |' * len(COLUMNS)}"
        for name in names:
            cells = [cell for title in sections for cell in _cells(samples, title, name)]
            yield f"| {' | '.join((TITLES[name], *cells))} |"
        yield ""


def _cells(samples: dict[str, list[Sample]], title: str, name: str) -> list[str]:
    """Return images per second, the ratio to ours, and the CPU time; empty if not measured."""
    found, ours = samples.get(f"{title}: {name}", []), samples.get(f"{title}: {US}", [])
    if not found:
        return ["", "", ""]
    rate, cpu = (
        Spread.of(sample[key] for sample in found).median
        for key in ("images_per_s", "cpu_ms_per_image")
    )
    times = ""
    if ours and name != US:
        pairs = zip(ours, found, strict=True)
        times = f"{Spread.of(a['images_per_s'] / b['images_per_s'] for a, b in pairs):.2f}"
    bold = "**" if name == US else ""
    return [f"{bold}{rate:.0f}{bold}", times, f"{bold}{cpu:.2f}{bold}"]


def main() -> None:
    path = Path(sys.argv[1]) if sys.argv[1:] else BUILD / "formats.json"
    print("\n".join(tables(json.loads(path.read_text(encoding="utf-8"))["samples"])))


if __name__ == "__main__":
    main()

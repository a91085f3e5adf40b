"""Draws the chart of throughput at the top of docs/benchmarks.md, from the tables of that page.

Run as ``python -m benchmarks.chart``. Nothing is measured.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fastloader.cli.measure.plot import BLUE, GREY

from .measure import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
CHART = ROOT / "docs" / "_static" / "throughput.svg"

TITLES = {
    "SQLite to a `tf.data` loop": "SQLite to a tf.data loop",
    "SQLite to a loop, other loaders": "SQLite to a loop, other loaders",
    "PostgreSQL to a `tf.data` loop": "PostgreSQL to a tf.data loop",
}
"""The title of each group of bars, by the first cell of its table."""

NAMES = {
    "fastloader, as_dataset()": "fastloader",
    "SqlDataset, map(decode_jpeg, resize) on 2 cores": "SqlDataset + map\nnot antialiased",
    "the same with antialias=True": "generator of blobs + map\nantialiased",
    "generator that decodes batches with Pillow, prefetch(AUTOTUNE)": "generator, Pillow, prefetch",
    "generator that decodes single images with Pillow, .batch": "generator, Pillow",
    "PyTorch 2.13 DataLoader, 2 workers, a connection each": "PyTorch DataLoader",
    "SPDL 0.8, threads, OpenCV (not antialiased)": "SPDL\nnot antialiased",
    "Grain 0.2.18, 2 worker processes": "Grain",
    "Ray Data 2.60, read_sql, map_batches": "Ray Data",
    "Hugging Face Datasets 5.2, to_tf_dataset(num_workers=2)": "Hugging Face Datasets",
    "psycopg 3 binary server-side cursor, threads, OpenCV (not antialiased)": (
        "psycopg 3, threads, OpenCV\nnot antialiased"
    ),
    "generator that decodes batches with Pillow over a named cursor of psycopg2": (
        "generator, Pillow, psycopg2"
    ),
}
"""What the chart calls a row of the tables. Other rows are not drawn."""


@dataclass(frozen=True)
class Bar:
    """One contestant of a group, and its images per second."""

    name: str
    images_per_s: int


def groups(page: str) -> dict[str, list[Bar]]:
    """Return the bars of each group, by its title."""
    found: dict[str, list[Bar]] = {}
    title = ""
    for line in page.splitlines():
        if not line.startswith("|"):
            title = ""
            continue
        first, second, *_ = (cell.strip() for cell in line.strip("|").split(" | "))
        title = TITLES.get(first, title)
        name = NAMES.get(re.sub(r"[*`]", "", first))
        if title and name:
            found.setdefault(title, []).append(Bar(name, int(second.strip("*"))))
    return found


def draw(bars_of: dict[str, list[Bar]], path: Path) -> None:
    """Draw the groups below each other, on the same scale."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    style = {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "svg.fonttype": "path",
        "svg.hashsalt": "fastloader",
    }
    with mpl.rc_context(style):
        figure, rows = plt.subplots(
            len(bars_of),
            sharex=True,
            figsize=(7, 6.4),
            height_ratios=[len(bars) + 0.4 for bars in bars_of.values()],
            layout="constrained",
        )
        for axes, (title, bars) in zip(rows, bars_of.items(), strict=True):
            drawn = axes.barh(
                [bar.name for bar in bars],
                [bar.images_per_s for bar in bars],
                color=[BLUE if bar.name == "fastloader" else GREY for bar in bars],
                height=0.7,
            )
            axes.bar_label(drawn, padding=4)
            axes.get_yticklabels()[0].set_fontweight("bold")
            axes.invert_yaxis()
            axes.set_title(title, loc="left")
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            axes.tick_params(length=0)
            axes.set_xlim(0, 1750)
            axes.set_xticks([])
        figure.supxlabel("images per second on two cores, 500x375 JPEG to 224x224", fontsize=10)
        figure.savefig(path, facecolor="white", metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    draw(groups(PAGE.read_text()), CHART)
    print(CHART.relative_to(ROOT))


if __name__ == "__main__":
    main()

"""Draws the chart of loaders with formats of their own, from its table in docs/benchmarks.md.

Run as ``python -m benchmarks.chart_formats``. Nothing is measured.
"""

from __future__ import annotations

import re
from pathlib import Path

from fastloader.cli.measure.plot import BLUE, GREY

from .chart import PAGE, Bar
from .formats.page import HEADS
from .measure import ROOT

CHART = ROOT / "docs" / "_static" / "formats.svg"
HEAD = HEADS["256", "jpeg"]
US = "fastloader"


def bars(page: str) -> list[Bar]:
    """Return the bars: the first two columns of the table, the fastest first."""
    found: list[Bar] = []
    is_inside = False
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            is_inside = False
        elif cells[0] == HEAD:
            is_inside = True
        elif is_inside and not cells[0].startswith("---"):
            name, rate = (re.sub(r"\*\*", "", cell) for cell in cells[:2])
            found.append(Bar(name, int(rate)))
    return sorted(found, key=lambda bar: bar.images_per_s, reverse=True)


def text_of(found: list[Bar]) -> str:
    """Return the figures as text, which the chart has in its metadata."""
    return "; ".join(f"{bar.name} {bar.images_per_s}" for bar in found)


def draw(found: list[Bar], path: Path) -> None:
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    style = {"font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "fastloader"}
    with mpl.rc_context(style):
        figure, axes = plt.subplots(figsize=(7, 0.6 + 0.32 * len(found)), layout="constrained")
        drawn = axes.barh(
            [bar.name for bar in found],
            [bar.images_per_s for bar in found],
            color=[BLUE if bar.name.startswith(US) else GREY for bar in found],
            height=0.7,
        )
        axes.bar_label(drawn, padding=4)
        for label in axes.get_yticklabels():
            if label.get_text().startswith(US):
                label.set_fontweight("bold")
        axes.invert_yaxis()
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.tick_params(length=0)
        axes.set_xlim(0, 1.12 * max(bar.images_per_s for bar in found))
        axes.set_xticks([])
        figure.supxlabel(
            "images per second on two cores: the same JPEGs, random resized crop, flip", fontsize=10
        )
        figure.savefig(
            path, facecolor="white", metadata={"Date": None, "Description": text_of(found)}
        )
        plt.close(figure)


def main() -> None:
    draw(bars(PAGE.read_text(encoding="utf-8")), CHART)
    print(CHART.relative_to(ROOT))


if __name__ == "__main__":
    main()

"""The number of labels in a batch, after shuffling a table that is sorted by label.

Only the plan is asked, for 100 labels of 200 rows each and batches of 64; no images are read. The
last batch of an epoch is smaller and left out. ``-o FILE.png`` draws the distributions.
"""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloader.plan.order import Uniform
from fastloader.plan.plan import Plan

from .measure import BATCH, BUILD, Sample, report, table

LABELS, ROWS_OF_EACH = 100, 200
ROWS = LABELS * ROWS_OF_EACH

NO_SHUFFLE = "no shuffle"
ORDERS: dict[str, dict[str, Any]] = {
    "shuffle_block=1": {"shuffle": True, "block": 1},
    "shuffle_block=8": {"shuffle": True, "block": 8},
    "shuffle_block=64": {"shuffle": True, "block": 64},
    NO_SHUFFLE: {},
}
COLORS = ("#0072b2", "#d55e00", "#009e73", "#595959")
"""A part of Okabe and Ito's palette, which color-blind people can tell apart."""

WIDTH_PX, HEIGHT_PX, DPI = 900, 330, 100


def samples_of(order: dict[str, Any], epochs: int) -> Sample:
    """Return histograms over batches: distinct labels, and rows of the most frequent label."""
    plan = Plan(Uniform(ROWS, **order), BATCH, drop_remainder=True)
    distinct, most = [], []
    for epoch in range(epochs if order else 1):  # without shuffle all epochs are the same
        for batch in range(len(plan)):
            rows = np.bincount(plan.positions(epoch, batch) // ROWS_OF_EACH)
            distinct.append(np.count_nonzero(rows))
            most.append(rows.max())
    return {
        "distinct": np.bincount(distinct).tolist(),
        "mean_distinct": float(np.mean(distinct)),
        "most": np.bincount(most).tolist(),
    }


def values_of(histogram: Sequence[int]) -> NDArray[np.int64]:
    """Return the counted values, ascending."""
    return np.repeat(np.arange(len(histogram)), histogram)


def expected() -> float:
    """Return the expected number of distinct labels in a batch drawn without replacement."""
    others = np.arange(BATCH)
    absent = np.prod((ROWS - ROWS_OF_EACH - others) / (ROWS - others))
    return float(LABELS * (1 - absent))


def lines(samples: dict[str, Sample]) -> list[str]:
    rows = []
    for name, sample in samples.items():
        distinct = values_of(sample["distinct"])
        low, high = np.quantile(distinct, (0.05, 0.95))
        share = values_of(sample["most"]) / BATCH
        rows.append(
            [
                name,
                f"{distinct.mean():.1f}",
                f"{low:.0f}..{high:.0f}",
                f"{share.mean():.0%}",
                f"{share.max():.0%}",
                f"{len(distinct)}",
            ]
        )
    headers = ["distinct labels in a batch", "mean", "5 to 95 % of batches"]
    headers += ["share of the most frequent one, mean", "largest", "batches"]
    return [
        f"{LABELS} labels of {ROWS_OF_EACH} rows each, sorted by label; batches of {BATCH}",
        "",
        table(headers, rows),
        "",
        f"expected of a full shuffle: {expected():.1f}",
    ]


def draw(samples: dict[str, Sample], path: Path) -> None:
    """Draw a row of bars for each order, over one axis."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["font.size"] = 11
    figure, axes = pyplot.subplots(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
    means = {name: values_of(sample["distinct"]).mean() for name, sample in samples.items()}
    bases = range(len(samples) - 1, -1, -1)
    for base, (name, sample), color in zip(bases, samples.items(), COLORS, strict=True):
        histogram = np.array(sample["distinct"])
        numbers = np.flatnonzero(histogram)
        heights = 0.78 * histogram[numbers] / histogram.max()
        axes.axhline(base, color="#cccccc", linewidth=0.8, zorder=0)
        axes.bar(numbers, heights, bottom=base, width=0.8, color=color)
        is_left = numbers[0] < BATCH / 2
        axes.text(
            numbers[-1] + 1 if is_left else numbers[0] - 1,
            base + 0.13,
            f"{name}: {means[name]:.1f} on average",
            color=color,
            ha="left" if is_left else "right",
            weight="bold",
        )
    axes.axvline(expected(), color="black", linestyle="--", linewidth=1)
    words = f"expected of a\nfull shuffle: {expected():.1f}"
    axes.text(expected() - 0.7, 0.13, words, ha="right")
    axes.set(xlim=(0, BATCH), ylim=(0, len(samples) - 0.1), yticks=[])
    axes.set_xticks(range(0, BATCH + 1, 8))
    axes.set_xlabel(f"distinct labels in a batch of {BATCH}")
    axes.spines[["left", "right", "top"]].set_visible(False)
    eight, one = (round(means[f"shuffle_block={n}"], 1) for n in (8, 1))
    axes.set_title(
        f"Sorted by label: blocks of 8 rows put {eight:g} labels into a batch of {BATCH}, "
        f"a full shuffle {one:g}",
        loc="left",
        fontsize=12,
        weight="bold",
    )
    figure.tight_layout(pad=0.6)
    save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG of 64 colors, which are enough, in a third of the bytes."""
    from matplotlib import pyplot

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    pyplot.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(64).save(path, "PNG", optimize=True)


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.labels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.set_defaults(name="labels")
    arguments.add_argument("-o", "--output", type=Path, metavar="FILE", help="draw it as a PNG")
    arguments.add_argument("--rounds", help="no effect: it counts labels, and takes no times")
    arguments.add_argument(
        "--epochs", type=int, default=50, metavar="N", help="number of epochs (50)"
    )
    arguments.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=BUILD / "labels.json",
        help="where to write every sample (build/benchmarks/labels.json)",
    )
    options = arguments.parse_args()
    samples = {name: samples_of(order, options.epochs) for name, order in ORDERS.items()}
    report(options, {name: [sample] for name, sample in samples.items()}, lines(samples))
    if options.output is not None:
        draw(samples, options.output)
        print(f"written: {os.path.relpath(options.output)}")


if __name__ == "__main__":
    main()

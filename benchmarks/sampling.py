"""Balanced and weighted sampling of imbalanced classes, against a shuffle of the same table.

Mixtures have the two halves of the table in equal shares, each with half of the workers.

One row in 101 is of the rare class. ``images`` are photographs, which all workers decode.
``rows`` are a million rows of four numbers in batches of 4096, and how long the loader
takes to be made. ``-o FILE.png`` draws how many rows of the rare class a batch has.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloader import FastLoader, Mixture, Number, mix
from fastloader.options.sampling import Balanced
from fastloader.plan.order import Order, Uniform
from fastloader.plan.plan import Plan
from fastloader.plan.sampling import OfClasses, grouped
from tests.servers.endings import ending_cleanly

from .contestants import run
from .labels import DPI, save
from .measure import (
    BATCH,
    SIZE,
    Sample,
    child,
    chosen,
    cores,
    paired,
    parser,
    print_sample,
    ratio,
    report,
    spread,
    table,
)
from .photos import database, read_photos

RARE = 101
ROWS = 1_000_000
ROWS_IN_BATCH = 4096
UNIFORM = "shuffle"
PARTS = {"images": "images/s", "rows": "rows/s"}
EPOCHS = 5
COLORS = {"shuffle=True": "#595959", 'sampling="balanced"': "#0072b2"}
WIDTH_PX, HEIGHT_PX = 900, 300

QUERY = f"""
SELECT *, CASE label WHEN 1 THEN {RARE - 1}.0 ELSE 1.0 END AS weight FROM images
"""


def options_of(name: str) -> dict[str, Any]:
    """Return the options of a contestant."""
    from fastloader import ClassBatch, Weighted

    return {
        UNIFORM: {"shuffle": True},
        "balanced": {"sampling": "balanced"},
        "weighted": {"sampling": Weighted("weight"), "query": QUERY},
        "weighted, no replacement": {
            "sampling": Weighted("weight", replacement=False), "query": QUERY,
        },
        "2 classes x half a batch": {"sampling": ClassBatch(2, BATCH // 2)},
    }[name]  # fmt: skip


MIXTURES = {"mixed in each batch": "batch", "mixed batches": "batches"}
NAMES = {
    "images": (UNIFORM, "balanced", "weighted", "weighted, no replacement",
               "2 classes x half a batch", *MIXTURES),
    "rows": (UNIFORM, "balanced", "weighted", "weighted, no replacement", *MIXTURES),
}  # fmt: skip


def loader_of(name: str, path: str, **options: Any) -> FastLoader | Mixture:
    """Return the loader of a contestant."""
    if name not in MIXTURES:
        return FastLoader(path, workers=cores(), **options, **options_of(name))
    with closing(sqlite3.connect(path)) as connection:
        ((half,),) = connection.execute("SELECT max(id) / 2 FROM images")
    loaders = [
        FastLoader(path, workers=max(1, cores() // 2), shuffle=True, where=where, **options)
        for where in (f"id <= {half}", f"id > {half}")
    ]
    return mix(dict.fromkeys(loaders, 1.0), within=MIXTURES[name])  # type: ignore[arg-type]


def one(part: str, name: str, path: str) -> Sample:
    if part == "images":
        batch = {} if "2 classes" in name else {"batch_size": BATCH}
        return run(loader_of(name, path, size=SIZE, **batch), 1)
    fields = {column: Number() for column in "abcd"}
    start = time.perf_counter()
    with loader_of(name, path, fields=fields, label="label", batch_size=ROWS_IN_BATCH) as loader:
        made_s = time.perf_counter() - start
        for _ in loader:
            pass
        before, start = loader.stats(), time.perf_counter()
        for _ in loader:
            pass
        seconds, after = time.perf_counter() - start, loader.stats()
    rows = after.rows - before.rows
    return {
        "rows_per_s": rows / seconds,
        "cpu_us_per_row": (after.cpu_s - before.cpu_s) / rows * 1e6,
        "made_s": made_s,
    }


@contextmanager
def rows(count: int) -> Iterator[str]:
    """Make a table of numbers, and delete it when the block ends. Yields its path."""
    with ending_cleanly(), tempfile.TemporaryDirectory(prefix="fastloader-") as folder:
        path = os.path.join(folder, "rows.db")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TABLE images (id INTEGER PRIMARY KEY, label INTEGER, a REAL, b REAL, "
                "c INTEGER, d INTEGER)"
            )
            connection.executemany(
                "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)",
                ((n, int(n % RARE == 0), n**0.5, n / 7, n % 1009, n * 7) for n in range(count)),
            )
        yield path


def measured(part: str, path: str, options: argparse.Namespace) -> dict[str, list[Sample]]:
    return paired(
        chosen(NAMES[part], options.only),
        options.rounds,
        run=lambda name: child("benchmarks.sampling", "--one", part, name, path),
    )


def lines_of(part: str, samples: dict[str, list[Sample]]) -> list[str]:
    key = "images_per_s" if part == "images" else "rows_per_s"
    headers = [part, PARTS[part], f"x times {UNIFORM}"]
    headers += ["CPU ms per image"] if part == "images" else ["CPU us per row", "s to make it"]
    others = ["cpu_ms_per_image"] if part == "images" else ["cpu_us_per_row", "made_s"]
    lines = []
    for name, found in samples.items():
        x = f"{ratio(found, samples[UNIFORM], key):.2f}" if UNIFORM in samples else ""
        its = [f"{spread(found, other):.2f}" for other in others]
        lines.append([name, f"{spread(found, key):,.0f}", x, *its])
    return [table(headers, lines), ""]


# ---- the figure ----------------------------------------------------------------------------------


def in_batches(order: Order, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many rows of the rare class each batch of some epochs has."""
    plan = Plan(order, BATCH, drop_remainder=True)
    return np.array(
        [
            int(labels[rows.positions].sum())
            for epoch in range(EPOCHS)
            for rows in plan.read(epoch, range(len(plan)))
        ]
    )


def draw(path: Path) -> None:
    """Draw the numbers of rows of the rare class in the batches of both orders."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    labels = (np.arange(RARE * 200) % RARE == 0).astype(np.int64)
    members, ends = grouped(labels)
    orders: tuple[Order, ...] = (
        Uniform(len(labels), shuffle=True),
        OfClasses(members, ends, 0, len(labels), Balanced()),
    )
    matplotlib.rcParams["font.size"] = 11
    figure, axes = pyplot.subplots(figsize=(WIDTH_PX / DPI, HEIGHT_PX / DPI), dpi=DPI)
    for order, (name, color) in zip(orders, COLORS.items(), strict=True):
        counts = in_batches(order, labels)
        numbers, batches = np.unique(counts, return_counts=True)
        axes.bar(numbers, batches / len(counts), width=0.8, color=color)
        words = f"{name}:\n{counts.mean():.1f} on average"
        axes.text(numbers[-1] + 1, 0.62, words, color=color, weight="bold")
    axes.set(xlim=(-1, BATCH), ylim=(0, 1), yticks=[0, 0.5, 1], ylabel="share of batches")
    axes.set_yticklabels(["0", "50 %", "100 %"])
    axes.set_xticks(range(0, BATCH + 1, 8))
    axes.set_xlabel(f"rows of the rare class in a batch of {BATCH}")
    axes.spines[["right", "top"]].set_visible(False)
    axes.set_title(
        f"One row in {RARE} is of the rare class: half of each batch is, if classes are balanced",
        loc="left",
        fontsize=12,
        weight="bold",
    )
    figure.tight_layout(pad=0.6)
    save(figure, path)


def main() -> None:
    arguments = parser("sampling", __doc__, rounds=5)
    arguments.add_argument(
        "--copies", type=int, default=4, metavar="N", help="rows for each photo (4)"
    )
    arguments.add_argument("--rows", type=int, default=ROWS, metavar="N", help="(a million)")
    arguments.add_argument("--part", nargs="+", choices=[*PARTS], default=[*PARTS], help="(both)")
    arguments.add_argument("-o", "--output", type=Path, metavar="FILE", help="only draw the figure")
    arguments.add_argument(
        "--one", nargs=3, metavar=("PART", "NAME", "PATH"), help="one run, as JSON"
    )
    options = arguments.parse_args()
    if options.one:
        print_sample(lambda: one(*options.one))
        return
    if options.output is not None:
        draw(options.output)
        print(f"written: {os.path.relpath(options.output)}")
        return
    samples: dict[str, list[Sample]] = {}
    lines: list[str] = []
    for part in options.part:
        if part == "images":
            blobs = [blob for blob, _ in read_photos(options.images, options.photos)]
            count = len(blobs) * options.copies
            photos = [(blobs[i % len(blobs)], int(i % RARE == 0)) for i in range(count)]
            with database(photos, count) as path:
                found = measured(part, path, options)
        else:
            with rows(options.rows) as path:
                found = measured(part, path, options)
        samples |= {f"{part}: {name}": each for name, each in found.items()}
        lines += lines_of(part, found)
    report(options, samples, lines)


if __name__ == "__main__":
    main()

"""The time to the first batch of a table of 100,000 rows, and the memory of a worker.

The time is from calling FastLoader to having the first batch, each in a fresh process that has
imported what its name says. Starting Python and importing are not counted. The table has just been
written, so it is read from the page cache. Its images are photos scaled down.

A worker's private memory is what each worker has for itself while it decodes the photos. The ring
is counted separately: it is shared with the training process, but Linux counts pages as private
that only the worker has touched so far.
"""

from __future__ import annotations

import importlib
import json
import statistics
import time
from typing import Any

import psutil

from .measure import (
    BATCH,
    SIZE,
    Sample,
    child,
    chosen,
    cores,
    paired,
    parser,
    report,
    spread,
    table,
)
from .photos import database, read_photos, thumbnails

DISTINCT = 64
LONGEST = 216
"""The longer side in pixels, which gives JPEGs of about 10 KB."""

VARIANTS = {
    "numpy": ("numpy", "fastloader"),
    "numpy, TensorFlow imported": ("numpy", "fastloader", "tensorflow"),
    "as_dataset": ("numpy", "fastloader", "tensorflow"),
}
MEMORY = "memory"
MEMORY_BATCHES = 40
GOAL_MB = 80


# ---- one run, in a process of its own ------------------------------------------------------------


def run_one(variant: str, path: str) -> Sample:
    if variant == MEMORY:
        return worker_memory(path)
    for module in VARIANTS[variant]:
        importlib.import_module(module)
    from fastloader import FastLoader

    start = time.perf_counter()
    loader = FastLoader(path, batch_size=BATCH, size=SIZE, workers=cores())
    made = time.perf_counter()
    with loader:
        next(iter(loader.as_dataset() if variant == "as_dataset" else loader))
        first = time.perf_counter()
    closed = time.perf_counter()
    return {"made_s": made - start, "first_s": first - start, "close_s": closed - first}


def worker_memory(path: str) -> Sample:
    """Return the median over the workers, in MB (10**6 bytes)."""
    from fastloader import FastLoader

    with FastLoader(path, batch_size=BATCH, size=SIZE, workers=cores()) as loader:
        for _batch, _ in zip(loader, range(MEMORY_BATCHES), strict=False):
            pass
        found = [private_bytes(worker.pid) for worker in psutil.Process().children()]
    private, ring = zip(*found, strict=True)
    return {
        "private_mb": statistics.median(private) / 1e6,
        "ring_mb": statistics.median(ring) / 1e6,
    }


def private_bytes(pid: int) -> tuple[int, int]:
    """Return the bytes of private pages outside and inside a process's mapping of the ring."""
    in_ring = False
    private = {False: 0, True: 0}
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as lines:
        for line in lines:
            word = line.split(maxsplit=1)[0]
            if not word.endswith(":"):  # the first line of the next mapping
                in_ring = "memfd:fastloader" in line
            elif word in ("Private_Clean:", "Private_Dirty:"):
                private[in_ring] += int(line.split()[1]) * 1024
    return private[False], private[True]


# ---- all of them ---------------------------------------------------------------------------------


def lines(samples: dict[str, list[Sample]]) -> list[str]:
    def ms(found: list[Sample], key: str) -> str:
        return f"{spread([{key: sample[key] * 1000} for sample in found], key):.0f}"

    rows = [
        [name, ms(found, "made_s"), ms(found, "first_s"), ms(found, "close_s")]
        for name, found in samples.items()
        if name != MEMORY
    ]
    headers = ["ms, median [lowest..highest]", "FastLoader()", "until the first batch", "closing"]
    memory = samples[MEMORY]
    private = spread(memory, "private_mb")
    reached = "reached" if private.median < GOAL_MB else "not reached"
    return [
        table(headers, rows),
        "",
        f"a worker's private memory: {private:.1f} MB, and {spread(memory, 'ring_mb'):.1f} MB of "
        f"its ring that nobody else has touched",
        f"goal: less than {GOAL_MB} MB without the ring: {reached}",
    ]


def main() -> None:
    arguments = parser("first_batch", __doc__, rounds=7)
    arguments.add_argument(
        "--rows", type=int, default=100_000, metavar="N", help="rows of the table (100,000)"
    )
    arguments.add_argument(
        "--one", nargs=2, metavar=("VARIANT", "DATABASE"), help="one run, as JSON"
    )
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(run_one(*options.one)))
        return
    photos = read_photos(options.images, options.photos)
    small = thumbnails(photos, distinct=DISTINCT, longest=LONGEST)
    with database(small, options.rows) as large, database(photos, 4 * len(photos)) as of_photos:

        def run(variant: str) -> Sample:
            path = of_photos if variant == MEMORY else large
            return child("benchmarks.first_batch", "--one", variant, path)

        samples: dict[str, Any] = paired(
            chosen([*VARIANTS, MEMORY], options.only), options.rounds, run=run
        )
    size = statistics.mean(len(blob) for blob, _ in small)
    head = f"{options.rows} rows, JPEGs of {size / 1000:.1f} KB on average"
    report(options, samples, [head, "", *lines(samples)])


if __name__ == "__main__":
    main()

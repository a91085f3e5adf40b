"""The cache: the epoch that fills it and the epochs that it serves, against a loader without one.

Epochs are shuffled, from a SQLite file in the page cache, in a plain loop. The contestant ``cold``
finds the cache file of an earlier run, which is not in the page cache; its rate is compared with
that of a program that reads the file from beginning to end.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from .measure import (
    BATCH,
    SIZE,
    Sample,
    child,
    chosen,
    cores,
    paired,
    parser,
    ratio,
    report,
    spread,
    table,
)
from .page_cache import forget, resident_mb
from .photos import database, read_photos

NONE, RAM, FOLDER, COLD = "no cache", "ram", "folder", "folder, cold"
CONTESTANTS = (NONE, RAM, FOLDER, COLD)
EPOCHS = 4


def epochs(path: str, count: int, **options: Any) -> tuple[list[float], int]:
    """Return images/s of each epoch, and the number of rows that came from the cache."""
    from fastloader import FastLoader

    options |= {"batch_size": BATCH, "size": SIZE, "workers": cores(), "shuffle": True}
    found = []
    with FastLoader(path, **options) as loader:
        for _ in range(count):
            start, rows = time.perf_counter(), 0
            for _images, labels in loader:
                rows += len(labels)
            found.append(rows / (time.perf_counter() - start))
        return found, loader.stats().cached_rows


def run_one(name: str, path: str) -> Sample:
    # On the disk of the database: /tmp may be in memory, where no cache can be cold.
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        if name != COLD:
            cache = {NONE: None, RAM: "ram", FOLDER: folder}[name]
            first, *later = epochs(path, EPOCHS, cache=cache)[0]
            return {"first": first, "images_per_s": statistics.median(later)}
        epochs(path, 1, cache=folder)
        (file,) = Path(folder).iterdir()
        size = file.stat().st_size
        forget(str(file))
        start = time.perf_counter()
        with open(file, "rb", buffering=0) as raw:
            while raw.read(1 << 20):
                pass
        disk_mb = size / 1e6 / (time.perf_counter() - start)
        forget(str(file))
        left_mb = resident_mb([str(file)])
        (first,), rows = epochs(path, 1, cache=folder)
        return {
            "first": first, "images_per_s": first, "cached_rows": rows, "left_mb": left_mb,
            "mb_per_s": first * size / 1e6 / rows, "disk_mb_per_s": disk_mb,
        }  # fmt: skip


def lines(samples: dict[str, list[Sample]]) -> list[str]:
    rows = []
    for name, of_name in samples.items():
        over = ""
        if NONE in samples and name != NONE:
            over = f"{ratio(of_name, samples[NONE], 'images_per_s'):.1f}"
        row = [spread(of_name, key) for key in ("first", "images_per_s")]
        rows.append([name, *(f"{images:.0f}" for images in row), over])
    found = [table(["", "first epoch, images/s", "later epochs", "x no cache"], rows)]
    found += [
        f"cold: {sample['mb_per_s']:.0f} MB/s; reading the file alone: "
        f"{sample['disk_mb_per_s']:.0f} MB/s; {sample['left_mb']:.0f} MB stayed in the page cache"
        for sample in samples.get(COLD, [])
    ]
    return found


def main() -> None:
    arguments = parser("cached", __doc__, rounds=3)
    arguments.add_argument(
        "--copies", type=int, default=5, metavar="N", help="rows for each photo (5)"
    )
    arguments.add_argument("--one", nargs=2, metavar=("NAME", "DATABASE"), help="one run, as JSON")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(run_one(*options.one)))
        return
    photos = read_photos(options.images, options.photos)
    with database(photos, options.copies * len(photos)) as path:
        samples = paired(
            chosen(CONTESTANTS, options.only),
            options.rounds,
            run=lambda name: child("benchmarks.cached", "--one", name, path),
        )
    report(options, samples, lines(samples))


if __name__ == "__main__":
    main()

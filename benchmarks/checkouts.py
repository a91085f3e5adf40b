"""Compare this checkout with another one, to see whether anything has become slower.

Both run what the benchmarks end_to_end, first_batch and handover run, each with its own code, and
import the package, in turn and over the same tables. Compile the other one first, in its folder:
``python setup.py build_ext --inplace``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from .contestants import BATCH
from .handover import SKIP, WAYS
from .measure import ROOT, Sample, paired, parser, ratio, report, run_python, spread, table
from .photos import database, read_photos, thumbnails

IMPORT = """
import json, time, numpy
start = time.perf_counter()
import fastloader
print(json.dumps({"import_s": time.perf_counter() - start}))
"""
NEW, OLD = "this checkout", "the other one"

KINDS = {
    "images/s": ("images_per_s", 1.0),
    "CPU ms per image": ("cpu_ms_per_image", 1.0),
    "ms until the first batch": ("first_s", 1000.0),
    "ms to close": ("close_s", 1000.0),
    **{f"{way}: hand-over, CPU us per image": (way, 1.0) for way in WAYS},
    "ms to import": ("import_s", 1000.0),
}
"""What is shown: of each measurement its key in a sample, and a factor."""


def measure(folder: Path, photos: str, large: str) -> Sample:
    """Return one sample of everything, in one checkout."""
    run = partial(run_python, checkout=folder)
    found = run("-m", "benchmarks.contestants", "fastloader", photos)
    found |= run("-m", "benchmarks.first_batch", "--one", "numpy", large)
    for way in WAYS:
        one = run("-m", "benchmarks.handover", "--one", "ours", way, photos, "0")
        found[way] = one["us_per_image"]
    return found | run("-c", IMPORT)


def main() -> None:
    arguments = parser("checkouts", __doc__, rounds=5)
    arguments.add_argument("other", type=Path, help="folder of the other checkout")
    arguments.add_argument(
        "--copies", type=int, default=8, metavar="N", help="rows that each photo makes (8)"
    )
    arguments.add_argument(
        "--rows", type=int, default=100_000, metavar="N", help="rows for the first batch (100,000)"
    )
    options = arguments.parse_args()
    folders = {NEW: ROOT, OLD: options.other.resolve()}
    photos = read_photos(options.images, options.photos)
    if len(photos) * options.copies < 4 * SKIP * BATCH:
        raise SystemExit(f"needs {4 * SKIP * BATCH} rows or more: raise --copies")
    small = thumbnails(photos, distinct=64, longest=216)
    with (
        database(photos, len(photos) * options.copies) as path,
        database(small, options.rows) as large,
    ):
        samples = paired(
            [NEW, OLD], options.rounds, run=lambda name: measure(folders[name], path, large)
        )
    rows = [
        [
            what,
            *(f"{spread(samples[name], key).median * factor:.2f}" for name in (NEW, OLD)),
            f"{ratio(samples[NEW], samples[OLD], key):.3f}",
        ]
        for what, (key, factor) in KINDS.items()
    ]
    report(options, samples, [table(["median", NEW, OLD, "ratio of the pairs"], rows)])


if __name__ == "__main__":
    main()

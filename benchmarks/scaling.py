"""Images per second against the number of workers, from one table, in a plain loop.

``bare`` is not a loader: the same number of processes only decode, from memory, with
libjpeg-turbo's own default settings. Their gain with more cores is the most that the machine
offers. The loop does nothing with the batches, but it takes a share of a core too.
"""

from __future__ import annotations

import json
import time

from . import bare
from .measure import (
    BATCH,
    SIZE,
    Sample,
    Spread,
    child,
    cores,
    cpu_seconds,
    paired,
    parser,
    report,
    table,
)
from .photos import database, read_photos, rows_of

SECONDS = 3.0


def counts(most: int) -> list[int]:
    """Return 1, 2, 4, ... and ``most``."""
    return sorted({most, *(1 << i for i in range(most.bit_length()) if 1 << i <= most)})


# ---- one run, in a process of its own ------------------------------------------------------------


def run_one(path: str, workers: int, seconds: float) -> Sample:
    """Measure whole epochs for at least so many seconds, after an epoch to warm up."""
    from fastloader import FastLoader

    with FastLoader(path, batch_size=BATCH, size=SIZE, workers=workers) as loader:
        for _ in loader:
            pass
        rows, cpu, start = 0, cpu_seconds(), time.perf_counter()
        while (took_s := time.perf_counter() - start) < seconds:
            rows += sum(len(images) for images, _ in loader)
        return {
            "images_per_s": rows / took_s,
            "cpu_ms_per_image": (cpu_seconds() - cpu) / rows * 1e3,
        }


def run_bare(path: str, workers: int) -> Sample:
    blobs = [bytes(blob) for blob, _ in rows_of(path)]
    found = bare.on_all_cores(blobs, workers, epochs=1)
    return {
        "images_per_s": len(blobs) / found["seconds"],
        "cpu_ms_per_image": found["cpu_s"] / len(blobs) * 1e3,
    }


# ---- all of them ---------------------------------------------------------------------------------


def lines(samples: dict[str, list[Sample]]) -> list[str]:
    def gain(name: str) -> Spread:
        """Return the ratio to one worker within each round."""
        first = samples[f"{name.split(maxsplit=1)[0]} 1"]
        pairs = zip(samples[name], first, strict=True)
        return Spread.of(a["images_per_s"] / b["images_per_s"] for a, b in pairs)

    rows = [
        [
            name,
            f"{Spread.of(sample['images_per_s'] for sample in found):.0f}",
            f"{gain(name):.2f}",
            f"{Spread.of(sample['cpu_ms_per_image'] for sample in found):.2f}",
        ]
        for name, found in samples.items()
    ]
    headers = ["workers, median [lowest..highest]", "images/s", "x one worker", "CPU ms per image"]
    return [table(headers, rows)]


def main() -> None:
    arguments = parser("scaling", __doc__, rounds=3)
    arguments.add_argument(
        "--db", choices=("sqlite", "postgres"), default="sqlite", help="the database (sqlite)"
    )
    arguments.add_argument(
        "--most", type=int, default=cores(), metavar="N", help="most workers (the cores)"
    )
    arguments.add_argument(
        "--copies", type=int, default=4, metavar="N", help="rows for each photo (4)"
    )
    arguments.add_argument(
        "--seconds", type=float, default=SECONDS, metavar="S", help=f"of a run ({SECONDS:g})"
    )
    arguments.add_argument("--one", nargs=2, metavar=("NAME", "DATABASE"), help="one run, as JSON")
    options = arguments.parse_args()
    if options.one:
        (kind, workers), path = options.one[0].split(), options.one[1]
        if kind == "bare":
            print(json.dumps(run_bare(path, int(workers))))
        else:
            print(json.dumps(run_one(path, int(workers), options.seconds)))
        return
    photos = read_photos(options.images, options.photos)
    bare.compiled()
    names = [f"{kind} {n}" for kind in ("fastloader", "bare") for n in counts(options.most)]
    with database(photos, len(photos) * options.copies, kind=options.db) as path:

        def run(name: str) -> Sample:
            seconds = ("--seconds", options.seconds)
            return child("benchmarks.scaling", "--one", name, path, *seconds)

        samples = paired(names, options.rounds, run=run)
    report(options, samples, lines(samples))


if __name__ == "__main__":
    main()

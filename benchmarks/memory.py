"""The private memory of the training process and of a worker over many batches.

One loader reads photographs scaled down, epoch after epoch, and is looked at ten times on the way.
The ring is not counted: it is shared and its size is fixed. A leak of one byte per image would show
as 0.06 MB for every 1000 batches of 64.
"""

from __future__ import annotations

import json
import statistics

import psutil

from .first_batch import private_bytes
from .measure import BATCH, SIZE, Sample, Spread, child, cores, parser, report, table
from .photos import database, read_photos, thumbnails

LOOKS = 10
LONGEST = 160


def run_one(path: str, batches: int) -> list[Sample]:
    from fastloader import FastLoader

    samples, done = [], 0
    with FastLoader(path, batch_size=BATCH, size=SIZE, workers=cores()) as loader:
        while done < batches:
            for _ in loader:
                done += 1
                if done % max(1, batches // LOOKS) == 0:
                    samples.append({"batches": done, **look()})
                if done == batches:
                    break
    return samples


def look() -> Sample:
    """Return the private memory in MB of this process, and the median over the workers."""
    me = psutil.Process()
    workers = [private_bytes(worker.pid)[0] for worker in me.children()]
    return {
        "training_mb": private_bytes(me.pid)[0] / 1e6,
        "worker_mb": statistics.median(workers) / 1e6,
    }


def lines(samples: list[Sample]) -> list[str]:
    rows = [
        [str(s["batches"]), f"{s['training_mb']:.1f}", f"{s['worker_mb']:.1f}"] for s in samples
    ]
    # By the second half, everything that is kept has been allocated.
    half = samples[len(samples) // 2 :]
    training, worker = (Spread.of(s[key] for s in half) for key in ("training_mb", "worker_mb"))
    return [
        table(["batches", "training process, MB", "a worker, MB"], rows),
        "",
        f"in the second half: training process {training:.1f} MB, a worker {worker:.1f} MB",
    ]


def main() -> None:
    arguments = parser("memory", __doc__, rounds=1)
    arguments.add_argument(
        "--batches", type=int, default=10_000, metavar="N", help="number of batches (10,000)"
    )
    arguments.add_argument("--one", metavar="DATABASE", help="one run, as JSON")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(run_one(options.one, options.batches)))
        return
    small = thumbnails(read_photos(options.images, options.photos), distinct=256, longest=LONGEST)
    with database(small, 64 * BATCH) as path:
        samples = child("benchmarks.memory", "--one", path, "--batches", options.batches)
    report(options, {"fastloader": samples}, lines(samples))


if __name__ == "__main__":
    main()

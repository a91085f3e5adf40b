"""The cost of a batch in the training process: CPU microseconds per image, over all its threads.

Each way out of the loader is compared with its floor: the same TensorFlow pipeline around a Python
generator that sleeps for as long as the loader took for a batch, and then yields the same arrays
again and again, aligned as TensorFlow wants them. The difference to the floor is fastloader's own
cost. It includes the effect of decoding on the same cores, which are idle for the floor: a colder
cache and more switching between threads.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contestants import Batches
from .measure import (
    BATCH,
    SIZE,
    Sample,
    Spread,
    child,
    cores,
    paired,
    parser,
    report,
    spread,
    table,
)
from .photos import database, read_photos

ALIGNMENT = 64
SKIP = 16
"""The batches to leave out at both ends of the epoch, where the pipeline fills and empties."""

WAYS = ("numpy", "from_generator", "as_dataset")

Batch = tuple[NDArray[np.uint8], NDArray[np.int64]]


# ---- fastloader ----------------------------------------------------------------------------------


def ours(way: str, loader: Any) -> Batches:
    if way == "numpy":
        batches = loader
    elif way == "from_generator":
        import tensorflow as tf

        signature = loader.output_signature
        batches = tf.data.Dataset.from_generator(loader, output_signature=signature)
    else:
        batches = loader.as_dataset()
    return batches


# ---- the floors ----------------------------------------------------------------------------------


def floor(way: str, count: int, interval_s: float) -> Batches:
    """Return as many batches from memory, at the same pace and through the same pipeline."""
    if way == "numpy":
        return _paced(count, interval_s)
    import tensorflow as tf

    signature = (tf.TensorSpec((None, *SIZE, 3), tf.uint8), tf.TensorSpec((None,), tf.int64))
    if way == "from_generator":
        generator = functools.partial(_paced, count, interval_s)
        return tf.data.Dataset.from_generator(generator, output_signature=signature)
    feeders = cores()

    def batches(feeder: Any) -> Iterator[Batch]:
        return _paced(len(range(int(feeder), count, feeders)), interval_s * feeders)

    def dataset_of(feeder: Any) -> Any:
        return tf.data.Dataset.from_generator(batches, output_signature=signature, args=(feeder,))

    dataset = tf.data.Dataset.range(feeders).interleave(
        dataset_of, cycle_length=feeders, num_parallel_calls=feeders, deterministic=True
    )
    return dataset.prefetch(2)


def _paced(count: int, interval_s: float) -> Iterator[Batch]:
    batch = (_aligned((BATCH, *SIZE, 3), np.uint8), _aligned((BATCH,), np.int64))
    for _ in range(count):
        time.sleep(interval_s)
        yield batch


def _aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    aligned: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return aligned


# ---- one run, in a process of its own ------------------------------------------------------------


def measure(batches: Batches, count: int) -> Sample:
    """Measure CPU time and wall time between two batches, away from the epoch's ends."""
    cpu, wall = [0.0, 0.0], [0.0, 0.0]
    marks = {SKIP: 0, count - SKIP: 1}
    for number, _batch in enumerate(batches):
        if number in marks:
            mark = marks[number]
            cpu[mark], wall[mark] = time.process_time(), time.perf_counter()
    between = count - 2 * SKIP
    return {
        "us_per_image": (cpu[1] - cpu[0]) / between / BATCH * 1e6,
        "interval_s": (wall[1] - wall[0]) / between,
    }


def run_one(what: str, way: str, path: str, interval_s: float) -> Sample:
    from fastloader import FastLoader

    with FastLoader(path, batch_size=BATCH, size=SIZE, workers=cores()) as loader:
        count = len(loader)
        if what == "ours":
            return measure(ours(way, loader), count)
    return measure(floor(way, count, interval_s), count)


def run_pair(way: str, path: str) -> Sample:
    """Measure fastloader, and right after it the floor at the same pace."""
    found = child("benchmarks.handover", "--one", "ours", way, path, 0)
    at_our_pace = child("benchmarks.handover", "--one", "floor", way, path, found["interval_s"])
    return {
        "ours": found["us_per_image"],
        "floor": at_our_pace["us_per_image"],
        "ours_interval_s": found["interval_s"],
        "floor_interval_s": at_our_pace["interval_s"],
    }


# ---- all of them ---------------------------------------------------------------------------------


def lines(samples: dict[str, list[Sample]]) -> list[str]:
    rows = [
        [
            way,
            f"{spread(found, 'ours'):.1f}",
            f"{spread(found, 'floor'):.1f}",
            f"{Spread.of(sample['ours'] - sample['floor'] for sample in found):.1f}",
            f"{spread(found, 'ours_interval_s').median * 1000:.1f}",
            f"{spread(found, 'floor_interval_s').median * 1000:.1f}",
        ]
        for way, found in samples.items()
    ]
    headers = ["CPU us per image", "fastloader", "floor", "difference"]
    return [table([*headers, "ms between batches", "floor's"], rows)]


def main() -> None:
    arguments = parser("handover", __doc__, rounds=5)
    arguments.add_argument(
        "--copies", type=int, default=8, metavar="N", help="rows for each photo (8)"
    )
    arguments.add_argument(
        "--one", nargs=4, metavar=("WHAT", "WAY", "DATABASE", "SECONDS"), help="one run, as JSON"
    )
    options = arguments.parse_args()
    if options.one:
        what, way, path, interval = options.one
        print(json.dumps(run_one(what, way, path, float(interval))))
        return
    photos = read_photos(options.images, options.photos)
    if len(photos) * options.copies < 4 * SKIP * BATCH:
        raise SystemExit(f"this needs at least {4 * SKIP * BATCH} rows: raise --copies")
    with database(photos, len(photos) * options.copies) as path:
        samples = paired(WAYS, options.rounds, run=lambda way: run_pair(way, path))
    report(options, samples, lines(samples))


if __name__ == "__main__":
    main()

"""A function of the user on each row: fastloader against loaders that run the same one.

* ``augment``: photographs from SQLite to a loop, with albumentations on each image: a horizontal
  flip, brightness and contrast, coarse dropout. All have two workers, or as many threads, and
  decode as in the case ``peers``.
* ``overhead``: rows of one number, without a function and with an empty one for each row or batch,
  in one worker. A function's cost is the CPU time of the worker, less that without one.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .contestants import run
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
from .peers import Rows, grain, torch_dataloader
from .photos import SELECT, database, read_photos

US = "fastloader"
PARTS = ("augment", "overhead")
ROWS = 200_000


# ---- albumentations ------------------------------------------------------------------------------


def pipeline() -> Any:
    import albumentations
    import cv2

    cv2.setNumThreads(0)  # there is a worker for each core
    return albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=0.5),
            albumentations.RandomBrightnessContrast(p=0.5),
            albumentations.CoarseDropout(p=0.5),
        ]
    )


class Augment:
    """The pipeline, made where it is first used, with seeds that depend on the row."""

    augment: Any = None

    def __call__(self, row: dict[str, Any], rng: np.random.Generator) -> None:
        if self.augment is None:
            self.augment = pipeline()
        self.augment.set_random_state(rng, random.Random(int(rng.integers(2**32))))
        row["image_data"] = self.augment(image=row["image_data"])["image"]


class Augmented(Rows):
    """The rows of the other loaders, decoded and augmented."""

    augment: Any = None

    def __getitem__(self, i: int) -> tuple[NDArray[np.uint8], int]:
        if self.augment is None:
            self.augment = pipeline()
        image, label = super().__getitem__(i)
        return self.augment(image=image)["image"], label

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "augment": None}


def fastloader(path: str) -> Any:
    from fastloader import FastLoader

    return FastLoader(path, size=SIZE, batch_size=BATCH, workers=cores(), transform=Augment())


def tf_data(path: str) -> Any:
    """TensorFlow reads, decodes and resizes, and calls the function under the GIL."""
    import tensorflow as tf

    augment = pipeline()

    def in_python(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = augment(image=image)["image"]
        return found

    def change(blob: Any, label: Any) -> tuple[Any, Any]:
        image = tf.image.resize(tf.io.decode_jpeg(blob, channels=3), SIZE)
        (image,) = tf.numpy_function(in_python, [tf.cast(image, tf.uint8)], [tf.uint8])
        return tf.ensure_shape(image, (*SIZE, 3)), label

    dataset = tf.data.experimental.SqlDataset("sqlite", path, SELECT, (tf.string, tf.int64))
    dataset = dataset.map(change, num_parallel_calls=cores())
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)


CONTESTANTS: dict[str, Callable[[str], Any]] = {
    US: fastloader,
    "torch-dataloader": partial(torch_dataloader, rows=Augmented),
    "grain": partial(grain, rows=Augmented),
    "tf.data": tf_data,
}


# ---- empty functions -----------------------------------------------------------------------------


def on_row(_row: dict[str, Any], _rng: np.random.Generator) -> None:
    """Do nothing with a row."""


def on_batch(_batch: dict[str, Any], _rng: np.random.Generator) -> None:
    """Do nothing with a batch."""


def overhead(name: str, path: str) -> Sample:
    """Return the CPU time of the worker for a row, in one epoch after another one."""
    from fastloader import FastLoader, Number, per_batch, per_row

    steps = {"none": (), "row": per_row(on_row), "batch": per_batch(on_batch)}
    with FastLoader(
        path, fields={"a": Number()}, workers=1, batch_size=BATCH, transform=steps[name]
    ) as loader:
        for _ in loader:
            pass
        before = loader.stats()
        for _ in loader:
            pass
        after = loader.stats()
    return {
        "us_per_row": (after.cpu_s - before.cpu_s) / ROWS * 1e6,
        "transform_us_per_row": (after.transform_s - before.transform_s) / ROWS * 1e6,
    }


# ---- both ----------------------------------------------------------------------------------------


def augment(options: argparse.Namespace) -> tuple[dict[str, list[Sample]], list[str]]:
    photos = read_photos(options.images, options.photos)
    with database(photos, len(photos) * options.copies) as path:
        samples = paired(
            chosen(CONTESTANTS, options.only),
            options.rounds,
            run=lambda name: child("benchmarks.transforms", "--one", name, path),
        )
    rows = [
        [
            name,
            f"{spread(found, 'images_per_s'):.0f}",
            f"{ratio(samples[US], found, 'images_per_s'):.2f}" if US in samples else "",
            f"{spread(found, 'cpu_ms_per_image'):.2f}",
        ]
        for name, found in samples.items()
    ]
    headers = ["albumentations", "images/s", "fastloader is x times that", "CPU ms per image"]
    return samples, [table(headers, rows), ""]


def empty(options: argparse.Namespace) -> tuple[dict[str, list[Sample]], list[str]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "numbers.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, a REAL)")
            rows = ((i, float(i)) for i in range(ROWS))
            connection.executemany("INSERT INTO images VALUES (?, ?)", rows)
        connection.close()
        samples = paired(
            ("none", "row", "batch"),
            options.rounds,
            run=lambda name: child("benchmarks.transforms", "--one", name, path),
        )
    lines = [
        [
            name,
            f"{spread(found, 'us_per_row'):.2f}",
            f"{spread(found, 'transform_us_per_row'):.2f}",
        ]
        for name, found in samples.items()
    ]
    headers = ["an empty function of", "CPU us per row", "us per row in the stage transform"]
    return samples, [table(headers, lines), ""]


def main() -> None:
    arguments = parser("transforms", __doc__, rounds=3)
    arguments.add_argument(
        "--copies", type=int, default=1, metavar="N", help="rows for each photo (1)"
    )
    arguments.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="(both)")
    arguments.add_argument("--one", nargs=2, metavar=("NAME", "PATH"), help="one run, as JSON")
    options = arguments.parse_args()
    if options.one:
        name, path = options.one
        if name in CONTESTANTS:
            print_sample(lambda: run(CONTESTANTS[name](path), 1))
        else:
            print_sample(lambda: overhead(name, path))
        return
    samples: dict[str, list[Sample]] = {}
    lines: list[str] = []
    for part in options.part:
        found, its_lines = (augment if part == "augment" else empty)(options)
        samples |= found
        lines += its_lines
    report(options, samples, lines)


if __name__ == "__main__":
    main()

"""The contestants: ways from a table of JPEGs to batches in a training loop.

Each is a function of a SQLite file's path or a PostgreSQL server's URL. ``python -m
benchmarks.contestants NAME DATABASE`` runs one of them: an epoch to warm up, then the epochs that
are measured, in a plain loop. It prints one line of JSON.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import pillows
from .measure import BATCH, SIZE, Sample, cores, cpu_seconds, print_sample
from .peers import PEERS
from .photos import SELECT, Photo, rows_of
from .pixels import opencv_pixels, pillow_pixels

Batches = Any
"""An iterable of (images, labels) that can be iterated again for the next epoch."""


# ---- fastloader ----------------------------------------------------------------------------------


def fastloader(path: str) -> Batches:
    """Use fastloader as its documentation says."""
    return _loader(path).as_dataset()


def fastloader_from_generator(path: str) -> Batches:
    """Use fastloader in place of an existing generator."""
    import tensorflow as tf

    loader = _loader(path)
    dataset = tf.data.Dataset.from_generator(loader, output_signature=loader.output_signature)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _loader(path: str) -> Any:
    from fastloader import FastLoader

    loader = FastLoader(path, batch_size=BATCH, size=SIZE, workers=cores())
    atexit.register(loader.close)  # the process ends with the measurement
    return loader


# ---- Python decodes ------------------------------------------------------------------------------


def pillow_batch(path: str) -> Batches:
    """Follow the usual advice: a generator of whole batches, and a prefetch behind it."""
    import tensorflow as tf

    def batches() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        rows = rows_of(path)
        while batch := list(itertools.islice(rows, BATCH)):
            blobs, labels = zip(*batch, strict=True)
            yield np.stack([pillow_pixels(blob) for blob in blobs]), np.array(labels, np.int64)

    signature = (
        tf.TensorSpec((None, *SIZE, 3), tf.uint8),
        tf.TensorSpec((None,), tf.int64),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.prefetch(tf.data.AUTOTUNE)


def pillow_element(path: str) -> Batches:
    """Generate single images, which TensorFlow puts into batches."""
    import tensorflow as tf

    def elements() -> Iterator[tuple[NDArray[np.uint8], int]]:
        return ((pillow_pixels(blob), label) for blob, label in rows_of(path))

    signature = (tf.TensorSpec((*SIZE, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    dataset = tf.data.Dataset.from_generator(elements, output_signature=signature)
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)


# ---- by hand -------------------------------------------------------------------------------------


def by_hand(path: str) -> Batches:
    """Combine the fastest parts: psycopg 3's binary server-side cursor, threads, and OpenCV.

    The cursor is a batch ahead of the decoding. OpenCV's functions release the GIL, and do not
    antialias.
    """
    import cv2
    import tensorflow as tf

    cv2.setNumThreads(0)  # the pool's threads are enough

    def fill(blobs: list[bytes], pixels: NDArray[np.uint8]) -> None:
        for blob, target in zip(blobs, pixels, strict=True):
            opencv_pixels(blob, target)

    def batches() -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        import psycopg

        workers = cores()
        with (
            psycopg.connect(path) as connection,
            connection.cursor("rows", binary=True) as cursor,
            ThreadPoolExecutor(workers) as pool,
            ThreadPoolExecutor(1) as reader,
        ):
            cursor.execute(SELECT)
            ahead = reader.submit(cursor.fetchmany, BATCH)
            while batch := ahead.result():
                ahead = reader.submit(cursor.fetchmany, BATCH)
                blobs, labels = zip(*batch, strict=True)
                pixels = np.empty((len(blobs), *SIZE, 3), np.uint8)
                parts = [slice(i, None, workers) for i in range(workers)]
                list(pool.map(fill, (blobs[p] for p in parts), (pixels[p] for p in parts)))
                yield pixels, np.array(labels, np.int64)

    signature = (
        tf.TensorSpec((None, *SIZE, 3), tf.uint8),
        tf.TensorSpec((None,), tf.int64),
    )
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    return dataset.prefetch(tf.data.AUTOTUNE)


# ---- TensorFlow decodes --------------------------------------------------------------------------


def tf_map(path: str) -> Batches:
    """Generate blobs, which TensorFlow decodes on all cores."""
    return _decoded(_generated_blobs(path), antialias=False)


def tf_map_antialias(path: str) -> Batches:
    """Do the same with antialiasing, which Pillow and fastloader always do."""
    return _decoded(_generated_blobs(path), antialias=True)


def sqldataset(path: str) -> Batches:
    """Let TensorFlow read the table too: its fastest way, for SQLite only."""
    import tensorflow as tf

    types = (tf.string, tf.int64)
    return _decoded(tf.data.experimental.SqlDataset("sqlite", path, SELECT, types), antialias=False)


def _generated_blobs(path: str) -> Any:
    import tensorflow as tf

    def elements() -> Iterator[Photo]:
        return rows_of(path)

    signature = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64))
    return tf.data.Dataset.from_generator(elements, output_signature=signature)


def _decoded(dataset: Any, *, antialias: bool) -> Batches:
    import tensorflow as tf

    def decode(blob: Any, label: Any) -> tuple[Any, Any]:
        image = tf.image.resize(tf.io.decode_jpeg(blob, channels=3), SIZE, antialias=antialias)
        return tf.cast(image, tf.uint8), label

    # Not AUTOTUNE: it starts with one call at a time, and takes seconds to use more, or never does.
    dataset = dataset.map(decode, num_parallel_calls=cores())
    return dataset.batch(BATCH).prefetch(tf.data.AUTOTUNE)


CONTESTANTS: dict[str, Callable[[str], Batches]] = {
    "fastloader": fastloader,
    "fastloader-from_generator": fastloader_from_generator,
    "pillow-batch": pillow_batch,
    "pillow-element": pillow_element,
    "tf-map": tf_map,
    "tf-map-antialias": tf_map_antialias,
    "sqldataset": sqldataset,
    "by-hand": by_hand,
    **PEERS,
}

NAMES = (*CONTESTANTS, "bare")
"""``bare`` is not a loader, but a process for each core that only decodes (``bare.py``)."""


# ---- running one ---------------------------------------------------------------------------------


@dataclass
class Clock:
    """The cost of the measured epochs, without the time between them."""

    rows: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    training_cpu_s: float = 0.0
    teardown_s: float = 0.0

    def epoch(self, batches: Batches) -> None:
        """Pull an epoch. The clock runs from making the iterator to its end.

        It stops before the iterator is deleted. At that point TensorFlow 2.21 wakes the thread of
        its autotuner a moment too early; the thread goes back to sleep for up to the duration of
        the epoch (60 s at most), and TensorFlow waits for it. That happens to every pipeline,
        though not every time.
        """
        cpu, own, start = cpu_seconds(), time.process_time(), time.perf_counter()
        iterator = iter(batches)
        for images, _labels in iterator:
            self.rows += images.shape[0]
        end = time.perf_counter()
        self.seconds += end - start
        self.training_cpu_s += time.process_time() - own
        self.cpu_s += cpu_seconds() - cpu
        end = time.perf_counter()
        del iterator
        self.teardown_s += time.perf_counter() - end


def run(batches: Batches, epochs: int) -> Sample:
    """Pull ``1 + epochs`` epochs, and measure all but the first."""
    warm_up, clock = Clock(), Clock()
    warm_up.epoch(batches)
    for _ in range(epochs):
        clock.epoch(batches)
    if clock.rows != warm_up.rows * epochs:
        raise SystemExit(f"{warm_up.rows} rows in one epoch, {clock.rows} in the next {epochs}")
    return _sample(clock)


def run_bare(path: str, epochs: int) -> Sample:
    """Measure decoding alone: blobs are in memory before the clock starts, pixels are discarded."""
    from . import bare

    blobs = [bytes(blob) for blob, _ in rows_of(path)]
    found = bare.on_all_cores(blobs, cores(), epochs=epochs)
    return _sample(Clock(len(blobs) * epochs, found["seconds"], found["cpu_s"]))


def _sample(clock: Clock) -> Sample:
    """Return the rates. CPU seconds per 1000 images are CPU milliseconds per image."""
    return {
        **asdict(clock),
        "images_per_s": clock.rows / clock.seconds,
        "cpu_ms_per_image": clock.cpu_s / clock.rows * 1000,
        "training_cpu_ms_per_image": clock.training_cpu_s / clock.rows * 1000,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.contestants", description="Runs one contestant once."
    )
    arguments.add_argument("name", choices=NAMES)
    arguments.add_argument(
        "database", help="SQLite file or PostgreSQL URL with images(id, image_data, label)"
    )
    arguments.add_argument("--epochs", type=int, default=1, help="measured epochs (1)")
    options = arguments.parse_args()
    with contextlib.suppress(ImportError):  # without pillow-simd, use the installed Pillow
        pillows.use("pillow-simd")
    if options.name == "bare":
        print_sample(lambda: run_bare(options.database, options.epochs))
    else:
        make = CONTESTANTS[options.name]
        print_sample(lambda: run(make(options.database), options.epochs))


if __name__ == "__main__":
    main()

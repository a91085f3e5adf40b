"""Trains a small model twice, from a plain Python generator and from fastloader, and compares both.

Run as ``python -m benchmarks.demo`` or ``make demo``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import os
import random
import sqlite3
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what is written to descriptor 2: TensorFlow logs there before it sets its level."""
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


try:
    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from fastloader import FastLoader, FastloaderError
    from fastloader.cli.sheet import contact_sheet
    from tests.servers import cluster
    from tests.servers.endings import ending_cleanly

    from . import photos, training_images

    with _silent_stderr():
        import tensorflow as tf
except ImportError as missing:
    sys.exit(f"demo: {missing}; run: pip install 'fastloader[demo]'")

SIZE = (224, 224)
SEED = 0

SCRIPT = '''"""Train a small network on the images of the demo."""

import keras

from fastloader import FastLoader

URL = "{path}"  # or "postgresql://user@host/database"
CLASSES = {classes}
ROWS = "SELECT id, image_data, label FROM images WHERE id % 10"

options = {{"size": (96, 96), "batch_size": 32}}
train = FastLoader(URL, query=f"{{ROWS}} > 0", shuffle=True, flip=True, **options)
validation = FastLoader(URL, query=f"{{ROWS}} = 0", **options)
model = keras.Sequential(
    [
        keras.layers.Input((96, 96, 3)),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
        keras.layers.Conv2D(32, 3, strides=2, activation="relu"),
        keras.layers.Conv2D(64, 3, strides=2, activation="relu"),
        keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(len(CLASSES), activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train.as_dataset(), validation_data=validation.as_dataset(), epochs=3)

images, labels = validation.peek()
for answer, label in list(zip(model.predict(images).argmax(1), labels))[:5]:
    print(f"a {{CLASSES[label]}} looks like a {{CLASSES[answer]}}")
'''
"""What ``make demo`` leaves behind to begin a script of one's own with."""

WARM_UP = 10
"""The first steps, which are not measured: the first batches are still on their way."""

LEAST_STEPS = 60
"""The fewest steps. The generator gets a third, of which ten are measured."""

DATABASES = ("sqlite", "postgres")

LOSS_STEPS = 10
"""The report shows the mean loss of so many steps."""


def main() -> None:
    options = _options()
    if options.db not in DATABASES:  # argparse does not check a default
        sys.exit(f"demo: DB={options.db} is not supported; use sqlite or postgres")
    sys.stdout.reconfigure(line_buffering=True)  # print each line at once, into a pipe too
    try:
        with ending_cleanly():
            _demo(options)
    except (
        training_images.ImagesError,
        cluster.ClusterError,
        FastloaderError,
        sqlite3.Error,
        OSError,
    ) as error:
        sys.exit(f"demo: {error}")
    except tf.errors.OpError as error:
        # The message is "{{function_node ...}} ErrorOfTheGenerator: words", then a traceback.
        sys.exit(f"demo: {error.message.splitlines()[0].rpartition('}} ')[2]}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=__doc__)
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        default=os.environ.get("IMAGES") or None,
        help="folder of JPEGs, in a subfolder for each label or with a labels.csv (columns file, "
        "label); default: the variable IMAGES, or else images that the demo draws",
    )
    parser.add_argument(
        "--db",
        choices=DATABASES,
        default=os.environ.get("DB") or "sqlite",
        help="the database; default: the variable DB, or else sqlite",
    )
    parser.add_argument(
        "--steps", type=_at_least(LEAST_STEPS), default=300, help="training steps (300)"
    )
    parser.add_argument(
        "--rows", type=_at_least(1), default=3200, help="rows of the table; images repeat (3200)"
    )
    parser.add_argument("--batch-size", type=_at_least(1), default=64, help="rows of a batch (64)")
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="output folder (demo)")
    return parser.parse_args()


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}")
        return int(text)

    return number


def _demo(options: argparse.Namespace) -> None:
    path, labels = _prepare(options)
    with _database(path, options) as url:
        _write_sheet(url, labels, options)
        steps = options.steps // 3
        print(f"Training from a Python generator: {steps} steps, a third, because it is slow")
        generator = _train(_python_dataset(url, options.batch_size), len(labels), steps=steps)
        print(f"Training from fastloader: {options.steps} steps")
        with _loader(url, options) as loader:
            dataset = loader.as_dataset().repeat()
            fast = _train(dataset, len(labels), steps=options.steps)
    print("\n" + _report(generator, fast))
    script = options.folder / "train.py"
    script.write_text(SCRIPT.format(path=str(path.resolve()), classes=labels))
    print(
        f"{script}: a script to begin yours with, for the {len(labels)} classes of this table. "
        f"Run it in the environment of the demo: {os.path.relpath(sys.executable)} {script}"
    )


def _loader(url: str, options: argparse.Namespace) -> FastLoader:
    return FastLoader(url, size=SIZE, batch_size=options.batch_size)


# ---- the table and the sheet ---------------------------------------------------------------------


def _prepare(options: argparse.Namespace) -> tuple[Path, list[str]]:
    """Return the SQLite file and the names of the labels.

    The file is written unless it exists with the same images.
    """
    found = training_images.find_images(options.images) if options.images else []
    labels = sorted({name for _, name in found}) or list(training_images.CLASSES)
    # The images depend on their files, or on the code that draws them.
    inputs: list[Any] = [(str(p), p.stat().st_mtime_ns, p.stat().st_size, n) for p, n in found]
    code = Path(training_images.__file__).read_bytes()
    version = zlib.crc32(repr((options.rows, inputs)).encode() + code) & 0x7FFFFFFF or 1

    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "pictures.sqlite"
    old = training_images.table_version(path)
    if old == 0:
        raise training_images.ImagesError(
            f"{path} was not written by the demo; pass another --folder"
        )
    if old != version:
        random.Random(SEED).shuffle(found)
        index = {name: label for label, name in enumerate(labels)}
        rows = (
            training_images.read_images([(p, index[n]) for p, n in found], options.rows)
            if found
            else training_images.make_images(options.rows, SEED)
        )
        training_images.write_table(path, rows, total=options.rows, version=version)
    source = f"{len(found)} images of {options.images}" if found else "drawn images"
    done = "exists already" if old == version else "written"
    size = path.stat().st_size / 1e6
    print(f"{path}: {done}; {options.rows} rows, {size:.0f} MB, {source}")
    return path, labels


@contextlib.contextmanager
def _database(path: Path, options: argparse.Namespace) -> Iterator[str]:
    """Yield the URL to read from: the SQLite file, or a temporary PostgreSQL server with a copy."""
    if options.db == "sqlite":
        yield str(path)
        return
    with cluster.cluster() as server, contextlib.closing(sqlite3.connect(path)) as original:
        rows = original.execute(photos.SELECT)
        bar = tqdm(rows, "Copying", options.rows, unit=" rows", disable=None, leave=False)
        with contextlib.closing(server.connect()) as connection:
            photos.write_postgres(connection, bar)
        print(f"{server.url()}: a temporary PostgreSQL {server.version} with the same table")
        yield server.url()


def _write_sheet(url: str, labels: list[str], options: argparse.Namespace) -> None:
    sheet = options.folder / "contact-sheet.png"
    with _loader(url, options) as loader:
        images, numbers = next(iter(loader))
    contact_sheet(images, [labels[number] for number in numbers], sheet)
    print(f"{sheet}: the first batch, as fastloader delivers it")


def _python_dataset(url: str, batch_size: int) -> tf.data.Dataset:
    """Return the dataset that one writes without fastloader.

    It uses sqlite3 or a named cursor of psycopg2, Pillow, and from_generator.
    """

    def batches() -> Iterator[tuple[Any, Any]]:
        while True:
            cursor = photos.rows_of(url)
            while rows := list(itertools.islice(cursor, batch_size)):
                images = np.stack([decode(jpeg) for jpeg, _ in rows])
                yield images, np.array([label for _, label in rows])

    def decode(jpeg: bytes) -> Any:
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        return np.asarray(image.resize(SIZE[::-1], Image.Resampling.BILINEAR))

    dataset = tf.data.Dataset.from_generator(batches, output_signature=_signature())
    return dataset.prefetch(tf.data.AUTOTUNE)


def _signature() -> tuple[tf.TensorSpec, tf.TensorSpec]:
    return tf.TensorSpec((None, *SIZE, 3), tf.uint8), tf.TensorSpec((None,), tf.int64)


# ---- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """The result of a training run.

    Attributes
    ----------
    images
        The number of images in the measured part.
    seconds, waited_s
        The duration of the measured part, and the share of it spent in next(iterator).
    cpu_s
        The CPU time of the measured part on all cores, workers included.
    losses, accuracies
        The values of every step.
    """

    images: int
    seconds: float
    waited_s: float
    cpu_s: float
    losses: list[float]
    accuracies: list[float]


def _train(dataset: tf.data.Dataset, classes: int, *, steps: int) -> Run:
    step = _make_step(classes)
    iterator = iter(dataset)
    results = []
    for i in tqdm(range(steps), "Training", unit=" steps", disable=None, leave=False):
        if i == WARM_UP:
            images, waited_s, start, cpu_start = 0, 0.0, time.perf_counter(), _cpu_seconds()
        before = time.perf_counter()
        batch, labels = next(iterator)
        if i >= WARM_UP:
            waited_s += time.perf_counter() - before
            images += len(labels)
        results.append(step(batch, labels))
    losses, accuracies = np.array(results).T.tolist()  # on a GPU, this waits for the last step
    seconds, cpu_s = time.perf_counter() - start, _cpu_seconds() - cpu_start
    return Run(images, seconds, waited_s, cpu_s, losses, accuracies)


def _make_step(classes: int) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return a compiled and warm training step of a new model, which is the same each time."""
    tf.keras.utils.set_random_seed(SEED)
    layers = tf.keras.layers
    model = tf.keras.Sequential([
        layers.Input((*SIZE, 3)),
        layers.Rescaling(1 / 127.5, -1),
        layers.AveragePooling2D(8),  # so small that the loader is the bottleneck even on two cores
        layers.Conv2D(16, 3, strides=2, activation="relu"),
        layers.Conv2D(32, 3, strides=2, activation="relu"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(classes),
    ])  # fmt: skip
    optimizer = tf.keras.optimizers.Adam(0.003)
    optimizer.build(model.trainable_variables)

    @tf.function(input_signature=_signature())
    def step(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        hits = tf.equal(tf.argmax(logits, -1), labels)
        return loss, tf.reduce_mean(tf.cast(hits, tf.float32))

    # Compile now: it takes a second, in which a loader would fill its buffers and look too fast.
    variables = [*model.trainable_variables, *optimizer.variables]
    initial = [variable.numpy() for variable in variables]
    step(tf.zeros((1, *SIZE, 3), tf.uint8), tf.zeros(1, tf.int64))
    for variable, value in zip(variables, initial, strict=True):
        variable.assign(value)
    return step


def _cpu_seconds() -> float:
    """Return the CPU time of this process and its living children. Only differences count.

    The children that exist now have already been busy.
    """
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                ticks += int(fields[11]) + int(fields[12])  # user and system time
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


# ---- the result ----------------------------------------------------------------------------------


def _report(generator: Run, fast: Run) -> str:
    runs = (generator, fast)
    speed, slow_speed = fast.images / fast.seconds, generator.images / generator.seconds
    rows = [
        ("", "Python generator", "fastloader", ""),
        ("images per second", f"{slow_speed:.0f}", f"{speed:.0f}", f"{speed / slow_speed:.1f} x"),
        ("time waiting for data", *(f"{run.waited_s / run.seconds:.0%}" for run in runs), ""),
        ("CPU s per 1000 images", *(f"{run.cpu_s / run.images * 1000:.2f}" for run in runs), ""),
    ]
    for steps in (len(generator.losses), len(fast.losses)):
        results = (_learnt(run, steps) for run in runs)
        rows.append((f"loss, accuracy at step {steps}", *results, ""))
    return "\n".join(f"{a:30}{b:>18}{c:>18}{d:>8}".rstrip() for a, b, c, d in rows)


def _learnt(run: Run, steps: int) -> str:
    if len(run.losses) < steps:
        return "-"
    last = slice(steps - LOSS_STEPS, steps)
    return f"{np.mean(run.losses[last]):.3f}, {np.mean(run.accuracies[last]):.0%}"


if __name__ == "__main__":
    main()

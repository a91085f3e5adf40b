"""Smaller images: how fast ``fastloader shrink`` makes them, and what an epoch of them gains.

* ``shrink``: all photographs into a table of the same database, against the script that most people
  write: Pillow in a process pool, rows written as they come. Both decode exactly and use a Lanczos
  filter, a short side of 256, quality 90 and optimal Huffman tables. The time is that of the whole
  program, with its start.
* ``epochs``: an epoch from the originals and from the shrunk table, in a plain loop.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from .measure import (
    BATCH,
    SIZE,
    Sample,
    child,
    chosen,
    cores,
    cpu_seconds,
    paired,
    parser,
    print_sample,
    ratio,
    report,
    spread,
    table,
)
from .photos import POSTGRES, database, read_photos, rows_of

KINDS = ("sqlite", "postgres")
PARTS = ("shrink", "epochs")
US, SCRIPT = "fastloader shrink", "Pillow in a process pool"
SIDE, QUALITY = 256, 90
SECONDS = 2.0
SMALL = f"images_{SIDE}"

VIEWS: dict[str, dict[str, Any]] = {
    "random resized crop, flip": {"fit": "random_crop", "flip": True},
    "center crop": {"fit": "crop"},
}


# ---- making them ---------------------------------------------------------------------------------


def shrunk(row: tuple[Any, int]) -> tuple[bytes, int]:
    """Shrink one image as the script does."""
    from PIL import Image, ImageOps

    blob, label = row
    with Image.open(io.BytesIO(blob)) as opened:
        image = ImageOps.exif_transpose(opened).convert("RGB")
    short = min(image.size)
    if short > SIDE:
        size = (round(image.width * SIDE / short), round(image.height * SIDE / short))
        image = image.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, optimize=True)
    return out.getvalue(), label


def script(url: str) -> None:
    """Fill the small table with a process pool."""
    rows = ((bytes(blob), label) for blob, label in rows_of(url))
    with multiprocessing.Pool(cores()) as pool:
        made = pool.imap(shrunk, rows, chunksize=16)
        if url.startswith(POSTGRES):
            import psycopg2
            from psycopg2.extras import execute_values

            with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as it:
                it.execute(
                    f"CREATE TABLE {SMALL} (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                    f"image_data bytea, label int8)"
                )
                execute_values(
                    it, f"INSERT INTO {SMALL}(image_data, label) VALUES %s", made, page_size=50
                )
                connection.commit()
            return
        # In another file, because the open cursor would lock a writer out of this one.
        with contextlib.closing(sqlite3.connect(f"{url}.small")) as connection, connection:
            connection.execute(f"DROP TABLE IF EXISTS {SMALL}")
            connection.execute(f"CREATE TABLE {SMALL} (id INTEGER PRIMARY KEY, image_data, label)")
            connection.executemany(f"INSERT INTO {SMALL}(image_data, label) VALUES (?, ?)", made)


def make(name: str, url: str, rows: int) -> Sample:
    """Return the rate of one program, and drop what it has made."""
    command = [sys.executable, "-m", "fastloader", "shrink", url]
    if name == SCRIPT:
        command = [sys.executable, "-m", "benchmarks.shrink", "--script", url]
    _drop(url)
    cpu, start = cpu_seconds(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return {
        "images_per_s": rows / seconds,
        "cpu_ms_per_image": (cpu_seconds() - cpu) / rows * 1000,
    }


def _drop(url: str) -> None:
    sql = f"DROP TABLE IF EXISTS {SMALL}"
    if url.startswith(POSTGRES):
        import psycopg2

        with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(sql)
        return
    with contextlib.closing(sqlite3.connect(url)) as connection:
        connection.execute(sql)


# ---- reading them --------------------------------------------------------------------------------


def epoch(table_name: str, view: str, url: str) -> Sample:
    """Return the rate of the epochs after the first one that begin within 2 s, with all cores."""
    from fastloader import FastLoader

    options = {"batch_size": BATCH, "size": SIZE, "workers": cores(), "shuffle": True}
    with FastLoader(url, table=table_name, **options, **VIEWS[view]) as loader:
        for _ in loader:
            pass
        cpu, start, rows = cpu_seconds(), time.perf_counter(), 0
        while time.perf_counter() - start < SECONDS:
            for _images, labels in loader:
                rows += len(labels)
        seconds, cpu_s = time.perf_counter() - start, cpu_seconds() - cpu
    return {"images_per_s": rows / seconds, "cpu_ms_per_image": cpu_s / rows * 1000}


# ---- all of them ---------------------------------------------------------------------------------


def lines_of(title: str, samples: dict[str, list[Sample]], base: str) -> Iterator[str]:
    yield table(
        [title, "images/s", "CPU ms per image", f"x {base}"],
        [
            [
                name,
                f"{spread(found, 'images_per_s'):.0f}",
                f"{spread(found, 'cpu_ms_per_image'):.2f}",
                f"{ratio(found, samples[base], 'images_per_s'):.2f}" if base in samples else "",
            ]
            for name, found in samples.items()
        ],
    )
    yield ""


def measure(options: argparse.Namespace, kind: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the title, the samples and the base of each comparison."""
    photos = read_photos(options.images, options.photos)
    with database(photos, options.copies * len(photos), kind=kind) as url:
        if "shrink" in options.part:
            rows = str(options.copies * len(photos))
            found = paired(
                chosen((US, SCRIPT), options.only),
                options.rounds,
                run=lambda name: child("benchmarks.shrink", "--one", "make", name, url, rows),
            )
            yield f"{kind}: shrink", found, SCRIPT
        if "epochs" in options.part:
            _drop(url)
            subprocess.run(
                [sys.executable, "-m", "fastloader", "shrink", url], check=True,
                stdout=subprocess.DEVNULL,
            )  # fmt: skip
            for view in VIEWS:
                found = paired(
                    ("images", SMALL),
                    options.rounds,
                    run=lambda name, view=view: child(  # type: ignore[misc]
                        "benchmarks.shrink", "--one", "epoch", name, view, url
                    ),
                )
                yield f"{kind}: {view}", found, "images"


def main() -> None:
    arguments = parser("shrink", __doc__, rounds=5)
    arguments.add_argument(
        "--copies", type=int, default=1, metavar="N", help="rows for each photo (1)"
    )
    arguments.add_argument("--part", nargs="+", choices=PARTS, default=PARTS, help="(both)")
    arguments.add_argument("--db", nargs="+", choices=KINDS, default=KINDS, help="(both)")
    arguments.add_argument("--script", metavar="URL", help="run the script alone")
    arguments.add_argument("--one", nargs="+", metavar="WORD", help="one run, as JSON")
    options = arguments.parse_args()
    if options.script:
        script(options.script)
        return
    if options.one:
        what, *words = options.one
        if what == "make":
            print_sample(lambda: make(words[0], words[1], int(words[2])))
        else:
            print_sample(lambda: epoch(*words))
        return
    samples: dict[str, list[Sample]] = {}
    lines: list[str] = []
    for kind in options.db:
        for title, found, base in measure(options, kind):
            samples |= {f"{title}: {name}": each for name, each in found.items()}
            lines += lines_of(title, found, base)
    report(options, samples, lines)


if __name__ == "__main__":
    main()

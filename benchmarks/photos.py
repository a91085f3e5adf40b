"""The photographs that the benchmarks read, and the SQLite tables made of them."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

SELECT = "SELECT image_data, label FROM images ORDER BY id"

Photo = tuple[bytes, int]
"""An encoded picture and its label."""


def read_photos(folder: Path) -> list[Photo]:
    """The pictures that ``labels.csv`` lists, in its order. SystemExit says what is missing."""
    try:
        with open(folder / "labels.csv", encoding="utf-8", newline="") as lines:
            listed = [(row["file"], int(row["label"])) for row in csv.DictReader(lines)]
        photos = [((folder / file).read_bytes(), label) for file, label in listed]
    except OSError as error:
        raise SystemExit(
            f"no photos: {os.path.relpath(error.filename)}: {error.strerror}; pass a folder of "
            f"JPEG files with a labels.csv (columns file, label) as --images FOLDER"
        ) from None
    except (KeyError, ValueError) as error:
        raise SystemExit(
            f"{os.path.relpath(folder / 'labels.csv')}: {error}; it needs the columns file and "
            f"label, and labels that are integers"
        ) from None
    if not photos:
        raise SystemExit(f"{os.path.relpath(folder / 'labels.csv')} lists no files")
    return photos


def thumbnails(photos: list[Photo], *, distinct: int, longest: int) -> list[Photo]:
    """The first ``distinct`` photos as JPEGs of at most ``longest`` pixels a side."""
    from PIL import Image

    small = []
    for blob, label in photos[:distinct]:
        with Image.open(io.BytesIO(blob)) as image:
            picture = image.convert("RGB")
        picture.thumbnail((longest, longest))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=85)
        small.append((encoded.getvalue(), label))
    return small


@contextlib.contextmanager
def database(photos: list[Photo], rows: int) -> Iterator[str]:
    """The path of a SQLite file with a table of ``rows`` rows, the photos again and again.

    It has just been written, so it is read from the page cache and not from a disk.
    """
    with tempfile.TemporaryDirectory(prefix="fastloader-") as folder:
        path = os.path.join(folder, "photos.db")
        write(path, itertools.islice(itertools.cycle(photos), rows))
        yield path


def write(path: str, photos: Iterable[Photo]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE images"
            "(id INTEGER PRIMARY KEY, image_data BLOB NOT NULL, label INTEGER NOT NULL)"
        )
        connection.executemany("INSERT INTO images(image_data, label) VALUES (?, ?)", photos)


def rows_of(path: str) -> Iterator[Photo]:
    """The table's rows, in the order of their keys."""
    # tf.data pulls a generator from several threads, one after the other.
    connection = sqlite3.connect(path, check_same_thread=False)
    with contextlib.closing(connection):
        yield from connection.execute(SELECT)

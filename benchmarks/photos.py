"""The photographs that the benchmarks read, and tables of them."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.servers.cluster import cluster
from tests.servers.endings import ending_cleanly

from .measure import MADE

SELECT = "SELECT image_data, label FROM images ORDER BY id"

Photo = tuple[bytes, int]
"""An encoded image and its label."""


def read_photos(folder: Path, count: int | None = None) -> list[Photo]:
    """Return the first ``count`` images that ``labels.csv`` lists, in its order.

    The folder ``MADE`` is filled when it is needed. SystemExit says what is missing.
    """
    if folder.resolve() == MADE:
        print(
            f"no photographs found: this measures images that the benchmark makes, in "
            f"{os.path.relpath(MADE)}; pass a folder of your own with --images",
            file=sys.stderr,
        )
        if not MADE.exists():
            _make_photos()
    try:
        with open(folder / "labels.csv", encoding="utf-8", newline="") as lines:
            listed = [(row["file"], int(row["label"])) for row in csv.DictReader(lines)]
        listed = listed[:count]
        photos = [((folder / file).read_bytes(), label) for file, label in listed]
    except OSError as error:
        raise SystemExit(
            f"no photos: {os.path.relpath(error.filename)}: {error.strerror}; pass a folder of "
            f"JPEG files with a labels.csv (columns file, label) with --images FOLDER"
        ) from None
    except (KeyError, ValueError) as error:
        raise SystemExit(
            f"{os.path.relpath(folder / 'labels.csv')}: {error}; it needs the columns file and "
            f"label, and integer labels"
        ) from None
    if not photos:
        raise SystemExit(f"{os.path.relpath(folder / 'labels.csv')} lists no files")
    return photos


def _make_photos() -> None:
    """Write the images of the demo as files, with a list of their labels."""
    from .training_images import DISTINCT, make_images

    MADE.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="photos-", dir=MADE.parent))
    with ending_cleanly():
        try:
            lines = ["file,label"]
            for i, (blob, label) in enumerate(make_images(DISTINCT)):
                (partial / f"{i}.jpg").write_bytes(blob)
                lines.append(f"{i}.jpg,{label}")
            (partial / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
            with contextlib.suppress(OSError):  # a concurrent run has made them
                partial.rename(MADE)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def thumbnails(photos: list[Photo], *, distinct: int, longest: int) -> list[Photo]:
    """Return the first ``distinct`` photos as JPEGs of at most ``longest`` pixels a side."""
    from PIL import Image

    small = []
    for blob, label in photos[:distinct]:
        with Image.open(io.BytesIO(blob)) as image:
            scaled = image.convert("RGB")
        scaled.thumbnail((longest, longest))
        encoded = io.BytesIO()
        scaled.save(encoded, "JPEG", quality=85)
        small.append((encoded.getvalue(), label))
    return small


POSTGRES = "postgresql://"


@contextlib.contextmanager
def database(photos: list[Photo], rows: int, *, kind: str = "sqlite") -> Iterator[str]:
    """Make a table of ``rows`` rows that repeats the photos, and delete it when the block ends.

    It has just been written, so it is read from memory and not from a disk.

    Yields
    ------
    str
        The path of a SQLite file, or the URL of a PostgreSQL server.
    """
    repeated = itertools.islice(itertools.cycle(photos), rows)
    with contextlib.ExitStack() as stack:
        if kind == "postgres":
            server = stack.enter_context(cluster(shared_buffers="1GB"))
            with contextlib.closing(server.connect()) as connection:
                write_postgres(connection, repeated)
            yield server.url()
            return
        stack.enter_context(ending_cleanly())
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fastloader-"))
        path = os.path.join(folder, "photos.db")
        write(path, repeated)
        yield path


def write_postgres(connection: Any, photos: Iterable[Photo]) -> None:
    from psycopg2.extras import execute_values

    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE images (id int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
            "image_data bytea NOT NULL, label int8 NOT NULL); "
            "ALTER TABLE images ALTER image_data SET STORAGE EXTERNAL"
        )
        execute_values(
            cursor, "INSERT INTO images(image_data, label) VALUES %s", photos, page_size=50
        )
        cursor.execute("VACUUM ANALYZE images")


def write(path: str, photos: Iterable[Photo]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE images"
            "(id INTEGER PRIMARY KEY, image_data BLOB NOT NULL, label INTEGER NOT NULL)"
        )
        connection.executemany("INSERT INTO images(image_data, label) VALUES (?, ?)", photos)


def rows_of(path: str) -> Iterator[Photo]:
    """Yield the table's rows sorted by their keys, read in the plain way.

    From PostgreSQL that is a named cursor of psycopg2.
    """
    if path.startswith(POSTGRES):
        import psycopg2

        server = psycopg2.connect(path)
        with contextlib.closing(server), server.cursor("rows") as cursor:
            cursor.itersize = 64
            cursor.execute(SELECT)
            yield from cursor
        return
    # tf.data pulls a generator from several threads, but one at a time.
    connection = sqlite3.connect(path, check_same_thread=False)
    with contextlib.closing(connection):
        yield from connection.execute(SELECT)

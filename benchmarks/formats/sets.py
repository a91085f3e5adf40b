"""The photographs that all contestants of ``formats`` read, encoded once.

``512`` are of at most 512 pixels a side, quality 90, as FFCV's authors store ImageNet. ``256`` are
what ``fastloader shrink`` makes: a short side of 256, quality 90, optimal Huffman tables.
"""

from __future__ import annotations

import contextlib
import io
import sqlite3
import subprocess
import sys

from ..measure import ROOT
from ..photos import Photo, database

LONGEST, QUALITY = 512, 90
SMALL = "SELECT image_data, label FROM images_256 ORDER BY id"


def at_most_512(photos: list[Photo]) -> list[Photo]:
    """Return the photos encoded by Pillow, with 4:2:0 chroma and at most 512 pixels a side."""
    from PIL import Image, ImageOps

    made = []
    for blob, label in photos:
        with Image.open(io.BytesIO(blob)) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=QUALITY)
        made.append((encoded.getvalue(), label))
    return made


def shrunk(photos: list[Photo]) -> list[Photo]:
    """Return the rows of the table that ``fastloader shrink`` makes."""
    with database(photos, len(photos)) as path:
        subprocess.run(
            [sys.executable, "-m", "fastloader", "shrink", path],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return connection.execute(SMALL).fetchall()


SETS = {"256": shrunk, "512": at_most_512}
"""The functions that make them, by name."""

"""Draw small images of four shapes, for the tutorials: into a folder or into a SQLite table."""

from __future__ import annotations

import io
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "star", "triangle")
CORNERS = {"circle": 40, "square": 4, "star": 10, "triangle": 3}


def draw(name: str, rng: np.random.Generator) -> bytes:
    """Return a JPEG of 128 x 128 pixels: a dark shape of any size and angle on a bright ground."""
    ground, color = rng.integers(150, 256, 3), rng.integers(0, 110, 3)
    pixels = ground + rng.normal(0, 20, (128, 128, 3))
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    x, y = rng.uniform(40, 88, 2)
    radius, start = rng.uniform(20, 38), rng.uniform(0, 2 * math.pi)
    corners = []
    for i in range(CORNERS[name]):
        r = radius * (0.45 if name == "star" and i % 2 else 1)
        angle = start + 2 * math.pi * i / CORNERS[name]
        corners.append((x + r * math.cos(angle), y + r * math.sin(angle)))
    ImageDraw.Draw(image).polygon(corners, fill=tuple(map(int, color)))
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=90)
    return encoded.getvalue()


def images(count: int, seed: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield (JPEG, number of the class) ``count`` times; always the same for the same seed."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        label = int(rng.integers(len(CLASSES)))
        yield draw(CLASSES[label], rng), label


def make_folder(folder: str, count: int = 2000) -> None:
    """Write the images as files, in a subfolder for each class."""
    for i, (jpeg, label) in enumerate(images(count)):
        path = Path(folder) / CLASSES[label] / f"{i:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)


def make_table(path: str, count: int = 2000) -> None:
    """Write the images into the table ``images`` of a SQLite file, with ids from 1."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER)"
        )
        database.executemany("INSERT INTO images (image_data, label) VALUES (?, ?)", images(count))


if __name__ == "__main__":
    make_table("shapes.db")

"""Images for the demo: found in a folder or drawn, and written into a SQLite table."""

from __future__ import annotations

import colorsys
import contextlib
import csv
import io
import itertools
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from fastloader.cli.ingest.splits import SPLITS

Floats = NDArray[np.float32]

CLASSES = ("clouds", "stripes", "dots", "checks", "rings")
"""The patterns that :func:`make_images` draws. A label is an index into it."""

DISTINCT = 200
"""The number of images that :func:`make_images` draws before it repeats them, in about 3 s."""

ROWS_PER_COMMIT = 500


class ImagesError(Exception):
    """The folder that the user named has no usable images. One line says why."""


# ---- found in a folder ---------------------------------------------------------------------------


def find_images(folder: str | os.PathLike[str]) -> list[tuple[Path, str]]:
    """Return (path, name of the label) of the folder's JPEGs, in a fixed order.

    The labels are in ``labels.csv``, in the columns ``file`` and ``label``. Without that file, an
    image's label is the first subfolder on the way to it, as in ``fastloader ingest``.

    Raises
    ------
    ImagesError
        If there are no images, an image has no label, or there is only one label, from which
        nothing could be learned.
    """
    folder = Path(folder)
    if not folder.exists():
        raise ImagesError(f"no folder {folder}")
    if not folder.is_dir():
        raise ImagesError(f"{folder} is a file; a folder of JPEGs is needed")
    table = folder / "labels.csv"
    found = _listed(table) if table.exists() else _by_folder(folder)
    if not found:
        raise ImagesError(f"no JPEGs in {folder}")
    names = {name for _, name in found}
    if not table.exists() and {name.lower() for name in names} <= SPLITS:
        raise ImagesError(
            f"the subfolders of {folder} are splits and not labels; pass {folder / min(names)}"
        )
    if len(names) == 1:
        raise ImagesError(
            f"all {len(found)} JPEGs of {folder} have the label {min(names)!r}, so there is "
            f"nothing to learn; put them into a subfolder for each label, or list them in a "
            f"labels.csv with the columns file and label"
        )
    return found


def _listed(table: Path) -> list[tuple[Path, str]]:
    found = []
    with table.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        try:
            for column in ("file", "label"):
                if column not in (reader.fieldnames or ()):
                    raise ImagesError(f"{table} has no column {column!r}")
            for row in reader:
                if not row["file"] or not row["label"]:
                    raise ImagesError(f"{table}, line {reader.line_num}: no file or no label")
                found.append((table.parent / row["file"], row["label"]))
                if not found[-1][0].is_file():
                    raise ImagesError(f"{table}, line {reader.line_num}: no file {row['file']}")
        except (csv.Error, UnicodeDecodeError) as error:
            raise ImagesError(f"{table} is no CSV file: {error}") from None
    return found


def _by_folder(folder: Path) -> list[tuple[Path, str]]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    files = (path for path in sorted(paths) if path.is_file())
    found = [(path, path.relative_to(folder).parts) for path in files]
    if found and all(len(parts) == 1 for _, parts in found):
        raise ImagesError(
            f"the JPEGs of {folder} have no labels; put them into a subfolder for each label, or "
            f"list them in a labels.csv with the columns file and label"
        )
    labeled = [(path, parts[0]) for path, parts in found if len(parts) > 1]
    if left := len(found) - len(labeled):
        print(f"{folder}: left out {left} JPEGs in no subfolder, which have no label")
    return labeled


def read_images(images: Sequence[tuple[Path, int]], count: int) -> Iterator[tuple[bytes, int]]:
    """Yield (JPEG, label) ``count`` times. Begin again when the images are used up."""
    for i, (path, label) in enumerate(itertools.islice(itertools.cycle(images), count)):
        jpeg = path.read_bytes()
        if i < len(images):
            _check(path, jpeg)
        yield jpeg, label


def _check(path: Path, jpeg: bytes) -> None:
    """Decode an image. An error names the file here; in training it could only name a row."""
    try:
        with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
            image.load()
    except (OSError, SyntaxError):
        raise ImagesError(f"{path} is not a JPEG, or a broken one") from None


# ---- made ----------------------------------------------------------------------------------------


def make_images(count: int, seed: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield (JPEG, label) ``count`` times: ``DISTINCT`` images, over and over.

    Each class has its own pattern and hues. Grain and chroma sampling give the files the size of
    photographs, and the decoder the same work: 500x375 pixels, 84 KB on average, three in four
    without chroma subsampling.
    """
    rng = np.random.default_rng(seed)
    made: list[tuple[bytes, int]] = []
    for i in range(count):
        if i < DISTINCT:
            label = int(rng.integers(len(CLASSES)))
            made.append((_make_jpeg(rng, label, upright=i % 7 == 0), label))
        yield made[i % DISTINCT]


def _make_jpeg(rng: np.random.Generator, label: int, *, upright: bool) -> bytes:
    width, height = (375, 500) if upright else (500, 375)
    buffer = io.BytesIO()
    Image.fromarray(_draw(rng, label, height, width)).save(
        buffer, "JPEG", quality=90, subsampling=2 if rng.random() < 0.25 else 0, optimize=True
    )
    return buffer.getvalue()


def _draw(rng: np.random.Generator, label: int, height: int, width: int) -> NDArray[np.uint8]:
    clouds = _clouds(rng, height, width)
    shape = _pattern(rng, CLASSES[label], clouds)
    hue = label / len(CLASSES) + rng.uniform(-0.15, 0.15)
    dark = colorsys.hsv_to_rgb((hue + rng.uniform(0.05, 0.12)) % 1, 0.75, rng.uniform(0.25, 0.45))
    bright = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.2, 0.45), rng.uniform(0.85, 1.0))
    blend = np.clip(0.5 + 0.4 * shape + 0.06 * clouds, 0, 1)[..., None]
    image = (1 - blend) * np.float32(dark) + blend * np.float32(bright)
    image *= np.linspace(1.0, rng.uniform(0.7, 1.0), height, dtype=np.float32)[:, None, None]
    grain = rng.standard_normal((height, width, 1), np.float32)
    tint = rng.standard_normal((height, width, 3), np.float32)
    image += rng.uniform(0.7, 1.6) * (0.03 * grain + 0.012 * tint)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def _clouds(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Return noise with the spectrum of a photograph, mean 0 and standard deviation 1."""
    spectrum = np.fft.rfft2(rng.standard_normal((height, width), np.float32))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / frequency**1.5, (height, width)).astype(np.float32)
    return noise / noise.std()


def _pattern(rng: np.random.Generator, name: str, clouds: Floats) -> Floats:
    """Return the shape of a class, from -1 to 1, on a surface that the clouds bend a little."""
    height, width = clouds.shape
    y, x = np.mgrid[:height, :width].astype(np.float32) / 375
    angle, scale = rng.uniform(0, math.pi), rng.uniform(20, 45)
    cos, sin = math.cos(angle), math.sin(angle)  # not NumPy's: they would make the arrays float64
    across = scale * (x * cos + y * sin + 0.015 * clouds)
    along = scale * (y * cos - x * sin + 0.015 * clouds)
    if name == "clouds":
        return np.tanh(clouds)
    if name == "stripes":
        return np.tanh(2 * np.sin(across))
    if name == "dots":
        return np.tanh(4 * (np.cos(across) + np.cos(along) - 0.7))
    if name == "checks":
        return np.tanh(6 * np.sin(across) * np.sin(along))
    center_x, center_y = rng.uniform(0.3, 0.9), rng.uniform(0.3, 0.7)
    distance = np.hypot(x - center_x, y - center_y)
    return np.tanh(2 * np.sin(scale * (distance + 0.015 * clouds)))


# ---- in a table ----------------------------------------------------------------------------------


def write_table(
    path: str | os.PathLike[str],
    images: Iterable[tuple[bytes, int]],
    *,
    total: int | None = None,
    version: int = 0,
) -> None:
    """Write the table ``images(id, image_data, label)``, with ids from 0.

    The file appears when it is complete.

    Parameters
    ----------
    total
        The number of images, for the progress bar.
    version
        The file's ``user_version``, by which :func:`table_version` recognizes it.
    """
    partial = Path(f"{os.fspath(path)}.partial")
    partial.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(partial)) as database:
            # Nobody reads this file before it is complete, so it needs no journal and no syncs.
            database.executescript(
                f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA user_version={version:d};"
                "CREATE TABLE images"
                "(id INTEGER PRIMARY KEY, image_data BLOB NOT NULL, label INTEGER NOT NULL)"
            )
            # The bar shows no remaining time: drawing an image takes longer than repeating one.
            form = "Writing {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images"
            bar = tqdm(images, total=total, bar_format=form, disable=None, leave=False)
            rows = ((i, jpeg, label) for i, (jpeg, label) in enumerate(bar))
            while chunk := list(itertools.islice(rows, ROWS_PER_COMMIT)):
                with database:
                    database.executemany("INSERT INTO images VALUES (?, ?, ?)", chunk)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def table_version(path: str | os.PathLike[str]) -> int | None:
    """Return the ``version`` of a file, 0 for one made by somebody else, None for no file."""
    if not os.path.exists(path):
        return None
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            return int(database.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError:
        return 0

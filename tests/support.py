"""What the tests share: images, tables, and the reference that pixels are compared with."""

from __future__ import annotations

import gc
import io
import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastloader.fields.not_images import why_no_blob
from fastloader.fields.values import BLOB
from fastloader.source.protocol import Chunk, Source

from .tiers import full

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def needs_data(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that reads the photographs and corpora: full tier only, skipped without them."""
    missing = pytest.mark.skipif(not DATA.is_dir(), reason=f"no test images at {DATA}")
    marked: Callable[..., None] = missing(full(test))
    return marked


def photos(count: int | None = None) -> list[Path]:
    return sorted((DATA / "photos").glob("*.jpg"))[:count]


# ---- images and tables -------------------------------------------------------------------------


def jpeg(width: int = 32, height: int = 24, *, seed: int = 0, **options: Any) -> bytes:
    """Smooth colours with some noise, so that resizing has something to get wrong."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 4, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(image, np.int16) + rng.integers(-20, 21, (height, width, 3))
    out = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "JPEG", **options)
    return out.getvalue()


def table(
    path: Path | str,
    rows: Iterable[tuple[Any, ...]],
    *,
    columns: str = "id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER",
    name: str = "images",
) -> str:
    """Create a SQLite file with these rows, and return its path."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(f'CREATE TABLE "{name}" ({columns})')
        for row in rows:
            connection.execute(f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(row))})', row)
    connection.close()
    return str(path)


def simple_rows(count: int, *, gap: int = 1) -> list[tuple[int, bytes, int]]:
    """Keys gap, 2 gap, ...; each label is ten times the row's number; eight different images."""
    images = [jpeg(seed=seed) for seed in range(8)]
    return [((i + 1) * gap, images[i % 8], i * 10) for i in range(count)]


# ---- batches -------------------------------------------------------------------------------------


def rows_of(batch: Any) -> list[tuple[Any, bytes]]:
    """Return (key, pixels) of each row of a batch that was made with ``with_keys``."""
    x, _ = batch
    images = (image.tobytes() for image in x["image_data"])
    return list(zip(x["id"].tolist(), images, strict=True))


def parts_of(batch: Any, key: str = "id") -> tuple[Any, ...]:
    """Return ``(images, labels, ..., keys)`` of a batch that was made with ``with_keys``."""
    x, *rest = batch if isinstance(batch, (tuple, list)) else (batch,)
    images = {name: values for name, values in x.items() if name != key}
    return (images if len(images) > 1 else next(iter(images.values())), *rest, x[key])


def unpacked(batches: Iterable[Any], key: str = "id") -> Iterator[tuple[Any, ...]]:
    """Yield the :func:`parts_of` each batch, and keep none of them."""
    return map(partial(parts_of, key=key), batches)


# ---- the reference -------------------------------------------------------------------------------


def decoded(blob: bytes) -> NDArray[np.uint8]:
    """Pillow's decode: libjpeg-turbo's accurate DCT and fancy upsampling."""
    return np.asarray(Image.open(io.BytesIO(blob)).convert("RGB"))


def _bicubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    near = (1.5 * x - 2.5) * x * x + 1.0
    return np.where(x < 1, near, np.where(x < 2, (((x - 5) * x + 8) * x - 4) * -0.5, 0.0))


FILTERS: dict[str, tuple[float, Callable[[NDArray[np.float64]], NDArray[np.float64]]]] = {
    "box": (0.5, lambda x: ((x > -0.5) & (x <= 0.5)).astype(float)),
    "bilinear": (1.0, lambda x: np.maximum(0.0, 1.0 - np.abs(x))),
    "bicubic": (2.0, lambda x: _bicubic(np.abs(x))),
    "lanczos": (3.0, lambda x: np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0.0)),
}
"""Pillow's filters: their support and their value."""


def weights(
    in_size: int, out_size: int, filter: str = "bilinear", part: tuple[float, float] | None = None
) -> NDArray[np.float64]:
    """Pillow's antialiased filter as a matrix (out_size, in_size), in float64.

    part: the start and the end of what is resized, all of it by default.
    """
    support, at = FILTERS[filter]
    start, end = part or (0.0, float(in_size))
    step = (end - start) / out_size
    scale = max(1.0, step)
    centre = start + (np.arange(out_size) + 0.5)[:, None] * step
    position = np.arange(in_size)[None, :]
    low = np.maximum(np.floor(centre - support * scale + 0.5), 0)
    high = np.minimum(np.floor(centre + support * scale + 0.5), in_size)
    weight = at((position - centre + 0.5) / scale)
    weight[(position < low) | (position >= high)] = 0.0
    return weight / weight.sum(axis=1, keepdims=True)


def resized(
    image: NDArray[np.uint8],
    height: int,
    width: int,
    filter: str = "bilinear",
    box: tuple[float, float, float, float] | None = None,
) -> NDArray[np.float64]:
    """Return the image resized with antialiasing, in float64, not rounded, clipped to 0..255.

    The box is Pillow's: left, top, right, bottom.
    """
    left, top, right, bottom = box or (0.0, 0.0, float(image.shape[1]), float(image.shape[0]))
    down = weights(image.shape[0], height, filter, (top, bottom))
    across = weights(image.shape[1], width, filter, (left, right))
    tall = np.tensordot(down, image.astype(np.float64), (1, 0))
    return np.clip(np.tensordot(across, tall, (1, 1)).swapaxes(0, 1), 0, 255)


# ---- the kernel's C alone ------------------------------------------------------------------------

WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
LIBRARIES = ["-ljpeg", "-lwebp", "-lisal", "-lm"]
SANITIZERS = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


needs_sources = pytest.mark.source
"""What is about the sources, or compiles them: not for a wheel that is tested away from them."""


def compiled(program: Path, sources: Iterable[Path], *options: str, compiler: str = "cc") -> Path:
    """Compile C files to a program, and return it; those of csrc/ go by their names alone."""
    paths = [str(ROOT / "csrc" / source) for source in sources]
    libraries = [option for option in options if option.startswith("-l")]
    flags = [option for option in options if option not in libraries]
    command = [compiler, "-std=c11", *WARNINGS, *flags, f"-I{ROOT / 'csrc'}", *paths]
    subprocess.run([*command, "-o", str(program), *libraries], check=True)
    return program


def unsanitized_environment() -> dict[str, str]:
    """For programs that bring their sanitizers with them: without those of `make sanitize`."""
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return {**environment, "ASAN_OPTIONS": "allocator_may_return_null=1"}


# ---- processes -----------------------------------------------------------------------------------


def worker_processes(parent: int | None = None) -> list[psutil.Process]:
    """Return the worker processes below this one."""
    return [p for p in _children(parent) if is_worker(p)]


def survey_processes(parent: int | None = None) -> list[psutil.Process]:
    """Those that do surveys, or hold their snapshots."""
    return [p for p in _children(parent) if is_worker(p, "fastloader.worker.survey")]


def _children(parent: int | None) -> list[psutil.Process]:
    return psutil.Process(parent or os.getpid()).children(recursive=True)


def is_worker(process: psutil.Process, module: str = "fastloader.worker.worker") -> bool:
    try:
        return module in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Fails the test where the condition has not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def open_files() -> list[str]:
    """Return what the descriptors of this process point to, apart from those of garbage."""
    gc.collect()
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue  # the descriptor of the listing itself
    return sorted(found)


# ---- sources -------------------------------------------------------------------------------------


def all_keys(source: Source) -> NDArray[Any]:
    """Return the whole key column of a source."""
    parts = [*source.keys()]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def bad_rows(chunk: Chunk, *images: str, limit: int = 64 << 20) -> dict[int, str]:
    """Return why rows of a chunk are bad: what it says itself, and what its values show."""
    bad = dict(chunk.bad)
    for name in images:
        values = chunk.columns[name]
        for row in np.flatnonzero(values.kinds != BLOB).tolist():
            bad.setdefault(row, why_no_blob(values, row, name, limit=limit))
    return bad


def blobs_of(chunk: Chunk, column: str = "image_data") -> list[bytes]:
    """Return copies of the blobs of a chunk, b"" where there is none."""
    values = chunk.columns[column]
    return [values.value(row) or b"" for row in range(len(values))]

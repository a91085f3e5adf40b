"""The speed of a loader whose consumer does nothing, and of the generator that it replaces."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import sqlite3
import statistics
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from ...loader import FastLoader
from ...observe.stats import Stages
from ...options.config import Config
from ...source._files import Folder
from ...source.files import read_file
from ...source.sql import as_subquery, identifier
from ...source.sqlite.file import inodes_of, path_of
from ..command import MACHINE, NO_CACHE, CommandError

WARM_UP_S = 0.5
"""The longest warm-up. It takes the batches that the workers had ready before the first request."""


@dataclass(frozen=True)
class Measured:
    """One measurement.

    Attributes
    ----------
    images_per_s
        The rate.
    rows
        The number of rows that were measured.
    stages
        The times of the workers; zeros for the generator.
    """

    images_per_s: float
    rows: int
    stages: Stages = field(default_factory=Stages)


@dataclass(frozen=True)
class Spread:
    """The median, the lowest and the highest of several measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarize the values, of which there is at least one."""
        values = sorted(values)
        return cls(statistics.median(values), values[0], values[-1])

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} [{self.low:{spec}}..{self.high:{spec}}]"


def of_loader(options: dict[str, Any], seconds: float) -> Measured:
    """Measure FastLoader with these options, epoch after epoch, once it has warmed up.

    The cache is off, because decoding is what is measured.
    """
    with FastLoader(**{**options, **NO_CACHE}) as loader:
        ready = (loader.config.slots or 0) * max(1, loader.config.workers)
        batches = _epochs(loader)
        start = time.perf_counter()
        for _ in itertools.islice(batches, ready):
            if time.perf_counter() - start > WARM_UP_S:
                break
        before = loader.stats()
        rows, took_s = _count(batches, seconds)
        after = loader.stats()
    names = [field.name for field in dataclasses.fields(Stages)]
    stages = Stages(**{name: getattr(after, name) - getattr(before, name) for name in names})
    return Measured(rows / took_s, rows, stages)


def of_generator(config: Config, seconds: float) -> Measured:
    """Measure the generator that most people write: a cursor sorted by the key, and Pillow."""
    batches = _plain_epochs(config)
    next(batches)  # the first image imports Pillow's plugins
    rows, took_s = _count(batches, seconds)
    return Measured(rows / took_s, rows)


def _count(batches: Iterator[int], seconds: float) -> tuple[int, float]:
    """Count rows for at least so many seconds; return them and the seconds to the last batch."""
    rows, start = 0, time.perf_counter()
    for count in batches:
        rows += count
        if time.perf_counter() - start >= seconds:
            break
    return rows, time.perf_counter() - start


def _epochs(loader: FastLoader) -> Iterator[int]:
    """Yield the number of rows of each batch, epoch after epoch."""
    while True:
        before = loader.stats().rows
        for _ in loader:
            rows = loader.stats().rows
            yield rows - before
            before = rows


# ---- the generator -------------------------------------------------------------------------------


def _plain_epochs(config: Config) -> Iterator[int]:
    while True:
        with contextlib.closing(_with_files(config, _rows(config))) as rows:
            while batch := list(itertools.islice(rows, config.batch_size)):
                if config.images:
                    np.stack([_decoded(config, blob) for blob, *_ in batch])
                else:
                    for column in zip(*batch, strict=True):
                        np.array(column)
                yield len(batch)


def _with_files(
    config: Config, rows: Generator[tuple[Any, ...], None, None]
) -> Generator[tuple[Any, ...], None, None]:
    """Yield rows with the contents of the files of the first image, if it is in files."""
    if not config.images or config.images[0].folder is None:
        yield from rows
        return
    with contextlib.closing(Folder(config.images[0].folder)) as folder, contextlib.closing(rows):
        for path, *others in rows:
            own = [] if config.url.is_postgres else inodes_of(path_of(config), "")
            yield read_file(folder, path, own, limit=config.max_blob_bytes), *others


def _rows(config: Config) -> Generator[tuple[Any, ...], None, None]:
    """Yield rows sorted by the key, an image first, through the database's ordinary cursor."""
    images = [field.of_column for field in config.images[:1]]
    names = [*images, *(name for name in config.value_columns if name not in images)]
    columns = ", ".join(map(identifier, names))
    parts = (config.table or "").split(".") if config.url.is_postgres else [config.table or ""]
    table = identifier(*parts) if config.query is None else as_subquery(config.query)
    order = ", ".join(map(identifier, config.keys))
    rows = table if config.where is None else f"(SELECT * FROM {table} WHERE {config.where}\n)"
    sql = f"SELECT {columns} FROM {rows} q ORDER BY {order}"
    if not config.url.is_postgres:
        params = {str(i): value for i, value in enumerate(config.params, start=1)}
        uri = f"file:{quote(config.url.removeprefix('sqlite:///'))}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            yield from connection.execute(sql, params)
        return
    import psycopg2

    if config.params:
        raise CommandError(
            "psycopg2 has no $1, so the plain generator takes no --params: write the values into "
            "--where"
        )
    server = psycopg2.connect(config.url.secret)
    with contextlib.closing(server), server.cursor("rows") as cursor:
        cursor.itersize = config.batch_size
        cursor.execute(sql)
        yield from cursor


def _decoded(config: Config, blob: Any) -> NDArray[np.uint8]:
    """Return the image as Pillow decodes and resizes it; black if it cannot decode it."""
    try:
        from PIL import Image
    except ImportError:
        raise CommandError(
            "the plain generator needs Pillow; run pip install 'fastloader[pillow]'", MACHINE
        ) from None
    height, width = config.images[0].size
    try:
        with Image.open(io.BytesIO(blob)) as image:
            small = image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return np.zeros((height, width, 3), np.uint8)
    return np.asarray(small)

"""FastLoader: makes the plan, starts the workers, hands batches to whoever iterates."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .columns import Column
from .config import UNSET, Config, PerColumn, make_config
from .errors import ClosedError, FastloaderWarning
from .keys import Key
from .plan import Plan
from .producer import Producer, key_column
from .ring import Layout, create_memory, slot_image
from .source import Source
from .stats import Stats
from .supervisor import Feeder, InProcess, RestartBudget, Supervisor, Taken
from .survey import Survey, Surveyor, survey
from .worker import specification

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger("fastloader")


class FastLoader:
    """Batches of decoded images and labels from a table, in the order of its keys.

    Iterating, and calling, begins the next epoch: every row once. A batch is ``(images, labels)``,
    ``(images, labels, keys)`` with ``with_keys``; without labels ``images`` or ``(images, keys)``.

    * ``images``: (n, height, width, channels), or (n, channels, height, width) with
      ``layout="NCHW"``, of type ``dtype``; a dict of them where ``image`` names several columns.
      n is ``batch_size``, in the last batch and with ``on_error="skip"`` maybe less.
    * ``labels``: an array of n values, or a dict of them where ``label`` names several columns.
      int64, float64, bool, ``str`` objects, or for blobs (n, length).
    * ``keys``: int64 (n,), or ``str`` objects for keys that are uuids or text.

    The arrays alias shared memory and stay valid as long as anything refers to them. They are
    writable; they are yours.

    Every option can also be set by an environment variable, ``FASTLOADER_`` and its name in
    capitals; an argument wins.

    Args:
        url: of the database: ``"sqlite:///photos.db"``, or a path, or
            ``"postgresql://user@host/database"``, or libpq's ``"host=... dbname=..."``.
        table: or view to read from ("images"), maybe with its schema, or
        query: a SELECT to read from instead.
        key: column of unique integers, in PostgreSQL also uuids or text ("id").
        image: column of encoded images ("image_data"), or a list of columns.
        label: column ("label"), list of columns or None. ``"name:dtype"`` asks for a type.
        batch_size: rows (64).
        workers: processes; None for the cores that this process may use, 0 for none.
        slots: batches that each worker's ring holds (8, at least 2).
        on_error: what happens to a row that cannot be delivered: "raise" (RowError), "skip" (drop
            it from its batch) or "fill" (deliver zeros in its place).
        max_restarts: workers that may die in one epoch (3).
        drop_remainder: leave out a last batch of fewer than ``batch_size`` rows (False).
        with_keys: deliver keys too (False).
        prefetch: batches that :meth:`as_dataset` keeps ready (2).
        max_blob_bytes: refuse encoded pictures of more, before they are fetched (64 MiB).
        fetch_bytes: of blobs to fetch at once, about; None for what suits the database: 4 MiB from
            PostgreSQL, 1 MiB from SQLite.
        consistency: "snapshot", all epochs see the table as it was when the loader was made, or
            "latest", every fetch sees it as it is ("snapshot"). For PostgreSQL.
        stall_timeout_s: give up a server that sends nothing for so many seconds (60).
        reconnect_timeout_s: try for so many seconds to get a lost connection back (30).
        simd: "auto", or "portable" to do without vector instructions; the pixels are the same.

    Each of the others may be a dict from image columns to values; columns that it does not name
    have the default.

    Args:
        size: (height, width) of the delivered images in pixels ((224, 224)).
        channels: 3 for RGB, 1 for luma (3).
        fit: "stretch" to the size; "crop" to the largest centred box with its proportions; "pad"
            with ``background`` around; or "random_crop", another box each epoch ("stretch").
        crop_fraction: for "crop", of the box's sides (1.0).
        scale: for "random_crop", the least and the greatest share of the picture's area
            ((0.08, 1.0)).
        ratio: for "random_crop", the least and the greatest width / height ((3/4, 4/3)).
        flip: mirror one row in two, others in each epoch (False).
        seed: of crops and flips, which depend on nothing but it, the epoch and the key (0).
        filter: of the resize, as Pillow defines it: "nearest", "box", "bilinear", "bicubic" or
            "lanczos" ("bilinear").
        orientation: turn pictures as their EXIF data asks (True).
        quality: "exact", or "fast" to decode large JPEGs and WebPs at a reduced size ("exact").
        background: (red, green, blue) to compose pictures with alpha over, and to pad with; None
            drops alpha and pads in black (None).
        layout: "NHWC" or "NCHW" ("NHWC").
        dtype: "uint8"; "float32", "float16" or "bfloat16" for (level / 255 - mean) / std ("uint8").
        mean: of the float types; a number, or one for each channel, for levels from 0 to 1 (0).
        std: likewise (1).
        strict: treat a picture that ends early as a bad row, rather than fill up what is missing
            with grey (False).
        max_pixels: refuse encoded pictures of more (178,956,970).
        max_scans: refuse progressive JPEGs of more (100).
        max_chunks: refuse PNG and WebP files of more (100,000).

    Raises:
        ConfigError: an option cannot be used, or there is no memory for the rings.
        SourceError: no such file, server, table or column.
        PlanError: no rows, or keys that are NULL, not unique or of no usable type.
    """

    def __init__(
        self,
        url: str | os.PathLike[str] = UNSET,
        *,
        table: str | None = UNSET,
        query: str | None = UNSET,
        key: str = UNSET,
        image: str | Sequence[str] = UNSET,
        label: str | Sequence[str] | None = UNSET,
        batch_size: int = UNSET,
        workers: int | None = UNSET,
        slots: int | None = UNSET,
        on_error: str = UNSET,
        max_restarts: int = UNSET,
        drop_remainder: bool = UNSET,
        with_keys: bool = UNSET,
        prefetch: int = UNSET,
        max_blob_bytes: int = UNSET,
        fetch_bytes: int | None = UNSET,
        consistency: str = UNSET,
        stall_timeout_s: float = UNSET,
        reconnect_timeout_s: float = UNSET,
        simd: str = UNSET,
        size: PerColumn[tuple[int, int]] = UNSET,
        channels: PerColumn[int] = UNSET,
        fit: PerColumn[str] = UNSET,
        crop_fraction: PerColumn[float] = UNSET,
        scale: PerColumn[tuple[float, float]] = UNSET,
        ratio: PerColumn[tuple[float, float]] = UNSET,
        flip: PerColumn[bool] = UNSET,
        seed: PerColumn[int] = UNSET,
        filter: PerColumn[str] = UNSET,
        orientation: PerColumn[bool] = UNSET,
        quality: PerColumn[str] = UNSET,
        background: PerColumn[tuple[int, int, int] | None] = UNSET,
        layout: PerColumn[str] = UNSET,
        dtype: PerColumn[Any] = UNSET,
        mean: PerColumn[float | Sequence[float]] = UNSET,
        std: PerColumn[float | Sequence[float]] = UNSET,
        strict: PerColumn[bool] = UNSET,
        max_pixels: PerColumn[int] = UNSET,
        max_scans: PerColumn[int] = UNSET,
        max_chunks: PerColumn[int] = UNSET,
    ) -> None:
        given = {name: value for name, value in locals().items() if name != "self"}
        self._closed = True  # until there is something to close
        self._config = make_config(given)
        self._pid = os.getpid()
        self._lock = threading.Lock()  # guards the epoch and the counts
        self._epoch = -1
        counts = ("batches", "rows", "bad_rows", "partial_rows", "passed_over", "reconnects")
        self._counts = dict.fromkeys(counts, 0)
        self._wait_s = 0.0
        self._bad_rows: dict[Key, str] = {}
        self._partial_rows: dict[Key, str] = {}
        self._holder: Surveyor | Source | None = None  # of the snapshot
        self._budget = RestartBudget(self._config.max_restarts)
        self._feeders: list[Feeder] = []
        with contextlib.ExitStack() as undo:
            self._open(undo)
            undo.pop_all()
        self._closed = False

    def _open(self, undo: contextlib.ExitStack) -> None:
        config = self._config
        self._plan_memory = create_memory("plan")
        undo.callback(self._plan_memory.close)
        found = self._feed(undo) if config.workers else self._feed_in_process(undo)
        self._plan = Plan(found.rows, config.batch_size, config.drop_remainder)

    def _feed(self, undo: contextlib.ExitStack) -> Survey:
        """Has the table looked at, and starts the workers."""
        config = self._config
        # The processes start before the keys are read: both take a moment, now the same one.
        surveyor = Surveyor(self._plan_memory)
        undo.callback(surveyor.close)
        supervisors = []
        for worker in range(config.workers):
            supervisors.append(Supervisor(worker, config.workers, self._plan_memory, self._budget))
            undo.callback(supervisors[-1].close)
        found = surveyor.survey(config)
        layout = self._arrange(found)
        for worker, supervisor in enumerate(supervisors):
            spec = specification(config, found, layout, worker=worker)
            supervisor.configure(spec, layout, config.slots)
        self._feeders = [*supervisors]
        if found.snapshot is None:
            surveyor.close()
        else:
            self._holder = surveyor
        return found

    def _feed_in_process(self, undo: contextlib.ExitStack) -> Survey:
        config = self._config
        found, keys, source = survey(config, self._plan_memory)
        undo.callback(source.close)
        layout = self._arrange(found)
        producer = Producer(config, keys, found.columns, snapshot=found.snapshot)
        undo.callback(producer.close)
        self._feeders = [InProcess(producer, layout, config.slots)]
        if found.snapshot is None:
            source.close()
        else:
            self._holder = source
        return found

    def _arrange(self, found: Survey) -> Layout:
        for note in found.notes:
            warnings.warn(note, FastloaderWarning, stacklevel=5)
        self._columns = found.columns
        self._key_column = key_column(found.key_dtype)
        images = [
            replace(self._config.image_column(image), name=slot_image(image))
            for image in self._config.images
        ]
        keys = [self._key_column] if self._config.with_keys else []
        return Layout.of(self._config.batch_size, [*images, *found.columns, *keys])

    # ---- iteration -----------------------------------------------------------------------------

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._plan)

    def __iter__(self) -> Iterator[Any]:
        """The next epoch. An iterator that is still under way ends with SupersededError at its
        next pull."""
        return self._elements(self._begin_epoch(), range(len(self._plan)), empty=False)

    def __call__(self) -> Iterator[Any]:
        """The same as ``iter(loader)``: what ``tf.data.Dataset.from_generator`` wants."""
        return iter(self)

    def _begin_epoch(self) -> int:
        self._check_usable()
        with self._lock:
            self._epoch += 1
            self._budget.begin()
            for feeder in self._feeders:
                feeder.begin(self._epoch)
            return self._epoch

    def _elements_of(self, epoch: int, feeder: int) -> Iterator[Any]:
        """The batches of one feeder, the empty ones too, for adapters that interleave them."""
        batches = self._plan.batches_of(feeder, len(self._feeders))
        return self._elements(epoch, batches, empty=True)

    def _elements(self, epoch: int, batches: range, *, empty: bool) -> Iterator[Any]:
        """These batches; those whose rows were all skipped only if ``empty``."""
        for batch in batches:
            taken = self._take(epoch, batch)
            if taken.filled.rows or empty:
                yield self._element(taken)

    def _take(self, epoch: int, batch: int) -> Taken:
        self._check_usable()
        start = time.perf_counter()
        taken = self._feeders[batch % len(self._feeders)].take(epoch, batch)
        waited, filled = time.perf_counter() - start, taken.filled
        with self._lock:
            self._wait_s += waited
            self._counts["batches"] += 1
            self._counts["rows"] += filled.rows
            self._counts["bad_rows"] += len(filled.bad)
            self._counts["partial_rows"] += len(filled.partial)
            self._counts["passed_over"] += filled.passed_over
            self._counts["reconnects"] += filled.reconnects
            new = [row for row in filled.bad if row[0] not in self._bad_rows]
            self._bad_rows.update(new)
            cut = [row for row in filled.partial if row[0] not in self._partial_rows]
            self._partial_rows.update(cut)
        if filled.reconnects:
            logger.warning(
                "batch %d: the connection to the database was lost and made again", batch
            )
        if new:
            done = "dropped" if self._config.on_error == "skip" else "filled with zeros"
            logger.warning(
                "batch %d: %d bad rows %s; the first is key %s: %s (all: loader.bad_rows)",
                batch, len(new), done, *new[0],
            )  # fmt: skip
        if cut:
            logger.warning(
                "batch %d: %d of the pictures end early and were filled up with grey; the first is "
                "key %s: %s (all: loader.partial_rows; strict=True makes them bad rows)",
                batch, len(cut), *cut[0],
            )  # fmt: skip
        return taken

    def _element(self, taken: Taken) -> Any:
        """What the consumer gets for a batch."""
        config = self._config
        images = {image: taken.arrays[slot_image(image)] for image in config.images}
        parts: list[Any] = [images[config.image] if isinstance(config.image, str) else images]
        if self._config.label is not None:
            labels = {column.name: self._values(taken, column) for column in self._columns}
            single = isinstance(self._config.label, str)
            parts.append(next(iter(labels.values())) if single else labels)
        if self._config.with_keys:
            parts.append(self._values(taken, self._key_column))
        return parts[0] if len(parts) == 1 else tuple(parts)

    @staticmethod
    def _values(taken: Taken, column: Column) -> NDArray[Any]:
        if column.is_text:
            return np.array(taken.filled.text[column.name], object)
        return taken.arrays[column.name]

    # ---- what it is and has done -----------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The options in force."""
        return self._config

    @property
    def columns(self) -> tuple[Column, ...]:
        """The label columns, with their types."""
        return self._columns

    @property
    def key_column(self) -> Column:
        """The column of keys in a batch: int64, or text for uuids and text."""
        return self._key_column

    @property
    def bad_rows(self) -> list[tuple[Key, str]]:
        """(key, reason) of the rows that were dropped or filled so far, each once."""
        with self._lock:
            return list(self._bad_rows.items())

    @property
    def partial_rows(self) -> list[tuple[Key, str]]:
        """(key, reason) of the rows whose pictures end early, delivered with what there was of
        them, each once."""
        with self._lock:
            return list(self._partial_rows.items())

    def stats(self) -> Stats:
        """What the loader has done so far."""
        with self._lock:
            return Stats(
                epochs=self._epoch + 1,
                leases=sum(feeder.ring.leases for feeder in self._feeders),
                copies=sum(feeder.ring.copies for feeder in self._feeders),
                leased=sum(len(feeder.ring.leased) for feeder in self._feeders),
                restarts=self._budget.total,
                wait_s=self._wait_s,
                **self._counts,
            )

    # ---- TensorFlow ----------------------------------------------------------------------------

    @property
    def output_signature(self) -> Any:
        """For ``tf.data.Dataset.from_generator(loader, output_signature=...)``."""
        from .adapters import tensorflow

        return tensorflow.output_signature(self)

    @property
    def output_types(self) -> Any:
        """For the older form of ``from_generator``, with ``output_shapes``."""
        from .adapters import tensorflow

        return tensorflow.output_types(self)

    @property
    def output_shapes(self) -> Any:
        """For the older form of ``from_generator``, with ``output_types``."""
        from .adapters import tensorflow

        return tensorflow.output_shapes(self)

    def as_dataset(self) -> tf.data.Dataset:
        """A ``tf.data.Dataset`` of the batches, in the loader's order; each iteration of it is the
        next epoch. See :func:`fastloader.adapters.tensorflow.as_dataset`."""
        from .adapters import tensorflow

        return tensorflow.as_dataset(self)

    # ---- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the workers. Batches that were handed out stay valid. May be called twice."""
        if self._closed or os.getpid() != self._pid:
            return
        self._closed = True
        with contextlib.ExitStack() as closing:
            closing.callback(self._plan_memory.close)
            if self._holder is not None:
                closing.callback(self._holder.close)
            for feeder in self._feeders:
                closing.callback(feeder.close)

    @property
    def closed(self) -> bool:
        return self._closed

    def _check_usable(self) -> None:
        if self._closed:
            raise ClosedError("the loader is closed")
        if os.getpid() != self._pid:
            raise ClosedError(
                f"this loader belongs to process {self._pid}, of which this one is a fork; make "
                f"one loader in each process"
            )

    def __enter__(self) -> FastLoader:
        self._check_usable()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and os.getpid() == self._pid:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"epoch {self._epoch}"
        return (
            f"<FastLoader {self._config.url}: {self._plan.rows} rows in {len(self)} batches, "
            f"{self._config.workers} workers, {state}>"
        )

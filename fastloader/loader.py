"""FastLoader: makes the plan, starts the workers, hands batches to whoever iterates."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from .consumer.delivery import Delivery
from .consumer.progress import fingerprint
from .errors import ConfigError, CopyError
from .fields.columns import Column
from .observe.stats import Stats
from .options.config import UNSET, Config, PerColumn, make_config
from .plan.keys import Key

if TYPE_CHECKING:
    import jax
    import tensorflow as tf
    import torch


class FastLoader:
    """Batches of decoded images and labels from a table, in the order of its keys or shuffled.

    Iterating, and calling, begins the next epoch: every row once. A batch is ``(images, labels)``,
    with ``sample_weight`` ``(images, labels, weights)``, and without labels ``images``.

    * ``images``: (n, height, width, channels), or (n, channels, height, width) with
      ``layout="NCHW"``, of type ``dtype``; a dict of them where ``image`` names several columns.
      n is ``batch_size``, in the last batch and with ``on_error="skip"`` maybe less. With
      ``with_keys`` it is always a dict, ``{"image_data": images, "id": keys}``, under the names of
      the columns.
    * ``labels``: an array of n values, or a dict of them where ``label`` names several columns.
      int64, float64, bool, ``str`` objects, or for blobs (n, length).
    * ``weights``: an array of n numbers.
    * ``keys``: int64 (n,), or ``str`` objects for keys that are uuids or text. They are never in
      second or third place, which Keras reads as targets and sample weights.

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
        sample_weight: column of the rows' weights in the loss, as Keras takes them (None).
        batch_size: rows (64).
        workers: processes; None for the cores that this process may use, 0 for none.
        slots: batches that each worker's ring holds, at least 2; None for 8, more of small ones,
            less where memory is short.
        on_error: what happens to a row that cannot be delivered: "raise" (RowError), "skip" (drop
            it from its batch) or "fill" (deliver zeros in its place). A batch that "skip" leaves
            without rows is left out, but with a shard it is delivered empty.
        max_restarts: workers that may die in one epoch (3).
        drop_remainder: leave out a last batch of fewer than ``batch_size`` rows (False).
        shuffle: another random order in each epoch, a function of seed and epoch (False).
        shuffle_block: consecutive rows that stay together when shuffled; 1 for none (1).
        seed: of the order, and of crops and flips (0).
        shard: (index, count), this loader's part of each epoch; or what knows it: a
            ``tf.distribute.InputContext``, or the module ``torch.distributed`` or ``jax``. All
            shards have the same number of batches ((0, 1)).
        deterministic: hand over batches in their order, or, if False, as they come (True).
        with_keys: deliver keys too, in the dict of images (False).
        prefetch: batches that :meth:`as_dataset` keeps ready (2).
        max_blob_bytes: refuse encoded pictures of more, before they are fetched (64 MiB).
        fetch_bytes: of blobs to fetch at once, about; None for what suits the database: 4 MiB from
            PostgreSQL, 1 MiB from SQLite.
        consistency: "snapshot", all epochs see the table as it was when the loader was made, or
            "latest", every fetch sees it as it is ("snapshot"). For PostgreSQL.
        stall_timeout_s: give up a server that sends nothing for so many seconds (60).
        reconnect_timeout_s: try for so many seconds to get a lost connection back (30).
        simd: "auto", or "portable" to do without vector instructions; the pixels are the same.
        worker_imports: modules to import in each worker, such as "pillow_heif.HeifImagePlugin",
            which adds a format to Pillow's (none).
        trace: a file to write where the time goes to, for ui.perfetto.dev; ``%p`` in its name
            stands for the process (None).
        cache: keep decoded pictures and labels, so that it is done once: "ram", in this loader's
            memory, or a folder, which other loaders and later runs share (None).
        cache_bytes: that they may take; rows that do not fit are decoded as ever. None for half of
            the memory that is available, or of the disk's free space.

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
        flip: mirror one row in two, others in each epoch (False). Crops and flips depend on
            nothing but the seed, the epoch and the key.
        cache_size: with a cache, (height, width) of the pictures that are kept for "random_crop";
            the crops are taken of these, in the first epoch, too. None for 8/7 of ``size``.
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
        strict: treat an image that ends early or is damaged as a bad row, not fill what is missing
            with grey (False).
        max_pixels: refuse encoded pictures of more (178,956,970).
        max_scans: refuse progressive JPEGs of more (100).
        max_chunks: refuse PNG and WebP files of more (100,000).

    Raises:
        ConfigError: an option cannot be used, a module of ``worker_imports`` cannot be imported, or
            there is no memory for the rings.
        SourceError: no such file, server, table or column.
        PlanError: no rows, too few of them for a batch or for the shards, or keys that are NULL,
            not unique or of no usable type.
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
        sample_weight: str | None = UNSET,
        batch_size: int = UNSET,
        workers: int | None = UNSET,
        slots: int | None = UNSET,
        on_error: str = UNSET,
        max_restarts: int = UNSET,
        drop_remainder: bool = UNSET,
        shuffle: bool = UNSET,
        shuffle_block: int = UNSET,
        seed: int = UNSET,
        shard: Any = UNSET,
        deterministic: bool = UNSET,
        with_keys: bool = UNSET,
        prefetch: int = UNSET,
        max_blob_bytes: int = UNSET,
        fetch_bytes: int | None = UNSET,
        consistency: str = UNSET,
        stall_timeout_s: float = UNSET,
        reconnect_timeout_s: float = UNSET,
        simd: str = UNSET,
        worker_imports: str | Sequence[str] = UNSET,
        trace: str | os.PathLike[str] | None = UNSET,
        cache: str | os.PathLike[str] | None = UNSET,
        cache_bytes: int | None = UNSET,
        size: PerColumn[tuple[int, int]] = UNSET,
        channels: PerColumn[int] = UNSET,
        fit: PerColumn[str] = UNSET,
        crop_fraction: PerColumn[float] = UNSET,
        scale: PerColumn[tuple[float, float]] = UNSET,
        ratio: PerColumn[tuple[float, float]] = UNSET,
        flip: PerColumn[bool] = UNSET,
        cache_size: PerColumn[tuple[int, int] | None] = UNSET,
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
        self._print: dict[str, Any] | None = None  # the plan's fingerprint, once it was needed
        self._delivery = delivery = Delivery(make_config(given))
        self._crew, self._progress, self._tally = delivery.crew, delivery.progress, delivery.tally
        self._config = self._crew.config  # with what depends on the table
        self._plan, self._feeders = self._crew.plan, self._crew.feeders

    # ---- iteration -----------------------------------------------------------------------------

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self._plan)

    def __iter__(self) -> Iterator[Any]:
        """The next epoch. An iterator that is still under way ends with SupersededError at its
        next pull."""
        return self._delivery.iterate(ahead=False, keep=self)

    def __call__(self) -> Iterator[Any]:
        """The next epoch, for ``tf.data.Dataset.from_generator``, which pulls batches before they
        are wanted."""
        return self._delivery.iterate(ahead=True, keep=self)

    # ---- resuming --------------------------------------------------------------------------------

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on from here: numbers and texts, fit for JSON.

        consumed: the batches that training has taken; None for all that were handed out, which
            is refused with :meth:`as_dataset` and under a DataLoader that Accelerate has prepared,
            since these run ahead. They are counted from the
            first batch after the loader was made, a state was loaded, or an iteration was begun
            after another had been left early; they may go on over any number of epochs.

        A signal handler may call it.

        Raises ConfigError if that is more than were handed out, or with ``deterministic=False``.
        """
        self._delivery.check_usable()
        if not self._config.deterministic:
            raise ConfigError(
                "with deterministic=False batches come in an order that nobody can go on with; "
                "resuming needs deterministic=True"
            )
        return self._progress.state(consumed, self._fingerprint())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The next iteration goes on where :meth:`state_dict` was asked for the state.

        Raises StateError, which says what is different, for a state of a loader with other batches:
        other keys, seed, batch size, order, shard, or another table.
        """
        self._delivery.check_usable()
        here = self._fingerprint()
        with self._delivery.lock:
            self._progress.load(state, here)

    def _fingerprint(self) -> dict[str, Any]:
        if self._print is None:
            self._print = fingerprint(self._config, self._plan, self._crew.keys())
        return dict(self._print)

    # ---- what it is and has done -----------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The options in force."""
        return self._config

    @property
    def columns(self) -> tuple[Column, ...]:
        """The label columns, with their types."""
        return self._crew.columns

    @property
    def key_column(self) -> Column:
        """The column of keys in a batch: int64, or text for uuids and text."""
        return self._crew.key_column

    @property
    def bad_rows(self) -> list[tuple[Key, str]]:
        """(key, reason) of the rows that were dropped or filled so far, each once."""
        self._delivery.check_ours()
        return list(self._tally.bad.copy().items())

    @property
    def partial_rows(self) -> list[tuple[Key, str]]:
        """(key, reason) of the rows whose images end early or are damaged, each once. They were
        delivered, with grey for what is missing."""
        self._delivery.check_ours()
        return list(self._tally.partial.copy().items())

    def stats(self) -> Stats:
        """Return what the loader has done so far. A signal handler may call it."""
        return self._delivery.stats()

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

    def as_dataset(self, device: str | None = None) -> tf.data.Dataset:
        """A ``tf.data.Dataset`` of the batches, in the loader's order; each iteration of it is the
        next epoch. device: such as "/GPU:0", to have them there in time.
        See :func:`fastloader.adapters.tensorflow.as_dataset`."""
        from .adapters import tensorflow

        return tensorflow.as_dataset(self, device)

    # ---- PyTorch and JAX -------------------------------------------------------------------------

    def as_torch(self, *, pin_memory: bool = False) -> torch.utils.data.IterableDataset[Any]:
        """A PyTorch dataset of the batches, as tensors over the ring: for ``DataLoader(dataset,
        batch_size=None, num_workers=0)``. See :func:`fastloader.adapters.torch.as_torch`."""
        from .adapters import torch

        return torch.as_torch(self, pin_memory=pin_memory)

    def as_jax(self, *, sharding: jax.sharding.Sharding | None = None) -> Iterable[Any]:
        """The batches as JAX arrays, laid out over devices as ``sharding`` says.
        See :func:`fastloader.adapters.jax.as_jax`."""
        from .adapters import jax

        return jax.as_jax(self, sharding=sharding)

    # ---- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """End the workers and give all memory back. Batches that were handed out stay valid.

        It may be called twice, from any thread, and from a signal handler. A second call finishes
        what an interrupted first one has left. Workers that are busy have a second to end, all of
        them together, before they are killed. Processes that have not ended five seconds after
        that, because they wait for a dead disk, are left to themselves, and the log says so.
        """
        self._delivery.close()

    @property
    def closed(self) -> bool:
        return self._delivery.closed

    def __enter__(self) -> FastLoader:
        self._delivery.check_usable()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        delivery = getattr(self, "_delivery", None)  # None if there is nothing to close
        if delivery is not None and not delivery.closed and delivery.is_ours:
            # Without source=self: whoever records warnings would keep the loader alive with it.
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2)

    def __reduce__(self) -> NoReturn:
        raise CopyError(
            "a FastLoader cannot be copied or pickled: its worker processes belong to it alone. "
            "Make another loader with the same options, in the process that will use it"
        )

    def __repr__(self) -> str:
        iteration = self._progress.iteration
        state = "closed" if self.closed else f"epoch {iteration.turn.epoch if iteration else -1}"
        return (
            f"<FastLoader {self._config.url}: {self._plan.rows} rows in {len(self)} batches, "
            f"{self._config.workers} workers, {state}>"
        )

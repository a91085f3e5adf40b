"""FastLoader, the public face of the package: its options. What it can do is in :mod:`.base`."""

# ruff: noqa: B008 -- default() returns a constant

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from .base import Loader
from .consumer.crew import Crew
from .consumer.delivery import Delivery
from .errors import ConfigError
from .fields.field import Field
from .options.config import make_config
from .options.given import UNSET, default, options_only
from .options.kinds import Param
from .options.sampling import Sampling
from .options.table import PerColumn
from .options.variables import warn_of_unknown_variables
from .transforms.step import Step

Transform: TypeAlias = Callable[..., Any] | Step | str
"""A function of rows, or its name, or what per_row() or per_batch() makes of a function."""

HIDDEN = ("self", "__class__")
"""What a constructor has among its local variables that is no option."""


class FastLoader(Loader):
    """Batches of decoded images and labels from a database table, epoch after epoch.

    Each iteration is the next epoch: it delivers every row once, in the order of the keys or
    shuffled. A batch is ``(images, labels)``, or ``(images, labels, weights)`` with
    `sample_weight`, or ``images`` alone with ``label=None``.

    * ``images``: an array of `dtype` with shape (n, height, width, channels), or (n, channels,
      height, width) with ``layout="NCHW"``; or a dict of such arrays if `image` is a list. n is
      `batch_size`; the last batch may have fewer rows, and so may any batch with
      ``on_error="skip"``.
    * ``labels``: an array of n values, int64, float64, bool or ``str`` objects, or uint8 with shape
      (n, length) for blobs; or a dict of such arrays if `label` is a list.
    * ``weights``: an array of n numbers.
    * With `with_keys`, ``images`` is always a dict by column and also holds the keys,
      ``{"image_data": images, "id": keys}``: int64 with shape (n,), or ``str`` objects for UUIDs
      and text. Keys are never an element of their own, because Keras takes a second element for
      targets and a third one for sample weights.

    The arrays lie in shared memory. They stay valid as long as anything refers to them, and you may
    write to them.

    Every option can also be set by an environment variable, ``FASTLOADER_`` and its name in
    capitals, such as ``FASTLOADER_BATCH_SIZE``; an argument overrides it. An option of images,
    "or dict" below, takes one value for all image columns, or a dict from columns to values;
    columns that are missing from the dict have the default.

    Parameters
    ----------
    url : str or path
        The database. A path or `sqlite:///photos.db` opens a SQLite file
        (`sqlite:////data/photos.db` with an absolute path); `postgresql://user@host/database` or
        libpq's `host=... dbname=...` connects to PostgreSQL.
    table : str or None, default "images"
        The table or view to read. In PostgreSQL the name may include the schema: `schema.images`.
    query : str or None, default None
        A `SELECT` statement to read from instead of a table.
    where : str or None, default None
        The condition for the rows of `table` to load, in SQL and without the word `WHERE`: `"split
        = 'train' AND width >= $1"`. `$1`, `$2` and so on stand for `params`.
    params : list of values or None, default ()
        The values of `$1`, `$2` and so on in `where`, as a list of numbers, texts, bytes, bools and
        None. The database gets them apart from the SQL, so text needs no quotes. The variable has a
        list in JSON.
    split : str or None, default None
        The part of the rows to load, as `"START:END"` from 0 to 1: `":0.9"` for training and
        `"0.9:"` for testing have no row in common and leave none out. A row is in the same part
        forever, in every database, whatever other rows there are.
    split_by : str or None, default None
        The column that decides about the part, such as that of a patient: rows with the same value
        are in the same part. None takes the key.
    key : str or list of str, default "id"
        The column of unique keys: integers, text or UUIDs; or a list of columns. Use the primary
        key if you can; the `rowid` of an ordinary SQLite table works as well.
    image : str, list of str or None, default "image_data"
        The column of encoded images, a list of such columns, or None for a table without images.
    fields : dict from str to field or None, default None
        In place of `image`: what a batch holds, as a dict from names to fields such as `Image`,
        `Number`, `Text` and `Array`. The variable names a file in TOML or JSON.
    label : str, list of str or None, default "label"
        The column of labels, a list of columns, or None for no labels. `"label:int32"` asks for a
        type; a value that does not fit makes its row a bad row. A float may be rounded to a smaller
        float type. It can also be a field, or a dict from names to fields. With `fields`, the
        default is None.
    sample_weight : str or None, default None
        The column of each row's weight in the loss. A batch is then `(images, labels, weights)`, as
        Keras takes it.
    batch_size : int, default 64
        Rows in a batch. The last batch of an epoch may have fewer.
    drop_remainder : bool, default False
        Leave out the last batch of an epoch if it has fewer than `batch_size` rows.
    with_keys : bool, default False
        Deliver the keys as well. The images of a batch are then a dict with the names of the
        columns: `{"image_data": images, "id": keys}`.
    on_error : {"raise", "skip", "fill"}, default "raise"
        What to do with a bad row, one that cannot be delivered as the options ask: `"raise"` raises
        RowError, `"skip"` drops the row from its batch, and `"fill"` delivers zeros in its place. A
        batch that has lost all of its rows is left out, but with a `shard` it is delivered empty,
        so that all shards take the same number of steps.
    transform : function, str, list or None, default ()
        A function of your own that the workers run on each row, `function(row, rng)`, or a list of
        such functions and of `per_row(...)` and `per_batch(...)`. A text names it:
        `"package.module:function"`.
    transform_timeout_s : float, default 300.0
        How long a function of `transform` may take for a row or a batch, in seconds. A worker whose
        function takes longer is replaced, within `max_restarts`.
    cache_transformed : bool, default False
        Have the `cache` keep what the first functions of rows in `transform` make, so that they run
        once for each row. Their `rng` is then the same in each epoch.
    transform_version : str or None, default None
        With `cache_transformed`: a text that you change whenever those functions change.
    shuffle : bool, default False
        Deliver the rows in a new random order in each epoch. The order is a function of `seed` and
        the epoch's number.
    shuffle_block : int, default 1
        Number of consecutive rows that stay together when shuffled. Larger blocks need fewer seeks
        where the table does not fit into memory.
    sampling : "balanced", Balanced, Weighted, ClassBatch or None, default None
        Which rows come more often than others: `"balanced"` has all classes of the label equally
        often, `Weighted` takes the weights of rows from a column, and `ClassBatch` makes batches of
        some classes with some rows of each. The order is random, as with `shuffle`. None has every
        row once.
    epoch_rows : int or None, default None
        The number of rows in an epoch, of all shards together. The next epoch goes on where it
        ends. None takes the number of rows in the table.
    seed : int, default 0
        Seed of the random order, of sampling, and of random crops and flips.
    shard : (int, int), tf.distribute.InputContext, module or None, default (0, 1)
        This loader's part of each epoch as `(index, count)`: `(0, 8)` to `(7, 8)` on eight hosts.
        It can also be the object that knows: a `tf.distribute.InputContext`, or the module
        `torch.distributed` or `jax`. All shards have the same number of batches.
    deterministic : bool, default True
        Deliver the batches in their order. False delivers each batch as soon as it is ready, which
        helps where single images take very long, but then the loader cannot be resumed.
    workers : int or None, default None
        Number of worker processes. None starts one for each core that this process may use by its
        CPU affinity and control groups; 0 decodes in the calling process.
    slots : int or None, default None
        Number of batches in each worker's ring, at least 2. None takes 8, up to 32 for small
        batches, and fewer where memory is short. The rings take `workers` x `slots` batches of
        shared memory.
    prefetch : int, default 2
        Number of batches that the dataset of `as_dataset` keeps ready.
    max_restarts : int, default 3
        Number of worker processes that may die in one epoch and are replaced. The next one that
        dies raises WorkerDied.
    worker_imports : str, list of str or None, default ()
        A module, or a list of modules, to import wherever images are decoded: for example
        `"pillow_heif.HeifImagePlugin"`, which adds a format to Pillow.
    simd : {"auto", "portable"}, default "auto"
        `"portable"` does without vector instructions. The pixels are the same.
    max_blob_bytes : int, default 67108864 (64 MiB)
        Largest encoded image, in bytes. A larger one is a bad row, and is refused before it is
        fetched.
    fetch_bytes : int or None, default None
        Approximate number of bytes of values to fetch at once. None takes 4 MiB from PostgreSQL and
        1 MiB from SQLite.
    consistency : {"snapshot", "latest"}, default "snapshot"
        For PostgreSQL. With `"snapshot"` all epochs see the table as it was when the loader was
        made; with `"latest"` every fetch sees it as it is at that moment.
    follow : {"epoch"} or None, default None
        `"epoch"` looks at the table anew before each epoch, so that rows that were added since come
        in the next one. None keeps the rows that were there when the loader was made, until you
        call `refresh()`.
    stall_timeout_s : float, default 60.0
        For PostgreSQL. A server that sends nothing for this many seconds counts as lost.
    reconnect_timeout_s : float, default 30.0
        For PostgreSQL. How long to try to restore a lost connection, in seconds.
    cache : str, path or None, default None
        Where to keep decoded images and labels, so that later epochs copy them instead: `"ram"` for
        the memory of this loader, or a folder, which other loaders and later runs share. None keeps
        nothing.
    cache_bytes : int or None, default None
        The most that the cache may take, in bytes. Rows that do not fit are decoded in each epoch.
        None takes half of the available memory, or half of the disk's free space.
    trace : str, path or None, default None
        A file to write a timeline of all processes to, for https://ui.perfetto.dev. `%p` in the
        name stands for the process ID.
    size : (int, int) or dict, default (224, 224)
        Height and width of the delivered images, in pixels.
    channels : {3, 1} or dict, default 3
        3 for RGB, 1 for luma (grayscale).
    fit : {"stretch", "crop", "pad", "random_crop"} or dict, default "stretch"
        How an image is made to fit `size`. `"stretch"` ignores its proportions; `"crop"` takes the
        largest centered box that has the wanted proportions; `"pad"` takes the whole image and puts
        `background` around it; `"random_crop"` takes a different random box in each epoch.
    crop_fraction : float or dict, default 1.0
        With `fit="crop"`, the sides of the box as a fraction of the largest one. 0.875 stands for
        the usual resize to 256 and crop to 224.
    scale : (float, float) or dict, default (0.08, 1.0)
        With `fit="random_crop"`, the least and the greatest share of the image's area that a box
        takes.
    ratio : (float, float) or dict, default (3/4, 4/3)
        With `fit="random_crop"`, the least and the greatest width / height of a box.
    flip : bool or dict, default False
        Mirror half of the rows from left to right, different ones in each epoch. Flips and random
        crops depend on nothing but `seed`, the epoch and the row's key.
    cache_size : (int, int), None or dict, default None
        With a `cache` and `fit="random_crop"`, height and width in pixels of the images that are
        kept. The boxes are taken from these, in the first epoch as well. None takes 8/7 of `size`:
        256 x 256 for 224 x 224.
    filter : {"nearest", "box", "bilinear", "bicubic", "lanczos"} or dict, default "bilinear"
        The filter of the resize, as Pillow defines it. `"nearest"` is for masks: it keeps the
        numbers of classes.
    orientation : bool or dict, default True
        Rotate and mirror images as the orientation in their EXIF data asks.
    quality : {"exact", "fast"} or dict, default "exact"
        `"fast"` takes less time for images that become much smaller, and changes their pixels
        slightly: JPEGs are decoded at a reduced size, and WebPs without their smoothing filters.
    background : int, (int, int, int), None or dict, default None
        The color that shows behind transparent images and around padded ones: red, green and blue,
        each from 0 to 255. None drops the alpha channel and pads with black.
    layout : {"NHWC", "NCHW"} or dict, default "NHWC"
        The axes of an array of images. `"NHWC"` is (n, height, width, channels), `"NCHW"` is (n,
        channels, height, width).
    dtype : {"uint8", "float32", "float16", "bfloat16"}, dtype or dict, default "uint8"
        The type of an array of images. `uint8` holds levels from 0 to 255; the float types hold
        `(level / 255 - mean) / std`. `bfloat16` needs the package ml_dtypes.
    mean : float, (float, float, float) or dict, default (0.0, 0.0, 0.0)
        For the float types: what is subtracted from a level, on the scale from 0 to 1. One number,
        or one for each of red, green and blue.
    std : float, (float, float, float) or dict, default (1.0, 1.0, 1.0)
        For the float types: what the difference is then divided by, on the same scale. One number,
        or one for each of red, green and blue.
    strict : bool or dict, default False
        Make an image that ends early or is damaged a bad row. Otherwise the missing part is gray,
        and `partial_rows` lists the row.
    max_pixels : int or dict, default 178956970
        Most pixels, width x height, of an encoded image. A larger one is a bad row, and is refused
        before it takes memory. Decoding takes up to 25 bytes for each pixel.
    max_scans : int or dict, default 100
        Most scans of a progressive JPEG. One that has more is a bad row.
    max_chunks : int or dict, default 100000
        Most chunks of a PNG or WebP file. One that has more is a bad row.

    Raises
    ------
    ConfigError
        An option cannot be used, a module of `worker_imports` cannot be imported, or there is not
        enough memory for the rings.
    SourceError
        The database cannot be used: no such file, server, table or column.
    PlanError
        The table has no rows, too few of them for a batch or for the shards, or keys that are NULL,
        not unique or of an unsupported type.

    Examples
    --------
    >>> from fastloader import FastLoader
    >>> with FastLoader("photos.db", batch_size=32, shuffle=True) as loader:
    ...     for images, labels in loader:
    ...         print(images.shape, labels.dtype)
    (32, 224, 224, 3) int64
    (32, 224, 224, 3) int64
    (6, 224, 224, 3) int64
    """

    @options_only
    def __init__(
        self,
        url: str | os.PathLike[str] = UNSET,
        *,
        table: str | None = default("images"),
        query: str | None = default(None),
        where: str | None = default(None),
        params: Sequence[Param] | None = default(()),
        split: str | None = default(None),
        split_by: str | None = default(None),
        key: str | Sequence[str] = default("id"),
        image: str | Sequence[str] | None = default("image_data"),
        fields: Mapping[str, Field] | None = default(None),
        label: str | Sequence[str] | Field | Mapping[str, Field] | None = default("label"),
        sample_weight: str | None = default(None),
        batch_size: int = default(64),
        drop_remainder: bool = default(False),
        with_keys: bool = default(False),
        on_error: Literal["raise", "skip", "fill"] = default("raise"),
        transform: Transform | Sequence[Transform] | None = default(()),
        transform_timeout_s: float = default(300.0),
        cache_transformed: bool = default(False),
        transform_version: str | None = default(None),
        shuffle: bool = default(False),
        shuffle_block: int = default(1),
        sampling: Sampling | Literal["balanced"] | None = default(None),
        epoch_rows: int | None = default(None),
        seed: int = default(0),
        shard: Any = default((0, 1)),
        deterministic: bool = default(True),
        workers: int | None = default(None),
        slots: int | None = default(None),
        prefetch: int = default(2),
        max_restarts: int = default(3),
        worker_imports: str | Sequence[str] | None = default(()),
        simd: Literal["auto", "portable"] = default("auto"),
        max_blob_bytes: int = default(64 << 20),
        fetch_bytes: int | None = default(None),
        consistency: Literal["snapshot", "latest"] = default("snapshot"),
        follow: Literal["epoch"] | None = default(None),
        stall_timeout_s: float = default(60.0),
        reconnect_timeout_s: float = default(30.0),
        cache: str | os.PathLike[str] | None = default(None),
        cache_bytes: int | None = default(None),
        trace: str | os.PathLike[str] | None = default(None),
        size: PerColumn[tuple[int, int]] = default((224, 224)),
        channels: PerColumn[Literal[3, 1]] = default(3),
        fit: PerColumn[Literal["stretch", "crop", "pad", "random_crop"]] = default("stretch"),
        crop_fraction: PerColumn[float] = default(1.0),
        scale: PerColumn[tuple[float, float]] = default((0.08, 1.0)),
        ratio: PerColumn[tuple[float, float]] = default((3 / 4, 4 / 3)),
        flip: PerColumn[bool] = default(False),
        cache_size: PerColumn[tuple[int, int] | None] = default(None),
        filter: PerColumn[Literal["nearest", "box", "bilinear", "bicubic", "lanczos"]] = default(
            "bilinear"
        ),
        orientation: PerColumn[bool] = default(True),
        quality: PerColumn[Literal["exact", "fast"]] = default("exact"),
        background: PerColumn[tuple[int, int, int] | None] = default(None),
        layout: PerColumn[Literal["NHWC", "NCHW"]] = default("NHWC"),
        dtype: PerColumn[Any] = default("uint8"),
        mean: PerColumn[float | Sequence[float]] = default((0.0, 0.0, 0.0)),
        std: PerColumn[float | Sequence[float]] = default((1.0, 1.0, 1.0)),
        strict: PerColumn[bool] = default(False),
        max_pixels: PerColumn[int] = default(178956970),
        max_scans: PerColumn[int] = default(100),
        max_chunks: PerColumn[int] = default(100000),
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in HIDDEN}
        warn_of_unknown_variables(stacklevel=3)
        super().__init__(Delivery(make_config(given), Crew))

    def refresh(self, rows: int | None = None) -> int:
        """Look at the table anew: the next epoch has the rows that are in it now.

        Call it between two epochs. An iteration that is under way ends with SupersededError at its
        next pull. Workers start anew, and the snapshot of PostgreSQL that they had read from ends.
        If it fails, for example because the database cannot be reached, the loader goes on with the
        rows that it had. With ``follow="epoch"`` you need not call it.

        Parameters
        ----------
        rows
            Take only the first rows of the table, in the order of the keys. With several shards,
            all must have the same rows: refresh one of them, send the number that it returns to
            the others, and pass it there. None takes all rows.

        Returns
        -------
        int
            The number of rows of the table that epochs have from now on.

        Raises
        ------
        PlanError
            The table has no rows any more, or fewer than ``rows``.
        ConfigError
            A column has another type now, or another class; or the loader is part of a mixture.
        SourceError
            The table cannot be read.

        Examples
        --------
        >>> with FastLoader("photos.db") as growing:
        ...     growing.refresh()
        70
        """
        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            raise ConfigError(f"rows={rows!r} must be a number of rows, or None for all")
        return self._delivery.refresh(rows)

    def _what(self) -> str:
        """See :meth:`fastloader.base.Loader._what`."""
        return str(self.config.url)

"""The table of options: the one place where an option is written.

A row is a field of a dataclass, so that name, type, default, kind, group and description stand
together, and type checkers know the fields of a configuration. Everything else is made from the
rows: the checks, the environment variables and the arguments of the command line when the program
runs; the parameters in the docstring of :class:`fastloader.FastLoader` and the tables of
docs/reference/options.md by ``python tools/options_table.py``. The signature of ``FastLoader`` is
written by hand, for type checkers and editors, as are the kernel's own defaults; tests compare both
with the table.
"""

# ruff: noqa: RUF009 -- what a group's option() returns is a dataclass field

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from ..checks import kinds
from ..checks.option import Group, options_of
from ..fields.field import Field
from ..fields.image import Image
from ..transforms.step import Step
from .kinds import (
    CONDITION,
    FIELDS,
    LABEL,
    MODULES,
    PARAMS,
    SAMPLING,
    SHARD,
    SPLIT,
    TRANSFORM,
    URL,
    WEIGHT,
    Param,
)
from .sampling import Sampling
from .url import DatabaseUrl

T = TypeVar("T")
PerColumn: TypeAlias = T | Mapping[str, T]
"""One value for all image columns, or a value for each of some columns."""

ROWS = Group("Rows and columns")
BATCHES = Group("Batches")
TRANSFORMS = Group("Your Python")
ORDER = Group("Order")
PROCESSES = Group("Processes and memory")
DATABASE = Group("Database")
CACHE = Group("Cache")
OBSERVING = Group("Observing")
IMAGES = Group("Images", per_column=True)
LIMITS = Group("Damaged and hostile images", per_column=True)


@dataclass(frozen=True, init=False, repr=False, eq=False)  # Config gets these methods
class Options:
    """The rows of the table, in the order of the signature and of the documentation."""

    # ---- rows and columns ------------------------------------------------------------------------

    url: DatabaseUrl = field(
        metadata=ROWS.metadata(
            URL,
            "The database. A path or `sqlite:///photos.db` opens a SQLite file "
            "(`sqlite:////data/photos.db` with an absolute path); "
            "`postgresql://user@host/database` or libpq's `host=... dbname=...` connects to "
            "PostgreSQL.",
            see="../guides/databases.md",
        )
    )
    table: str | None = ROWS.option(
        "images",
        kinds.optional(kinds.NAME),
        "The table or view to read. In PostgreSQL the name may include the schema: "
        "`schema.images`.",
    )
    query: str | None = ROWS.option(
        None, kinds.optional(kinds.NAME), "A `SELECT` statement to read from instead of a table."
    )
    where: str | None = ROWS.option(
        None,
        CONDITION,
        "The condition for the rows of `table` to load, in SQL and without the word `WHERE`: "
        "`\"split = 'train' AND width >= $1\"`. `$1`, `$2` and so on stand for `params`.",
        see="../guides/choosing-rows.md",
    )
    params: tuple[Param, ...] = ROWS.option(
        (),
        PARAMS,
        "The values of `$1`, `$2` and so on in `where`, as a list of numbers, texts, bytes, bools "
        "and None. The database gets them apart from the SQL, so text needs no quotes. The "
        "variable has a list in JSON.",
        see="../guides/choosing-rows.md",
    )
    split: str | None = ROWS.option(
        None,
        SPLIT,
        'The part of the rows to load, as `"START:END"` from 0 to 1: `":0.9"` for training and '
        '`"0.9:"` for testing have no row in common and leave none out. A row is in the same part '
        "forever, in every database, whatever other rows there are.",
        see="../guides/choosing-rows.md#split-a-table-split",
    )
    split_by: str | None = ROWS.option(
        None,
        kinds.optional(kinds.NAME),
        "The column that decides about the part, such as that of a patient: rows with the same "
        "value are in the same part. None takes the key.",
        see="../guides/choosing-rows.md#split-a-table-split",
    )
    key: str | tuple[str, ...] = ROWS.option(
        "id",
        kinds.NAMES,
        "The column of unique keys: integers, text or UUIDs; or a list of columns. "
        "Use the primary key if you can; the `rowid` of an ordinary SQLite table works as well.",
    )
    image: str | tuple[str, ...] | None = ROWS.option(
        "image_data",
        kinds.optional(kinds.NAMES),
        "The column of encoded images, a list of such columns, or None for a table without images.",
        see="../explanation/pixels.md",
    )
    fields: Mapping[str, Field] | None = ROWS.option(
        None,
        FIELDS,
        "In place of `image`: what a batch holds, as a dict from names to fields such as `Image`, "
        "`Number`, `Text` and `Array`. The variable names a file in TOML or JSON.",
        see="../guides/fields.md",
    )
    label: str | tuple[str, ...] | Field | Mapping[str, Field] | None = ROWS.option(
        "label",
        LABEL,
        'The column of labels, a list of columns, or None for no labels. `"label:int32"` asks for '
        "a type; a value that does not fit makes its row a bad row. A float may be rounded to a "
        "smaller float type. It can also be a field, or a dict from names to fields. With "
        "`fields`, the default is None.",
    )
    sample_weight: str | None = ROWS.option(
        None,
        WEIGHT,
        "The column of each row's weight in the loss. A batch is then `(images, labels, "
        "weights)`, as Keras takes it.",
    )

    # ---- batches ---------------------------------------------------------------------------------

    batch_size: int = BATCHES.option(
        64,
        kinds.integer(1, 1_000_000),
        "Rows in a batch. The last batch of an epoch may have fewer.",
    )
    drop_remainder: bool = BATCHES.option(
        False,
        kinds.FLAG,
        "Leave out the last batch of an epoch if it has fewer than `batch_size` rows.",
    )
    with_keys: bool = BATCHES.option(
        False,
        kinds.FLAG,
        "Deliver the keys as well. The images of a batch are then a dict with the names of the "
        'columns: `{"image_data": images, "id": keys}`.',
        see="../explanation/batches.md#get-the-keys-with-each-batch",
    )
    on_error: str = BATCHES.option(
        "raise",
        kinds.choice("raise", "skip", "fill"),
        'What to do with a bad row, one that cannot be delivered as the options ask: `"raise"` '
        'raises RowError, `"skip"` drops the row from its batch, and `"fill"` delivers zeros in '
        "its place. A batch that has lost all of its rows is left out, but with a `shard` it is "
        "delivered empty, so that all shards take the same number of steps.",
        see="../guides/several-hosts.md#several-training-hosts",
    )

    # ---- transforms ------------------------------------------------------------------------------

    transform: tuple[Step, ...] = TRANSFORMS.option(
        (),
        TRANSFORM,
        "A function of your own that the workers run on each row, `function(row, rng)`, or a list "
        "of such functions and of `per_row(...)` and `per_batch(...)`. A text names it: "
        '`"package.module:function"`.',
        see="../guides/transforms.md",
    )
    transform_timeout_s: float = TRANSFORMS.option(
        300.0,
        kinds.SECONDS,
        "How long a function of `transform` may take for a row or a batch, in seconds. A worker "
        "whose function takes longer is replaced, within `max_restarts`.",
        see="../guides/transforms.md#what-can-go-wrong",
    )
    cache_transformed: bool = TRANSFORMS.option(
        False,
        kinds.FLAG,
        "Have the `cache` keep what the first functions of rows in `transform` make, so that they "
        "run once for each row. Their `rng` is then the same in each epoch.",
        see="../guides/transforms.md#cache-what-a-transform-makes",
    )
    transform_version: str | None = TRANSFORMS.option(
        None,
        kinds.optional(kinds.NAME),
        "With `cache_transformed`: a text that you change whenever those functions change.",
        see="../guides/transforms.md#cache-what-a-transform-makes",
    )

    # ---- order -----------------------------------------------------------------------------------

    shuffle: bool = ORDER.option(
        False,
        kinds.FLAG,
        "Deliver the rows in a new random order in each epoch. The order is a function of `seed` "
        "and the epoch's number.",
        see="../guides/order-and-resume.md",
    )
    shuffle_block: int = ORDER.option(
        1,
        kinds.integer(1, 2**40),
        "Number of consecutive rows that stay together when shuffled. Larger blocks need fewer "
        "seeks where the table does not fit into memory.",
    )
    sampling: Sampling | None = ORDER.option(
        None,
        SAMPLING,
        'Which rows come more often than others: `"balanced"` has all classes of the label equally '
        "often, `Weighted` takes the weights of rows from a column, and `ClassBatch` makes batches "
        "of some classes with some rows of each. The order is random, as with `shuffle`. None has "
        "every row once.",
        see="../guides/sampling.md",
    )
    epoch_rows: int | None = ORDER.option(
        None,
        kinds.optional(kinds.integer(1, 2**48)),
        "The number of rows in an epoch, of all shards together. The next epoch goes on where it "
        "ends. None takes the number of rows in the table.",
        see="../guides/sampling.md#epochs-of-another-length",
    )
    seed: int = ORDER.option(
        0,
        kinds.integer(0, 2**64 - 1),
        "Seed of the random order, of sampling, and of random crops and flips.",
    )
    shard: tuple[int, int] = ORDER.option(
        (0, 1),
        SHARD,
        "This loader's part of each epoch as `(index, count)`: `(0, 8)` to `(7, 8)` on eight "
        "hosts. It can also be the object that knows: a `tf.distribute.InputContext`, or the "
        "module `torch.distributed` or `jax`. All shards have the same number of batches.",
        see="../guides/several-hosts.md#several-training-hosts",
    )
    deterministic: bool = ORDER.option(
        True,
        kinds.FLAG,
        "Deliver the batches in their order. False delivers each batch as soon as it is ready, "
        "which helps where single images take very long, but then the loader cannot be resumed.",
    )

    # ---- processes and memory --------------------------------------------------------------------

    workers: int = PROCESSES.option(
        0,
        kinds.optional(kinds.integer(0, 1024)),
        "Number of worker processes. None starts one for each core that this process may use by "
        "its CPU affinity and control groups; 0 decodes in the calling process.",
        shown="None",
        see="../guides/tuning.md",
    )
    slots: int | None = PROCESSES.option(
        None,
        kinds.optional(kinds.integer(2, 1024)),
        "Number of batches in each worker's ring, at least 2. None takes 8, up to 32 for small "
        "batches, and fewer where memory is short. The rings take `workers` x `slots` batches of "
        "shared memory.",
        see="../explanation/batches.md",
    )
    prefetch: int = PROCESSES.option(
        2, kinds.integer(0, 1024), "Number of batches that the dataset of `as_dataset` keeps ready."
    )
    max_restarts: int = PROCESSES.option(
        3,
        kinds.integer(0, 1_000_000),
        "Number of worker processes that may die in one epoch and are replaced. The next one that "
        "dies raises WorkerDied.",
    )
    worker_imports: tuple[str, ...] = PROCESSES.option(
        (),
        MODULES,
        "A module, or a list of modules, to import wherever images are decoded: for example "
        '`"pillow_heif.HeifImagePlugin"`, which adds a format to Pillow.',
        see="../explanation/pixels.md#formats-of-other-packages",
    )
    simd: str = PROCESSES.option(
        "auto",
        kinds.choice("auto", "portable"),
        '`"portable"` does without vector instructions. The pixels are the same.',
    )

    # ---- database --------------------------------------------------------------------------------

    max_blob_bytes: int = DATABASE.option(
        64 << 20,
        kinds.integer(1, 1 << 30),
        "Largest encoded image, in bytes. A larger one is a bad row, and is refused before it is "
        "fetched.",
        shown="67108864 (64 MiB)",
    )
    fetch_bytes: int | None = DATABASE.option(
        None,
        kinds.optional(kinds.integer(1, 1 << 30)),
        "Approximate number of bytes of values to fetch at once. None takes 4 MiB from "
        "PostgreSQL and 1 MiB from SQLite.",
    )
    consistency: str = DATABASE.option(
        "snapshot",
        kinds.choice("snapshot", "latest"),
        'For PostgreSQL. With `"snapshot"` all epochs see the table as it was when the loader was '
        'made; with `"latest"` every fetch sees it as it is at that moment.',
        see="../guides/databases.md",
    )
    follow: str | None = DATABASE.option(
        None,
        kinds.optional(kinds.choice("epoch")),
        '`"epoch"` looks at the table anew before each epoch, so that rows that were added since '
        "come in the next one. None keeps the rows that were there when the loader was made, until "
        "you call `refresh()`.",
        see="../guides/growing-tables.md",
    )
    stall_timeout_s: float = DATABASE.option(
        60.0,
        kinds.SECONDS,
        "For PostgreSQL. A server that sends nothing for this many seconds counts as lost.",
    )
    reconnect_timeout_s: float = DATABASE.option(
        30.0,
        kinds.SECONDS,
        "For PostgreSQL. How long to try to restore a lost connection, in seconds.",
    )

    # ---- cache -----------------------------------------------------------------------------------

    cache: str | None = CACHE.option(
        None,
        kinds.optional(kinds.PATH),
        'Where to keep decoded images and labels, so that later epochs copy them instead: `"ram"` '
        "for the memory of this loader, or a folder, which other loaders and later runs share. "
        "None keeps nothing.",
        see="../guides/caching.md",
    )
    cache_bytes: int | None = CACHE.option(
        None,
        kinds.optional(kinds.integer(1, 2**62)),
        "The most that the cache may take, in bytes. Rows that do not fit are decoded in each "
        "epoch. None takes half of the available memory, or half of the disk's free space.",
    )

    # ---- observing -------------------------------------------------------------------------------

    trace: str | None = OBSERVING.option(
        None,
        kinds.optional(kinds.PATH),
        "A file to write a timeline of all processes to, for https://ui.perfetto.dev. `%p` in the "
        "name stands for the process ID.",
    )

    # ---- images ----------------------------------------------------------------------------------
    # They are the options of a field that is an Image.

    size: PerColumn[tuple[int, int]] = IMAGES.like(Image, "size")
    channels: PerColumn[int] = IMAGES.like(Image, "channels")
    fit: PerColumn[str] = IMAGES.like(Image, "fit")
    crop_fraction: PerColumn[float] = IMAGES.like(Image, "crop_fraction")
    scale: PerColumn[tuple[float, float]] = IMAGES.like(Image, "scale")
    ratio: PerColumn[tuple[float, float]] = IMAGES.like(Image, "ratio")
    flip: PerColumn[bool] = IMAGES.like(Image, "flip")
    cache_size: PerColumn[tuple[int, int] | None] = IMAGES.like(Image, "cache_size")
    filter: PerColumn[str] = IMAGES.like(Image, "filter")
    orientation: PerColumn[bool] = IMAGES.like(Image, "orientation")
    quality: PerColumn[str] = IMAGES.like(Image, "quality")
    background: PerColumn[tuple[int, int, int] | None] = IMAGES.like(Image, "background")
    layout: PerColumn[str] = IMAGES.like(Image, "layout")
    dtype: PerColumn[str] = IMAGES.like(Image, "dtype")
    mean: PerColumn[tuple[float, float, float]] = IMAGES.like(Image, "mean")
    std: PerColumn[tuple[float, float, float]] = IMAGES.like(Image, "std")
    strict: PerColumn[bool] = LIMITS.like(Image, "strict")
    max_pixels: PerColumn[int] = LIMITS.like(Image, "max_pixels")
    max_scans: PerColumn[int] = LIMITS.like(Image, "max_scans")
    max_chunks: PerColumn[int] = LIMITS.like(Image, "max_chunks")


OPTIONS = options_of(Options)
"""The options by name, in the order of the table."""

IMAGE_OPTIONS = tuple(name for name, one in OPTIONS.items() if one.group.per_column)
"""The names of the options that each image column can have its own value of."""

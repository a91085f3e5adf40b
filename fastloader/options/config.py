"""The options of a loader: their defaults, their checks, and the environment variables.

This is the only place that reads ``FASTLOADER_...``. An argument wins over the variable, the
variable over the default; both are checked by the same function.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from ..errors import ConfigError
from ..system.machine import cores
from . import kinds
from .kinds import Kind
from .labels import split_label
from .url import DatabaseUrl, parse_url, with_connect_timeout

UNSET: Any = type("Unset", (), {"__repr__": lambda _: "..."})()
"""Stands for an option that was not given, so that None can be given."""

T = TypeVar("T")
PerColumn: TypeAlias = T | Mapping[str, T]
"""One value for all image columns, or one for each."""


@dataclass(frozen=True)
class Config:
    """The options of a loader, checked.

    url: of the database. As text it holds no password; ``url.secret`` does.
    table, query: where the rows come from; exactly one of them is a string.
    key: name of a column.
    image: name of a column, or several.
    label: name of a column, several, or None; ``"name:dtype"`` asks for a type.
    sample_weight: name of a column, likewise, or None.
    batch_size: rows in a batch; the last one may have fewer.
    workers: processes; 0 works in the calling process.
    slots: batches that the ring of each worker holds; None for what suits their size.
    on_error: what to do with a bad row: "raise", "skip" or "fill".
    max_restarts: dead workers that are replaced in one epoch.
    drop_remainder: leave out a last batch of fewer than batch_size rows.
    shuffle: another random order in each epoch.
    shuffle_block: consecutive rows that stay together when shuffled.
    seed: of the order, and of crops and flips.
    shard: (index, count): which of how many equal parts of each epoch to deliver.
    deterministic: batches in the order of the plan, or as they come.
    with_keys: deliver the keys too, beside the images.
    prefetch: batches that ``as_dataset`` keeps ready at its end.
    max_blob_bytes: of an encoded picture that is still fetched.
    fetch_bytes: of blobs that are fetched at once, about; None for the database's default.
    consistency: "snapshot" or "latest"; for PostgreSQL.
    stall_timeout_s: without a byte from the server, in seconds.
    reconnect_timeout_s: of attempts to get a lost connection back, in seconds.
    simd: "auto", or "portable" for no vector instructions.
    worker_imports: modules to import where images are decoded, such as plugins of Pillow's.
    trace: a file to write where the time goes to, for Perfetto; ``%p`` in it is the process.
    cache: where to keep decoded rows for later epochs, "ram" or a folder; None for nowhere.
    cache_bytes: that it may take; None for half of what is free.

    The rest is about the images. Each may be a dict instead, from some of the image columns to
    their values; the others then have the default.

    size: (height, width) in pixels.
    channels: 3 for RGB, 1 for luma.
    fit: "stretch", "crop", "pad" or "random_crop".
    crop_fraction: for "crop".
    scale, ratio: for "random_crop".
    flip: mirror one row in two.
    cache_size: (height, width) of pictures that are kept for random crops.
    filter: "nearest", "box", "bilinear", "bicubic" or "lanczos".
    orientation: turn pictures as their EXIF data asks.
    quality: "exact" or "fast".
    background: colour under alpha, and around what is padded; None drops alpha and pads in black.
    layout: "NHWC" or "NCHW".
    dtype: "uint8", "float32", "float16" or "bfloat16".
    mean, std: of the float types, for levels from 0 to 1.
    strict: a blob that ends early or is damaged is a bad row.
    max_pixels: width times height of an encoded picture that is still decoded.
    max_scans: of a JPEG that is still decoded.
    max_chunks: of a PNG or WebP file that is still decoded.
    """

    url: DatabaseUrl
    table: str | None = "images"
    query: str | None = None
    key: str = "id"
    image: str | tuple[str, ...] = "image_data"
    label: str | tuple[str, ...] | None = "label"
    sample_weight: str | None = None
    batch_size: int = 64
    workers: int = 0
    slots: int | None = None
    on_error: str = "raise"
    max_restarts: int = 3
    drop_remainder: bool = False
    shuffle: bool = False
    shuffle_block: int = 1
    seed: int = 0
    shard: tuple[int, int] = (0, 1)
    deterministic: bool = True
    with_keys: bool = False
    prefetch: int = 2
    max_blob_bytes: int = 64 << 20
    fetch_bytes: int | None = None
    consistency: str = "snapshot"
    stall_timeout_s: float = 60.0
    reconnect_timeout_s: float = 30.0
    simd: str = "auto"
    worker_imports: tuple[str, ...] = ()
    trace: str | None = None
    cache: str | None = None
    cache_bytes: int | None = None

    size: PerColumn[tuple[int, int]] = (224, 224)
    channels: PerColumn[int] = 3
    fit: PerColumn[str] = "stretch"
    crop_fraction: PerColumn[float] = 1.0
    scale: PerColumn[tuple[float, float]] = (0.08, 1.0)
    ratio: PerColumn[tuple[float, float]] = (3 / 4, 4 / 3)
    flip: PerColumn[bool] = False
    cache_size: PerColumn[tuple[int, int] | None] = None
    filter: PerColumn[str] = "bilinear"
    orientation: PerColumn[bool] = True
    quality: PerColumn[str] = "exact"
    background: PerColumn[tuple[int, int, int] | None] = None
    layout: PerColumn[str] = "NHWC"
    dtype: PerColumn[str] = "uint8"
    mean: PerColumn[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    std: PerColumn[tuple[float, float, float]] = (1.0, 1.0, 1.0)
    strict: PerColumn[bool] = False
    # Where Pillow draws its line. The same on every machine: which rows are bad must not depend on
    # the memory that is free, or shards and resumed epochs disagree. docs/pixels.md has the bytes.
    max_pixels: PerColumn[int] = 178_956_970
    max_scans: PerColumn[int] = 100  # encoders write about ten
    max_chunks: PerColumn[int] = 100_000

    @property
    def images(self) -> tuple[str, ...]:
        """The image columns, however many."""
        return (self.image,) if isinstance(self.image, str) else self.image

    def image_options(self, image: str) -> dict[str, Any]:
        """The image options of one of the image columns."""
        values = {name: getattr(self, name) for name in IMAGE_OPTIONS}
        return {
            name: value.get(image, getattr(Config, name)) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }

    def is_random(self, image: str) -> bool:
        """Whether a picture of the image column is another one in each epoch."""
        its = self.image_options(image)
        return bool(its["flip"]) or its["fit"] == "random_crop"

    def decoder_options(self, image: str) -> dict[str, Any]:
        """The image options of what is made of a blob: the finished picture, unless there is a
        cache and the picture is another one in each epoch. Then it is what the cache keeps: in RGB,
        the picture before the flip, or what random crops are taken of."""
        its = self.image_options(image)
        cache_size = its.pop("cache_size")
        if self.cache is None or not self.is_random(image):
            return its
        plain = {name: getattr(Config, name) for name in RANDOM_ANEW}
        if its["fit"] == "random_crop":
            height, width = its["size"]
            plain |= {"fit": "stretch", "size": cache_size or (_larger(height), _larger(width))}
        if its["filter"] == "nearest":  # of a mask's palette, luma is as wrong later as now
            plain["luma_later"] = its["channels"] == 1
        return {**its, **plain}

    @property
    def labels(self) -> tuple[str, ...]:
        """The label columns as given, however many, and last the sample weights."""
        labels = (self.label,) if isinstance(self.label, str) else self.label or ()
        return labels if self.sample_weight is None else (*labels, self.sample_weight)

    @property
    def where(self) -> str:
        """Where the rows come from, for messages."""
        return f"{self.url}, {self.table or 'query'}"

    def as_dict(self) -> dict[str, Any]:
        """For the pipe to a worker, with the password; :meth:`from_dict` reads it after a trip
        through JSON."""
        return {**asdict(self), "url": [self.url, self.url.secret]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        plain = {name: _without_lists(value) for name, value in values.items()}
        return cls(**{**plain, "url": DatabaseUrl(*values["url"])})


def _without_lists(value: Any) -> Any:
    """With tuples in their place, as before the trip through JSON."""
    if isinstance(value, dict):
        return {key: _without_lists(item) for key, item in value.items()}
    return tuple(value) if isinstance(value, list) else value


_KINDS: dict[str, Kind] = {
    "url": Kind(parse_url),
    "table": kinds.optional(kinds.NAME),
    "query": kinds.optional(kinds.NAME),
    "key": kinds.NAME,
    "image": kinds.NAMES,
    "label": kinds.LABEL,
    "sample_weight": kinds.WEIGHT,
    "batch_size": kinds.integer(1, 1_000_000),
    "workers": kinds.optional(kinds.integer(0, 1024)),
    "slots": kinds.optional(kinds.integer(2, 1024)),
    "on_error": kinds.choice("raise", "skip", "fill"),
    "max_restarts": kinds.integer(0, 1_000_000),
    "drop_remainder": kinds.FLAG,
    "shuffle": kinds.FLAG,
    "shuffle_block": kinds.integer(1, 2**40),
    "seed": kinds.integer(0, 2**64 - 1),
    "shard": kinds.SHARD,
    "deterministic": kinds.FLAG,
    "with_keys": kinds.FLAG,
    "prefetch": kinds.integer(0, 1024),
    "max_blob_bytes": kinds.integer(1, 1 << 30),
    "fetch_bytes": kinds.optional(kinds.integer(1, 1 << 30)),
    "consistency": kinds.choice("snapshot", "latest"),
    "stall_timeout_s": kinds.SECONDS,
    "reconnect_timeout_s": kinds.SECONDS,
    "simd": kinds.choice("auto", "portable"),
    "worker_imports": kinds.MODULES,
    "trace": kinds.optional(kinds.PATH),
    "cache": kinds.optional(kinds.PATH),
    "cache_bytes": kinds.optional(kinds.integer(1, 2**62)),
    "size": kinds.SIZE,
    "channels": kinds.CHANNELS,
    "fit": kinds.choice("stretch", "crop", "pad", "random_crop"),
    "crop_fraction": kinds.number(0, 1, "must be more than 0 and up to 1"),
    "scale": kinds.SHARES,
    "ratio": kinds.PROPORTIONS,
    "flip": kinds.FLAG,
    "cache_size": kinds.optional(kinds.SIZE),
    "filter": kinds.choice("nearest", "box", "bilinear", "bicubic", "lanczos"),
    "orientation": kinds.FLAG,
    "quality": kinds.choice("exact", "fast"),
    "background": kinds.optional(kinds.COLOUR),
    "layout": kinds.choice("NHWC", "NCHW"),
    "dtype": kinds.DTYPE,
    "mean": kinds.MEAN,
    "std": kinds.STD,
    "strict": kinds.FLAG,
    "max_pixels": kinds.integer(1, 2**32),
    "max_scans": kinds.integer(1, 1_000_000),
    "max_chunks": kinds.integer(1, 2**32 - 1),
}
assert list(_KINDS) == [field.name for field in fields(Config)]

RANDOM_ANEW = ("flip", "channels", "layout", "dtype", "mean", "std", "scale", "ratio")
"""Image options that are for what becomes of a picture out of the cache in each epoch."""


def _larger(side: int) -> int:
    """256 for 224, as is usual."""
    return min(-(-side * 8 // 7), 65535)


IMAGE_OPTIONS = tuple(_KINDS)[list(_KINDS).index("size") :]
"""Those that each image column can have its own values of."""


def make_config(arguments: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Checks the arguments that are not ``UNSET`` and fills in the rest.

    Raises ConfigError with the name of the option or variable.
    """
    given = {name: value for name, value in arguments.items() if value is not UNSET}
    unknown = sorted(set(given) - set(_KINDS))
    if unknown:
        raise ConfigError(f"no option {unknown[0]!r}; there are {', '.join(_KINDS)}")
    values = {name: _checked(name, value, name) for name, value in given.items()}
    for name in _KINDS:
        variable = f"FASTLOADER_{name.upper()}"
        # A query that is given is not contradicted by a table in the environment, or vice versa.
        rival = {"table": "query", "query": "table"}.get(name)
        if name in values or variable not in environ or given.get(rival or "") is not None:
            continue
        values[name] = _checked(name, parse_option(name, environ[variable], variable), variable)
    if values.get("url") is None:
        raise ConfigError("no database: pass its URL or path, or set FASTLOADER_URL")
    if values.get("query") is not None:
        if values.get("table") is not None:
            raise ConfigError("table and query exclude each other: give one of them")
        values["table"] = None
    elif values.get("table", "") is None:
        raise ConfigError("neither a table nor a query: give one of them")
    if values.get("workers") is None:
        values["workers"] = cores()
    config = Config(**values)
    _check_columns(config)
    _check_cache(config)
    if config.url.is_postgres:
        url = with_connect_timeout(config.url, config.stall_timeout_s, environ)
        config = replace(config, url=url)
    return config


def _check_columns(config: Config) -> None:
    """That options which name image columns name those that there are, and that a column of sample
    weights stands beside labels."""
    if config.sample_weight is not None:
        *labels, weight = (split_label(label)[0] for label in config.labels)
        if not labels:
            raise ConfigError("sample_weight needs a label: Keras takes (images, labels, weights)")
        if weight in labels:
            raise ConfigError(f"sample_weight={config.sample_weight!r} is a label column already")
    if config.with_keys and config.key in config.images:
        raise ConfigError(f"with_keys: the key column {config.key!r} is an image column too")
    for name in IMAGE_OPTIONS:
        value = getattr(config, name)
        strangers = [key for key in value if key not in config.images] if _is_dict(value) else []
        if strangers:
            raise ConfigError(
                f"{name} has a value for {strangers[0]!r}, which is no image column; there are "
                f"{', '.join(map(repr, config.images))}"
            )


def _check_cache(config: Config) -> None:
    """That what is kept is what will be wanted."""
    if config.cache is None:
        return
    if config.consistency == "latest":
        raise ConfigError(
            'cache shows the table as it was when the loader was made: consistency="latest" and '
            "it exclude each other"
        )


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def _checked(name: str, value: Any, source: str) -> Any:
    check = _KINDS[name].check
    if isinstance(value, np.generic):
        value = value.item()
    try:
        if name in IMAGE_OPTIONS and _is_dict(value):
            return {column: check(item) for column, item in value.items()}
        return check(value)
    except (ValueError, TypeError) as error:
        # A URL that cannot be read cannot be shown either: who knows where its password is.
        shown = "" if isinstance(value, str) and name == "url" else f"={value!r}"
        raise ConfigError(f"{source}{shown} {error}") from None


def parse_option(name: str, text: str, source: str) -> Any:
    """The value that a text stands for, as an argument would have it. source: where the text is
    from, for the error: a variable, or an argument of the command line. Raises ConfigError."""
    kind = _KINDS[name]
    text = text.strip()
    if kind.optional and text.lower() in ("none", "auto"):
        return None
    try:
        return kind.parse(text)
    except (ValueError, KeyError):
        raise ConfigError(f"{source}={text!r} must be {kind.wanted}") from None

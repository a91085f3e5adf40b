"""The options of a loader, checked: arguments, environment variables and defaults together.

This is the only module that reads ``FASTLOADER_...``. An argument overrides the variable, and the
variable overrides the default; both are checked by the same function.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from ..errors import ConfigError
from ..fields.category import Category
from ..fields.context import Context
from ..fields.field import Field
from ..fields.image import Image
from ..fields.value import Value, ValueField
from ..system.machine import cores
from .given import check_names, given_only
from .labels import split_label
from .sampling import ClassBatch
from .table import IMAGE_OPTIONS, OPTIONS, Options
from .url import with_connect_timeout

MOST_PATH_BYTES = 4095
"""The longest path that Linux takes, in bytes: PATH_MAX without the NUL."""

Part = Literal["x", "y", "w"]
"""A part of a batch: inputs, labels, or sample weights."""


@dataclass(frozen=True)
class Config(Options):
    """The options of a loader, checked and immutable.

    Make one with :func:`make_config`. The fields are the rows of :class:`.table.Options`;
    attributes of the class are the defaults. The text of ``url`` holds no password, ``url.secret``
    does.
    """

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the key columns, as a tuple even if there is one."""
        return (self.key,) if isinstance(self.key, str) else self.key

    @property
    def split_column(self) -> str | None:
        """The column other than the key that decides about a row's part, if there is one."""
        return None if self.split_by == self.key else self.split_by

    @cached_property
    def inputs(self) -> dict[str, Field]:
        """The fields of x by their names in a batch, each with its column."""
        if self.fields is not None:
            return {name: field.named(name) for name, field in self.fields.items()}
        images = (self.image,) if isinstance(self.image, str) else self.image or ()
        return {image: Image(image, **self._image_options(image)) for image in images}

    @cached_property
    def labels(self) -> dict[str, Field]:
        """The fields of the labels by their names in a batch, each with its column."""
        label = self.label
        if isinstance(label, Mapping):
            return {name: field.named(name) for name, field in label.items()}
        if isinstance(label, Field):
            return {label.of_column: label}
        return dict(map(_label_field, (label,) if isinstance(label, str) else label or ()))

    @cached_property
    def weights(self) -> dict[str, Field]:
        """The field of the sample weights by its name, if there is one."""
        return {} if self.sample_weight is None else dict([_label_field(self.sample_weight)])

    @property
    def fields_by_part(self) -> tuple[tuple[Part, dict[str, Field]], ...]:
        """The fields of each part of a batch."""
        return ("x", self.inputs), ("y", self.labels), ("w", self.weights)

    @cached_property
    def all_fields(self) -> tuple[Field, ...]:
        """All fields, in the order of a batch."""
        return tuple(field for _, fields in self.fields_by_part for field in fields.values())

    @property
    def images(self) -> tuple[Image, ...]:
        """The fields that are images."""
        return tuple(field for field in self.all_fields if isinstance(field, Image))

    @cached_property
    def image_columns(self) -> tuple[str, ...]:
        """The database columns of images, each once."""
        return tuple(dict.fromkeys(one.of_column for one in self.images if one.folder is None))

    @cached_property
    def path_columns(self) -> tuple[str, ...]:
        """The database columns of the paths of files, each once."""
        paths = (field.of_column for field in self.all_fields if field.folder is not None)
        return tuple(dict.fromkeys(paths))

    @cached_property
    def blob_limits(self) -> dict[str, int]:
        """The database columns that are read as they are up to a size: images, then paths.

        Paths may be read as values already.
        """
        images = dict.fromkeys(self.image_columns, self.max_blob_bytes)
        paths = {name: MOST_PATH_BYTES for name in self.path_columns if name not in images}
        return images | {n: most for n, most in paths.items() if n not in self.value_columns}

    @cached_property
    def value_columns(self) -> dict[str, str | None]:
        """The other database columns, each with the dtype that all of its fields ask for."""
        asked: dict[str, set[str | None]] = {}
        for field in self.all_fields:
            if isinstance(field, ValueField) and field.folder is None:
                asked.setdefault(field.of_column, set()).add(field.wanted_dtype)
        return {name: its.pop() if len(its) == 1 else None for name, its in asked.items()}

    @cached_property
    def ragged_columns(self) -> frozenset[str]:
        """The columns of :attr:`value_columns` whose values may differ in size."""
        values = (field for field in self.all_fields if isinstance(field, ValueField))
        return frozenset(one.of_column for one in values if one.is_ragged and one.folder is None)

    @cached_property
    def value_files(self) -> frozenset[str]:
        """The values of a chunk, by name, that are the contents of files other than images."""
        values = (field for field in self.all_fields if isinstance(field, ValueField))
        return frozenset(field.in_chunk for field in values if field.folder is not None)

    @cached_property
    def class_columns(self) -> frozenset[str]:
        """The columns of :attr:`value_columns` whose classes are looked for."""
        values = (field for field in self.all_fields if isinstance(field, Category))
        return frozenset(field.of_column for field in values if field.classes is None)

    @property
    def may_lack_rows(self) -> bool:
        """Whether a batch may have fewer rows than the plan gives it."""
        return self.on_error == "skip" or any(step.drops for step in self.transform)

    @property
    def has_single_input(self) -> bool:
        """Whether x is one array, and not a dict."""
        return self.has_single_image and not self.with_keys

    @property
    def has_single_image(self) -> bool:
        """Whether x holds one image, and maybe keys."""
        return self.fields is None and isinstance(self.image, str)

    @property
    def has_single_label(self) -> bool:
        """Whether the labels are one array, and not a dict."""
        return isinstance(self.label, (str, Field))

    def _image_options(self, image: str) -> dict[str, Any]:
        """Return the image options of the image column ``image``, by name."""
        values = {name: getattr(self, name) for name in IMAGE_OPTIONS}
        return {
            name: value.get(image, OPTIONS[name].default) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }

    @property
    def context(self) -> Context:
        """What the decoders of fields need to know."""
        return Context(
            seed=self.seed,
            portable=self.simd == "portable",
            worker_imports=self.worker_imports,
            is_cached=self.cache is not None,
            max_blob_bytes=self.max_blob_bytes,
            is_postgres=self.url.is_postgres,
            names_columns=len(self.images) > 1,
        )

    @property
    def place(self) -> str:
        """Database and table, for messages."""
        return f"{self.url}, {self.table or 'query'}"


def _label_field(label: str) -> tuple[str, Field]:
    """Return the field that a label such as "column" or "column:dtype" stands for, by its name."""
    name, dtype = split_label(label)
    return name, Value(name, dtype=dtype)


def make_config(arguments: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Config:
    """Check options and fill in those that were not given.

    Parameters
    ----------
    arguments
        Options by name, as for ``FastLoader``, with what stands for those that were not given.
    environ
        Environment variables.

    Raises
    ------
    ConfigError
        An option or a variable, which the message names, cannot be used, or some cannot be used
        together.
    """
    given = given_only(arguments)
    check_names(given)
    values = {name: OPTIONS[name].check(value, source=name) for name, value in given.items()}
    for name, option in OPTIONS.items():
        variable = option.variable
        # A query that is given is not contradicted by a table in the environment, or vice versa.
        rival = {"table": "query", "query": "table"}.get(name)
        if name in values or variable not in environ or given.get(rival or "") is not None:
            continue
        value = option.parse(environ[variable], source=variable)
        values[name] = option.check(value, source=variable)
    if values.get("url") is None:
        raise ConfigError("no database: pass its URL or path, or set FASTLOADER_URL")
    if values.get("query") is not None:
        if values.get("table") is not None:
            raise ConfigError("table and query exclude each other: give one of them")
        values["table"] = None
    elif values.get("table", "") is None:
        raise ConfigError("neither a table nor a query: give one of them")
    _check_where(values)
    if values.get("split_by") is not None and values.get("split") is None:
        raise ConfigError('split_by is for split=: say which part, such as split=":0.9"')
    if values.get("workers") is None:
        values["workers"] = cores()
    if values.get("fields") is not None:
        _check_fields(values)
    if isinstance(values.get("sampling"), ClassBatch):
        _check_class_batch(values)
    config = Config(**values)
    _check_columns(config)
    config = _with_sampling(config)
    _check_image_columns(config)
    _check_cache(config)
    _check_follow(config)
    _check_cache_transformed(config)
    _check_folders(config)
    if config.url.is_postgres:
        url = with_connect_timeout(config.url, config.stall_timeout_s, environ)
        config = replace(config, url=url)
    return config


def _check_follow(config: Config) -> None:
    if config.follow is None:
        return
    if config.shard[1] > 1:
        raise ConfigError(
            'with follow="epoch" the hosts would look at the table at different times and see '
            "other rows: call refresh() on one of them, and refresh(rows=...) with what it returns "
            "on the others"
        )
    if config.cache is not None:
        raise ConfigError(
            'a cache keeps the rows of a table that does not change, and follow="epoch" is for one '
            "that does: leave out one of them"
        )


def _check_where(values: Mapping[str, Any]) -> None:
    """Check that there is a table to filter, and a condition for the parameters."""
    if values.get("where") is None:
        if values.get("params"):
            raise ConfigError("params are values for where=: give a condition with $1, $2, ...")
    elif values.get("query") is not None:
        raise ConfigError(
            "where and query exclude each other: write the condition into the query, or give "
            "table= instead of query="
        )


def _check_fields(values: dict[str, Any]) -> None:
    """Check that nothing else says what x holds. Without a label that is named, there is none."""
    for name in ("image", *IMAGE_OPTIONS):
        if values.get(name) is not None:
            raise ConfigError(
                f"{name} and fields exclude each other: give it to a field, for example "
                f'fields={{"image": Image("column", size=(224, 224))}}'
            )
    values["image"] = None
    values.setdefault("label", None)


def _check_columns(config: Config) -> None:
    """Check that there is something to deliver, and that no column has two parts to play."""
    if not config.all_fields:
        raise ConfigError("nothing to deliver: name an image, fields or a label")
    if config.weights:
        if not config.labels:
            raise ConfigError("sample_weight needs a label: Keras takes (images, labels, weights)")
        if config.weights.keys() & config.labels.keys():
            raise ConfigError(f"sample_weight={config.sample_weight!r} is a label column already")
    for key in config.keys:
        if config.with_keys and key in config.inputs:
            what = "a field" if config.fields is not None else "an image column"
            raise ConfigError(f"with_keys: the key column {key!r} is {what} too")


def _check_class_batch(values: dict[str, Any]) -> None:
    """Take the number of rows in a batch from the sampling."""
    sampling: ClassBatch = values["sampling"]
    if values.setdefault("batch_size", sampling.batch_size) != sampling.batch_size:
        raise ConfigError(
            f"batch_size={values['batch_size']} and sampling={sampling!r}, whose batches have "
            f"{sampling.batch_size} rows: leave out batch_size"
        )
    OPTIONS["batch_size"].check(sampling.batch_size, source="sampling: classes x each")


def _with_sampling(config: Config) -> Config:
    """Return the options with the column that sampling depends on. Raises ConfigError."""
    sampling = config.sampling
    if sampling is None:
        return config
    if config.shuffle_block != 1:
        raise ConfigError(
            f"sampling and shuffle_block={config.shuffle_block} exclude each other: sampling "
            f"chooses single rows. Leave out shuffle_block"
        )
    if sampling.column is not None:
        return config
    if len(config.labels) != 1:
        there = "are several labels" if config.labels else "is no label"
        raise ConfigError(
            f"sampling={sampling!r} takes the classes of the label, and there {there}: name the "
            f'column of the classes with column="..."'
        )
    (label,) = config.labels.values()
    return replace(config, sampling=sampling.of(label.of_column))


def _check_image_columns(config: Config) -> None:
    """Check that dicts of image options name image columns only."""
    for name in IMAGE_OPTIONS:
        value = getattr(config, name)
        for column in value if isinstance(value, Mapping) else ():
            if column not in config.inputs:
                raise ConfigError(
                    f"{name} has a value for {column!r}, which is not an image column; the image "
                    f"columns are {', '.join(map(repr, config.inputs))}"
                )


def _check_folders(config: Config) -> None:
    """Check that the folders of files are there."""
    for field in config.all_fields:
        if field.folder is not None and not os.path.isdir(field.folder):
            raise ConfigError(f"{field!r}: no such folder: {field.folder}")


def _check_cache(config: Config) -> None:
    """Check that what a cache keeps stays true."""
    if config.cache is not None and config.path_columns:
        raise ConfigError(
            "cache and files exclude each other: a cache cannot tell whether a file has changed. "
            "The system's page cache keeps the files in memory; leave out cache, or store the "
            "images in the database"
        )
    if config.cache is not None and config.consistency == "latest":
        raise ConfigError(
            'cache and consistency="latest" exclude each other: a cache keeps the table as it was '
            "when the loader was made"
        )


def _check_cache_transformed(config: Config) -> None:
    """Check that what a transform makes of a row can be kept, and found again."""
    if not config.cache_transformed:
        if config.transform_version is not None:
            raise ConfigError(
                "transform_version is for cache_transformed=True: without it, a cache keeps what "
                "comes before the transform"
            )
        return
    if config.cache is None or not config.transform:
        raise ConfigError("cache_transformed=True needs a cache and a transform")
    if config.transform[0].scope != "row":
        raise ConfigError(
            f"cache_transformed=True keeps single rows, and {config.transform[0].name} comes first "
            f"and gets batches: begin transform with a function of rows"
        )
    if config.transform_version is None:
        raise ConfigError(
            'cache_transformed=True needs transform_version="...": a text of your own that you '
            "change whenever the functions change, so that rows of older ones are not used"
        )
    if any(image.is_random for image in config.images):
        raise ConfigError(
            "cache_transformed=True would keep the random crops and flips of one epoch: leave out "
            'fit="random_crop" and flip, or cache_transformed'
        )
    if any(step.drops for step in config.transform):
        raise ConfigError(
            "cache_transformed=True cannot keep that a row was dropped: leave out drops=True, and "
            "choose the rows with where="
        )

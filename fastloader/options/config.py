"""The options of a loader, checked: arguments, environment variables and defaults together.

This is the only module that reads ``FASTLOADER_...``. An argument overrides the variable, and the
variable overrides the default; both are checked by the same function.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import ConfigError
from ..system.machine import cores
from .given import check_names, given_only
from .labels import split_label
from .table import IMAGE_OPTIONS, OPTIONS, Options
from .url import with_connect_timeout

RANDOM_ANEW = ("flip", "channels", "layout", "dtype", "mean", "std", "scale", "ratio")
"""Image options that apply to an image after it comes out of the cache, in each epoch anew."""


@dataclass(frozen=True)
class Config(Options):
    """The options of a loader, checked and immutable.

    Make one with :func:`make_config`. The fields are the rows of :class:`.table.Options`;
    attributes of the class are the defaults. The text of ``url`` holds no password, ``url.secret``
    does.
    """

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the image columns, as a tuple even if there is one."""
        return (self.image,) if isinstance(self.image, str) else self.image

    def image_options(self, image: str) -> dict[str, Any]:
        """Return the image options of the image column ``image``, by name."""
        values = {name: getattr(self, name) for name in IMAGE_OPTIONS}
        return {
            name: value.get(image, OPTIONS[name].default) if isinstance(value, Mapping) else value
            for name, value in values.items()
        }

    def is_random(self, image: str) -> bool:
        """Return whether the images of the column ``image`` differ from epoch to epoch."""
        its = self.image_options(image)
        return bool(its["flip"]) or its["fit"] == "random_crop"

    def decoder_options(self, image: str) -> dict[str, Any]:
        """Return the image options with which the blobs of the column ``image`` are decoded.

        They describe the finished image, unless there is a cache and the images differ from epoch
        to epoch. Then they describe what the cache keeps, always in RGB: the image before the flip,
        or the one that random crops are taken from.
        """
        its = self.image_options(image)
        cache_size = its.pop("cache_size")
        if self.cache is None or not self.is_random(image):
            return its
        plain = {name: OPTIONS[name].default for name in RANDOM_ANEW}
        if its["fit"] == "random_crop":
            height, width = its["size"]
            plain |= {"fit": "stretch", "size": cache_size or (_larger(height), _larger(width))}
        if its["filter"] == "nearest":
            # The numbers of classes in a palette have no luma. RGB is decoded here, so the kernel
            # must be told to refuse them as it does without a cache.
            plain["luma_later"] = its["channels"] == 1
        return {**its, **plain}

    @property
    def labels(self) -> tuple[str, ...]:
        """The label columns as given, ``"name:dtype"`` or ``"name"``, then the sample weights."""
        labels = (self.label,) if isinstance(self.label, str) else self.label or ()
        return labels if self.sample_weight is None else (*labels, self.sample_weight)

    @property
    def where(self) -> str:
        """Database and table, for messages."""
        return f"{self.url}, {self.table or 'query'}"


def _larger(side: int) -> int:
    """Return 8/7 of a side in pixels, as is usual before a crop: 256 for 224."""
    return min(-(-side * 8 // 7), 65535)


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
    if values.get("workers") is None:
        values["workers"] = cores()
    config = Config(**values)
    _check_columns(config)
    _check_image_columns(config)
    _check_cache(config)
    if config.url.is_postgres:
        url = with_connect_timeout(config.url, config.stall_timeout_s, environ)
        config = replace(config, url=url)
    return config


def _check_columns(config: Config) -> None:
    """Check that weights come with labels, and that no column has two parts to play."""
    if config.sample_weight is not None:
        *labels, weight = (split_label(label)[0] for label in config.labels)
        if not labels:
            raise ConfigError("sample_weight needs a label: Keras takes (images, labels, weights)")
        if weight in labels:
            raise ConfigError(f"sample_weight={config.sample_weight!r} is a label column already")
    if config.with_keys and config.key in config.images:
        raise ConfigError(f"with_keys: the key column {config.key!r} is an image column too")


def _check_image_columns(config: Config) -> None:
    """Check that dicts of image options name image columns only."""
    for name in IMAGE_OPTIONS:
        value = getattr(config, name)
        for column in value if isinstance(value, Mapping) else ():
            if column not in config.images:
                raise ConfigError(
                    f"{name} has a value for {column!r}, which is not an image column; the image "
                    f"columns are {', '.join(map(repr, config.images))}"
                )


def _check_cache(config: Config) -> None:
    """Check that what a cache keeps stays true."""
    if config.cache is not None and config.consistency == "latest":
        raise ConfigError(
            'cache and consistency="latest" exclude each other: a cache keeps the table as it was '
            "when the loader was made"
        )

"""What a slot holds: the names and the columns of its arrays.

Both sides of a ring use these names: the worker that fills a slot and the training process that
hands it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..options.config import Config
from ..options.labels import TEXT
from ..plan.keys import INTEGER
from .columns import Column

Arrays = dict[str, NDArray[Any]]
"""The arrays of a batch by the names of their columns in a slot."""

# Label columns have the names of database columns. A colon keeps ours apart from them.
KEYS = ":keys"
IMAGE = ":image "


def slot_image(image: str) -> str:
    """Return the name of an image column in a slot."""
    return IMAGE + image


def stored_image(image: str) -> tuple[str, str]:
    """Return the names of what a cache stores of a random image column: images and their sizes.

    They stand alongside the columns of a slot while a batch is made, but not in the slot.
    """
    return f":stored {image}", f":seen {image}"


def image_column(config: Config, image: str) -> Column:
    """Return an image column as a batch has it, under its own name."""
    options = config.image_options(image)
    (height, width), channels = options["size"], options["channels"]
    is_nhwc = options["layout"] == "NHWC"
    shape = (height, width, channels) if is_nhwc else (channels, height, width)
    return Column(image, options["dtype"], shape)


def key_column(key_dtype: str) -> Column:
    """Return the column of a batch that holds the keys: int64, or text for any other key."""
    return Column(KEYS, INTEGER if np.dtype(key_dtype) == INTEGER else TEXT)


def slot_columns(config: Config, labels: Iterable[Column], key_dtype: str) -> list[Column]:
    """Return all columns of a batch, under their names in a slot.

    Parameters
    ----------
    labels
        The label columns and the sample weights, as the survey found them.
    key_dtype
        The NumPy dtype of the keys; see :mod:`fastloader.plan.keys`.
    """
    images = [_slot_column(config, image) for image in config.images]
    keys = [key_column(key_dtype)] if config.with_keys else []
    return [*images, *labels, *keys]


def cached_columns(config: Config, labels: Iterable[Column]) -> list[Column]:
    """Return the columns that a cache keeps of each row."""
    images = [column for image in config.images for column in _cached(config, image)]
    return [*images, *labels]


def _slot_column(config: Config, image: str) -> Column:
    return replace(image_column(config, image), name=slot_image(image))


def _cached(config: Config, image: str) -> list[Column]:
    """Return the finished image, or what the images of each epoch are made from."""
    if not config.is_random(image):
        return [_slot_column(config, image)]
    stored, sizes = stored_image(image)
    size = config.decoder_options(image)["size"]
    return [Column(stored, "uint8", (*size, 3)), Column(sizes, "uint32", (2,))]

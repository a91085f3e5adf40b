"""The field for encoded images: its options, and what they mean for decoding and caching."""

# ruff: noqa: RUF009 -- what a group's option() returns is a dataclass field

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from ..checks import kinds
from ..checks.option import Group
from .columns import Column
from .field import Field, files_option

IMAGES = Group("Images")
LIMITS = Group("Damaged and hostile images")

RANDOM_ANEW = ("flip", "channels", "layout", "dtype", "mean", "std", "scale", "ratio")
"""Options that apply to an image after it comes out of the cache, in each epoch anew."""


@dataclass(frozen=True, repr=False, kw_only=True)
class Image(Field):
    """Encoded images, decoded and resized: an array of `dtype`.

    The column holds the images as blobs, or with `files` the paths of image files. The shape of the
    array is (n, height, width, channels), or (n, channels, height, width) with
    ``layout="NCHW"``. The kernel decodes JPEG, PNG and WebP, Pillow other formats.

    Parameters
    ----------
    column : str or None, default None
        The name of the database column. The default is the field's own name in the batch.
    files : str, path or None, default None
        The folder of the images, if the column holds their paths and not the images themselves. The
        paths are relative to this folder, and nothing outside of it is ever opened.
    size : (int, int), default (224, 224)
        Height and width of the delivered images, in pixels.
    channels : {3, 1}, default 3
        3 for RGB, 1 for luma (grayscale).
    fit : {"stretch", "crop", "pad", "random_crop"}, default "stretch"
        How an image is made to fit `size`. `"stretch"` ignores its proportions; `"crop"` takes the
        largest centered box that has the wanted proportions; `"pad"` takes the whole image and puts
        `background` around it; `"random_crop"` takes a different random box in each epoch.
    crop_fraction : float, default 1.0
        With `fit="crop"`, the sides of the box as a fraction of the largest one. 0.875 stands for
        the usual resize to 256 and crop to 224.
    scale : (float, float), default (0.08, 1.0)
        With `fit="random_crop"`, the least and the greatest share of the image's area that a box
        takes.
    ratio : (float, float), default (3/4, 4/3)
        With `fit="random_crop"`, the least and the greatest width / height of a box.
    flip : bool, default False
        Mirror half of the rows from left to right, different ones in each epoch. Flips and random
        crops depend on nothing but `seed`, the epoch and the row's key.
    cache_size : (int, int) or None, default None
        With a `cache` and `fit="random_crop"`, height and width in pixels of the images that are
        kept. The boxes are taken from these, in the first epoch as well. None takes 8/7 of `size`:
        256 x 256 for 224 x 224.
    filter : {"nearest", "box", "bilinear", "bicubic", "lanczos"}, default "bilinear"
        The filter of the resize, as Pillow defines it. `"nearest"` is for masks: it keeps the
        numbers of classes.
    orientation : bool, default True
        Rotate and mirror images as the orientation in their EXIF data asks.
    quality : {"exact", "fast"}, default "exact"
        `"fast"` takes less time for images that become much smaller, and changes their pixels
        slightly: JPEGs are decoded at a reduced size, and WebPs without their smoothing filters.
    background : int, (int, int, int) or None, default None
        The color that shows behind transparent images and around padded ones: red, green and blue,
        each from 0 to 255. None drops the alpha channel and pads with black.
    layout : {"NHWC", "NCHW"}, default "NHWC"
        The axes of an array of images. `"NHWC"` is (n, height, width, channels), `"NCHW"` is (n,
        channels, height, width).
    dtype : {"uint8", "float32", "float16", "bfloat16"} or dtype, default "uint8"
        The type of an array of images. `uint8` holds levels from 0 to 255; the float types hold
        `(level / 255 - mean) / std`. `bfloat16` needs the package ml_dtypes.
    mean : float or (float, float, float), default (0.0, 0.0, 0.0)
        For the float types: what is subtracted from a level, on the scale from 0 to 1. One number,
        or one for each of red, green and blue.
    std : float or (float, float, float), default (1.0, 1.0, 1.0)
        For the float types: what the difference is then divided by, on the same scale. One number,
        or one for each of red, green and blue.
    strict : bool, default False
        Make an image that ends early or is damaged a bad row. Otherwise the missing part is gray,
        and `partial_rows` lists the row.
    max_pixels : int, default 178956970
        Most pixels, width x height, of an encoded image. A larger one is a bad row, and is refused
        before it takes memory. Decoding takes up to 25 bytes for each pixel.
    max_scans : int, default 100
        Most scans of a progressive JPEG. One that has more is a bad row.
    max_chunks : int, default 100000
        Most chunks of a PNG or WebP file. One that has more is a bad row.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    files: str | os.PathLike[str] | None = files_option("images", "images")

    # ---- images ----------------------------------------------------------------------------------
    # The digest that names a cache file depends on the order of these options and of the limits.

    size: tuple[int, int] = IMAGES.option(
        (224, 224), kinds.SIZE, "Height and width of the delivered images, in pixels."
    )
    channels: Literal[3, 1] = IMAGES.option(3, kinds.CHANNELS, "3 for RGB, 1 for luma (grayscale).")
    fit: Literal["stretch", "crop", "pad", "random_crop"] = IMAGES.option(
        "stretch",
        kinds.choice("stretch", "crop", "pad", "random_crop"),
        'How an image is made to fit `size`. `"stretch"` ignores its proportions; `"crop"` takes '
        'the largest centered box that has the wanted proportions; `"pad"` takes the whole image '
        'and puts `background` around it; `"random_crop"` takes a different random box in each '
        "epoch.",
        see="../explanation/pixels.md#images",
    )
    crop_fraction: float = IMAGES.option(
        1.0,
        kinds.FRACTION,
        'With `fit="crop"`, the sides of the box as a fraction of the largest one. 0.875 stands '
        "for the usual resize to 256 and crop to 224.",
    )
    scale: tuple[float, float] = IMAGES.option(
        (0.08, 1.0),
        kinds.SHARES,
        'With `fit="random_crop"`, the least and the greatest share of the image\'s area that a '
        "box takes.",
    )
    ratio: tuple[float, float] = IMAGES.option(
        (3 / 4, 4 / 3),
        kinds.PROPORTIONS,
        'With `fit="random_crop"`, the least and the greatest width / height of a box.',
        shown="(3/4, 4/3)",
    )
    flip: bool = IMAGES.option(
        False,
        kinds.FLAG,
        "Mirror half of the rows from left to right, different ones in each epoch. Flips and "
        "random crops depend on nothing but `seed`, the epoch and the row's key.",
    )
    cache_size: tuple[int, int] | None = IMAGES.option(
        None,
        kinds.optional(kinds.SIZE),
        'With a `cache` and `fit="random_crop"`, height and width in pixels of the images that '
        "are kept. The boxes are taken from these, in the first epoch as well. None takes 8/7 of "
        "`size`: 256 x 256 for 224 x 224.",
        see="../guides/caching.md",
    )
    filter: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = IMAGES.option(
        "bilinear",
        kinds.choice("nearest", "box", "bilinear", "bicubic", "lanczos"),
        'The filter of the resize, as Pillow defines it. `"nearest"` is for masks: it keeps the '
        "numbers of classes.",
    )
    orientation: bool = IMAGES.option(
        True, kinds.FLAG, "Rotate and mirror images as the orientation in their EXIF data asks."
    )
    quality: Literal["exact", "fast"] = IMAGES.option(
        "exact",
        kinds.choice("exact", "fast"),
        '`"fast"` takes less time for images that become much smaller, and changes their pixels '
        "slightly: JPEGs are decoded at a reduced size, and WebPs without their smoothing "
        "filters.",
        see="../explanation/pixels.md#images",
    )
    background: tuple[int, int, int] | None = IMAGES.option(
        None,
        kinds.optional(kinds.COLOR),
        "The color that shows behind transparent images and around padded ones: red, green and "
        "blue, each from 0 to 255. None drops the alpha channel and pads with black.",
    )
    layout: Literal["NHWC", "NCHW"] = IMAGES.option(
        "NHWC",
        kinds.choice("NHWC", "NCHW"),
        'The axes of an array of images. `"NHWC"` is (n, height, width, channels), `"NCHW"` is '
        "(n, channels, height, width).",
    )
    dtype: Any = IMAGES.option(
        "uint8",
        kinds.DTYPE,
        "The type of an array of images. `uint8` holds levels from 0 to 255; the float types hold "
        "`(level / 255 - mean) / std`. `bfloat16` needs the package ml_dtypes.",
    )
    mean: float | Sequence[float] = IMAGES.option(
        (0.0, 0.0, 0.0),
        kinds.MEAN,
        "For the float types: what is subtracted from a level, on the scale from 0 to 1. One "
        "number, or one for each of red, green and blue.",
    )
    std: float | Sequence[float] = IMAGES.option(
        (1.0, 1.0, 1.0),
        kinds.STD,
        "For the float types: what the difference is then divided by, on the same scale. One "
        "number, or one for each of red, green and blue.",
    )

    # ---- damaged and hostile images --------------------------------------------------------------

    strict: bool = LIMITS.option(
        False,
        kinds.FLAG,
        "Make an image that ends early or is damaged a bad row. Otherwise the missing part is "
        "gray, and `partial_rows` lists the row.",
    )
    # Pillow's limit. It does not depend on the memory that is free: which rows are bad must be the
    # same on every machine, or shards and resumed epochs disagree.
    max_pixels: int = LIMITS.option(
        178_956_970,
        kinds.integer(1, 2**32),
        "Most pixels, width x height, of an encoded image. A larger one is a bad row, and is "
        "refused before it takes memory. Decoding takes up to 25 bytes for each pixel.",
        see="../explanation/pixels.md#memory-for-one-image",
    )
    # Encoders write about ten.
    max_scans: int = LIMITS.option(
        100,
        kinds.integer(1, 1_000_000),
        "Most scans of a progressive JPEG. One that has more is a bad row.",
    )
    max_chunks: int = LIMITS.option(
        100_000,
        kinds.integer(1, 2**32 - 1),
        "Most chunks of a PNG or WebP file. One that has more is a bad row.",
    )

    @property
    def is_random(self) -> bool:
        """Whether the images differ from epoch to epoch."""
        return self.flip or self.fit == "random_crop"

    def delivered(self, name: str) -> Column:
        """Return the column of a batch with these images."""
        (height, width), channels = self.size, self.channels
        is_nhwc = self.layout == "NHWC"
        shape = (height, width, channels) if is_nhwc else (channels, height, width)
        return Column(name, self.dtype, shape)

    def image_options(self) -> dict[str, Any]:
        """Return all options of the image by name, without those that say where it is."""
        names = [one.name for one in fields(self) if one.name not in ("column", "files")]
        return {name: getattr(self, name) for name in names}

    def decoder_options(self, *, is_cached: bool) -> dict[str, Any]:
        """Return the options with which the blobs are decoded.

        They describe the finished image, unless there is a cache and the images differ from epoch
        to epoch. Then they describe what the cache keeps, always in RGB: the image before the flip,
        or the one that random crops are taken from.
        """
        its = self.image_options()
        cache_size = its.pop("cache_size")
        if not is_cached or not self.is_random:
            return its
        plain = {name: getattr(PLAIN, name) for name in RANDOM_ANEW}
        if self.fit == "random_crop":
            height, width = self.size
            plain |= {"fit": "stretch", "size": cache_size or (_larger(height), _larger(width))}
        if self.filter == "nearest":
            # The numbers of classes in a palette have no luma. RGB is decoded here, so the kernel
            # must be told to refuse them as it does without a cache.
            plain["luma_later"] = self.channels == 1
        return {**its, **plain}


PLAIN = Image()
"""An image with the default options."""


def _larger(side: int) -> int:
    """Return 8/7 of a side in pixels, as is usual before a crop: 256 for 224."""
    return min(-(-side * 8 // 7), 65535)

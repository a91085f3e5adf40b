"""Decode, with Pillow, the formats that the kernel does not know: GIF, BMP, TIFF, AVIF, and others.

This runs where batches are built: in a worker process or, with ``workers=0``, in the training
process. Pillow is imported when the first such image arrives.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OTHER_VALUES, kernel_reason
from .samples import NotDefined, depths_of, levels_of, write_rows

ORIENTATION = 0x0112
"""The EXIF tag of the orientation."""

MOST_SIDE = 65_535
"""The most pixels that a side may have, as for the kernel's own formats."""

BAND_PIXELS = 1 << 18
"""How many pixels are converted at a time, in whole rows, so that temporary memory stays small."""

FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "PSD", "QOI", "SGI", "SUN",
    "TGA", "TIFF",
)  # fmt: skip
"""Pillow's own formats that are accepted: those whose header gives the size of the image.

JPEG, PNG and WebP are not among them, because the kernel has already refused such a blob and said
why. The others are left out for these reasons:

* EPS is a program, which Pillow passes to Ghostscript.
* BUFR, GRIB, HDF5 and WMF are passed to whatever handler the program has registered.
* BLP, DCX, ICNS and IPTC contain files of other formats, EPS among them, whose size may differ
  from the one in their header.
* The rest is for icons, cursors, fonts and instruments. Datasets do not use them.
"""


@dataclass(frozen=True)
class DecodedImage:
    """An image that Pillow has decoded.

    Attributes
    ----------
    format
        Pillow's name of the format.
    pixels
        RGB or RGBA, uint8 of shape (height, width, 3) or (height, width, 4).
    orientation
        The EXIF orientation, 1 to 8. The pixels are not turned yet.
    """

    format: str
    pixels: NDArray[np.uint8]
    orientation: int

    @property
    def alpha(self) -> bool:
        """Whether the pixels have an alpha channel."""
        return bool(self.pixels.shape[2] == 4)


class CannotDecode(Exception):
    """Raised when an image cannot be decoded; the message is the reason that users see."""


class UnknownFormat(CannotDecode):
    """Raised when Pillow does not know the format either, or is not installed."""


def decode(
    blob: Any,
    max_pixels: int,
    *,
    nearest: bool = False,
    is_luma: bool = False,
    plugins: bool = False,
) -> DecodedImage:
    """Decode the first frame of an image in one of Pillow's formats.

    Parameters
    ----------
    blob
        Bytes, or anything else that exports a buffer.
    max_pixels
        Larger images are refused before memory is allocated for them.
    nearest
        Whether the image will be resized with ``filter="nearest"``. It may then be a mask, whose
        pixels are class numbers that must not change.
    is_luma
        Whether it will be converted to one channel.
    plugins
        Whether to accept formats that other packages add to Pillow.

    Raises
    ------
    UnknownFormat
        If Pillow is not installed or does not recognize the format.
    CannotDecode
        If the image is corrupt, too large or of an unsupported kind.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UnknownFormat(
            "Pillow may know the format: pip install 'fastloader[pillow]'"
        ) from None
    blob = bytes(blob)
    try:
        with _settings(max_pixels), _opened(io.BytesIO(blob), plugins) as image:
            _check_size(image, max_pixels)
            depths = depths_of(image, blob)
            if nearest:
                _check_classes(image, max(depths, default=8), is_luma=is_luma)
            _load(image)
            orientation = image.getexif().get(ORIENTATION, 1)
            pixels = _pixels(image, depths)
            name = str(image.format)
    except Image.DecompressionBombError as error:
        found = re.search(r"\d+", str(error))
        inside = f"an image of {found[0]} pixels inside" if found else str(error)
        raise CannotDecode(_too_large(inside, max_pixels)) from None
    except NotDefined as error:
        raise CannotDecode(f"unsupported image ({error})") from None
    except (MemoryError, CannotDecode):
        raise
    except Exception as error:  # Pillow's decoders may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise CannotDecode(f"corrupt image (Pillow says {reason[:200]})") from None
    return DecodedImage(name, pixels, orientation if orientation in range(1, 9) else 1)


# ---- which formats are accepted ------------------------------------------------------------------

_lock = threading.Lock()
"""Held while Pillow has our settings.

Those settings and the filters of warnings belong to the process, so the loaders of several threads
must not change them at the same time.
"""


def _renew_lock() -> None:
    """Replace the lock in a forked child, where the thread that may hold it does not exist."""
    global _lock  # noqa: PLW0603 # a lock cannot be reset
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@contextlib.contextmanager
def _settings(max_pixels: int) -> Iterator[None]:
    """Give Pillow the same settings in every process, whatever the program has set.

    The program's settings are restored afterwards: with ``workers=0`` this is its own process.
    """
    from PIL import GifImagePlugin, Image, ImageFile

    ours: list[tuple[Any, dict[str, Any]]] = [
        # Pillow raises an error above twice this number, wherever it learns a size: also for the
        # frames of an icon, and for a frame of a GIF that is larger than the GIF.
        (Image, {"MAX_IMAGE_PIXELS": max_pixels / 2}),
        (ImageFile, {"LOAD_TRUNCATED_IMAGES": False}),
        (
            GifImagePlugin,
            {"LOADING_STRATEGY": GifImagePlugin.LoadingStrategy.RGB_AFTER_FIRST},
        ),
    ]
    modules = [vars(module) for module, _ in ours]
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about slightly wrong metadata
        theirs = [{name: vars(module)[name] for name in values} for module, values in ours]
        put_back = map(dict.update, modules, theirs)
        try:
            for module, (_, values) in zip(modules, ours, strict=True):
                module.update(values)
            yield
        finally:
            list(put_back)  # one call, so that Ctrl-C cannot come between


def _opened(file: io.BytesIO, plugins: bool) -> Any:
    """Open an image as ``Image.open()`` does, but say which format something is wrong with.

    Raises
    ------
    UnknownFormat
        If no accepted format recognizes the file.
    """
    from PIL import Image

    Image.init()
    prefix, said = file.read(16), "Pillow does not know it either"
    if not plugins:
        said += "; the module of a plugin that does goes into worker_imports"
    for name in Image.ID:
        factory, accept = Image.OPEN[name]
        is_pillows = getattr(factory, "__module__", "").partition(".")[0] == "PIL"
        known = accept(prefix) if accept else True
        if isinstance(known, str):  # names the library that this Pillow was built without
            said = known
        elif not known:
            pass
        elif not is_pillows and not plugins:
            if accept:  # a plugin without this check claims every file
                said = (
                    f"this program has a plugin of Pillow for {name}, which workers do not have: "
                    f"name the module that registers it in worker_imports"
                )
        elif name in FORMATS or not is_pillows:
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                if accept:  # a plugin without this check is tried on every file
                    said = f"Pillow's plugin for {name} says: {str(error)[:200]}"
    raise UnknownFormat(said)


def _check_size(image: Any, max_pixels: int) -> None:
    """Raise CannotDecode if the image, or a tile of it, is too large."""
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MOST_SIDE:
        most = max_pixels if width * height > max_pixels else 0
        raise CannotDecode(_too_large(f"{width} x {height} pixels", most))
    if image.format == "TIFF":
        # A tile is decoded as a whole, even if it is much larger than the image.
        width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))
        if isinstance(width, int) and isinstance(height, int) and width * height > max_pixels:
            raise CannotDecode(_too_large(f"tiles of {width} x {height} pixels", max_pixels))


def _too_large(what: str, most: int) -> str:
    """Return the reason for refusing a size; ``most=0`` stands for the limit of a side."""
    limit = f"{most}; raise max_pixels to allow it" if most else f"{MOST_SIDE} for a side"
    return f"image too large ({what}, the limit is {limit})"


def _check_classes(image: Any, depth: int, *, is_luma: bool) -> None:
    """Raise CannotDecode if decoding would change the values of an image that may be a mask."""
    lost = None
    if depth > 8:
        lost = f"{image.format}: {depth} bits would become 8"
    elif is_luma and image.mode in ("P", "PA"):
        lost = f"{image.format}: a palette's numbers would become luma"
    if lost is not None:
        raise CannotDecode(kernel_reason(OTHER_VALUES, lost))


def _load(image: Any) -> None:
    """Decode the pixels in the order they are stored in, without turning the image."""
    if image.format == "TIFF":
        image.getexif()  # must be read before load() closes the file
        image.load_end = _nothing  # Pillow's would turn the image and delete the tag
        image.load()
        image._size = image.im.size
    else:
        image.load()


def _nothing() -> None:
    """Stand in for the method that turns a TIFF after it is loaded."""


def _pixels(image: Any, depths: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the pixels of a loaded image as RGB or RGBA.

    They are converted band by band, so that there is no third copy of the whole image.
    """
    levels = levels_of(image, depths)
    width, height = image.size
    alpha = image.has_transparency_data
    pixels = np.empty((height, width, 4 if alpha else 3), np.uint8)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        write_rows(image.crop((0, top, width, bottom)), levels, pixels[top:bottom])
    return pixels

"""The formats that the kernel does not decode: GIF, BMP, TIFF, AVIF, JPEG 2000, ... through Pillow.

Pillow is imported when the first such image comes, and not before.
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
"""EXIF's tag."""

MOST_SIDE = 65_535
"""Pixels of a side, as for the kernel's own formats."""

BAND_PIXELS = 1 << 18
"""Pixels that are converted at a time, in whole rows. What a band takes is gone before the next."""

FORMATS = (
    "AVIF", "BMP", "DDS", "DIB", "GIF", "ICO", "JPEG2000", "PCX", "PPM", "PSD", "QOI", "SGI", "SUN",
    "TGA", "TIFF",
)  # fmt: skip
"""Pillow's own formats that are let in: those of images whose header says how large they are.

JPEG, PNG and WebP the kernel has refused already, with a reason. EPS is a program, which Pillow
gives to Ghostscript; BUFR, GRIB, HDF5 and WMF go to whatever the program has registered for them.
BLP, DCX, ICNS and IPTC hold files of other formats, of other sizes than their own header's, EPS
among them. The rest is for icons, cursors, fonts and instruments, and no set of images is in it.
"""


@dataclass(frozen=True)
class Picture:
    """Decoded pixels.

    format: Pillow's name. pixels: uint8 (h, w, 3), or (h, w, 4) with alpha. orientation: EXIF's.
    """

    format: str
    pixels: NDArray[np.uint8]
    orientation: int

    @property
    def alpha(self) -> bool:
        """Whether there is a fourth channel."""
        return bool(self.pixels.shape[2] == 4)


class CannotDecode(Exception):
    """Why an image cannot be decoded, in words."""


class UnknownFormat(CannotDecode):
    """Pillow does not know it either, or is not there."""


def decode(
    blob: Any,
    max_pixels: int,
    *,
    nearest: bool = False,
    is_luma: bool = False,
    plugins: bool = False,
) -> Picture:
    """The first frame of an image in one of Pillow's formats.

    blob: bytes, or whatever exports a buffer.
    max_pixels: larger images are refused before they take memory.
    nearest, is_luma: how it will be resized, and whether to one channel. Of a mask, whose pixels
        are numbers of classes, nothing may be lost.
    plugins: let in the formats of other packages, too.

    Raises CannotDecode.
    """
    try:
        from PIL import Image
    except ImportError:
        raise UnknownFormat(
            "Pillow may know the format: pip install 'fastloader[pictures]'"
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
    except Exception as error:  # whatever its many decoders raise
        reason = f"{type(error).__name__}: {error}"
        raise CannotDecode(f"corrupt image (Pillow says {reason[:200]})") from None
    return Picture(name, pixels, orientation if orientation in range(1, 9) else 1)


# ---- what is let in ------------------------------------------------------------------------------

_lock = threading.Lock()
"""Held while Pillow's settings are ours. They belong to the process, as warnings' filters do, so
loaders in several threads of one process take turns."""


def _renew_lock() -> None:
    """In a fork there is nobody who would release it."""
    global _lock  # noqa: PLW0603 # a lock cannot be reset
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


@contextlib.contextmanager
def _settings(max_pixels: int) -> Iterator[None]:
    """Pillow's settings as they are in every worker, whatever the program's are.

    With ``workers=0`` the program's are put back afterwards.
    """
    from PIL import GifImagePlugin, Image, ImageFile

    ours: list[tuple[Any, dict[str, Any]]] = [
        # Over twice this it raises an error, in all places where a size comes to light: also in an
        # icon's frames, and where a frame of a GIF is larger than the GIF.
        (Image, {"MAX_IMAGE_PIXELS": max_pixels / 2}),
        (ImageFile, {"LOAD_TRUNCATED_IMAGES": False}),
        (
            GifImagePlugin,
            {"LOADING_STRATEGY": GifImagePlugin.LoadingStrategy.RGB_AFTER_FIRST},
        ),
    ]
    modules = [vars(module) for module, _ in ours]
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that is not quite right
        theirs = [{name: vars(module)[name] for name in values} for module, values in ours]
        put_back = map(dict.update, modules, theirs)
        try:
            for module, (_, values) in zip(modules, ours, strict=True):
                module.update(values)
            yield
        finally:
            list(put_back)  # one call, so that Ctrl-C cannot come between


def _opened(file: io.BytesIO, plugins: bool) -> Any:
    """The image, whose header has been read, and maybe more. Raises UnknownFormat.

    As ``Image.open()``, which does not say in which format something is wrong.
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
        if isinstance(known, str):  # what this Pillow was built without
            said = known
        elif not known:
            pass
        elif not is_pillows and not plugins:
            if accept:  # or it says nothing of this image
                said = (
                    f"this program has a plugin of Pillow for {name}, which workers do not have: "
                    f"name the module that registers it in worker_imports"
                )
        elif name in FORMATS or not is_pillows:
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error) as error:
                if accept:  # or it is tried with everything
                    said = f"Pillow's plugin for {name} says: {str(error)[:200]}"
    raise UnknownFormat(said)


def _check_size(image: Any, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels or max(width, height) > MOST_SIDE:
        most = max_pixels if width * height > max_pixels else 0
        raise CannotDecode(_too_large(f"{width} x {height} pixels", most))
    if image.format == "TIFF":
        # A tile is decoded whole, of whatever size it is.
        width, height = (image.tag_v2.get(tag, 0) for tag in (322, 323))
        if isinstance(width, int) and isinstance(height, int) and width * height > max_pixels:
            raise CannotDecode(_too_large(f"tiles of {width} x {height} pixels", max_pixels))


def _too_large(what: str, most: int) -> str:
    limit = f"{most}; raise max_pixels to allow it" if most else f"{MOST_SIDE} for a side"
    return f"image too large ({what}, the limit is {limit})"


def _check_classes(image: Any, depth: int, *, is_luma: bool) -> None:
    """Raise CannotDecode if something is lost of an image that may be a mask."""
    lost = None
    if depth > 8:
        lost = f"{image.format}: {depth} bits would become 8"
    elif is_luma and image.mode in ("P", "PA"):
        lost = f"{image.format}: a palette's numbers would become luma"
    if lost is not None:
        raise CannotDecode(kernel_reason(OTHER_VALUES, lost))


def _load(image: Any) -> None:
    """Decode it as it lies."""
    if image.format == "TIFF":
        image.getexif()  # which is read from a file that is let go of
        image.load_end = _nothing  # it would turn the image and delete the tag
        image.load()
        image._size = image.im.size
    else:
        image.load()


def _nothing() -> None:
    pass


def _pixels(image: Any, depths: tuple[int, ...]) -> NDArray[np.uint8]:
    """The pixels of a loaded image, made band by band: there is no third copy."""
    levels = levels_of(image, depths)
    width, height = image.size
    alpha = image.has_transparency_data
    pixels = np.empty((height, width, 4 if alpha else 3), np.uint8)
    rows = max(1, BAND_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        write_rows(image.crop((0, top, width, bottom)), levels, pixels[top:bottom])
    return pixels

"""The formats that the kernel does not decode: GIF, BMP, TIFF, AVIF, JPEG 2000, ... through Pillow.

Pillow is imported when the first such picture comes, and not before.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORIENTATION = 0x0112  # EXIF's tag

# What the kernel decodes it has refused already, with a reason. EPS is a program, which Pillow
# gives to Ghostscript: nothing that should happen to a blob from a database. IPTC wraps a picture
# of any format, EPS among them, and of any size.
NOT_ASKED = {"JPEG", "PNG", "WEBP", "EPS", "IPTC"}


@dataclass(frozen=True)
class Picture:
    """Decoded pixels. format: Pillow's name. rgba: uint8 (h, w, 4). alpha: whether the fourth is
    one. orientation: EXIF's."""

    format: str

    rgba: NDArray[np.uint8]
    alpha: bool
    orientation: int


class CannotDecode(Exception):
    """Why a picture cannot be decoded, in words."""


class UnknownFormat(CannotDecode):
    """Pillow does not know it either, or is not there."""


def decode(blob: Any, max_pixels: int) -> Picture:
    """The first frame of a picture in any format that Pillow knows.

    blob: bytes, or whatever exports a buffer. max_pixels: refuse larger ones, before they take
    memory.

    Raises CannotDecode.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise UnknownFormat(
            "Pillow may know the format: pip install 'fastloader[pictures]'"
        ) from None
    Image.init()
    formats = [name for name in Image.ID if name not in NOT_ASKED]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that is not quite right
        try:
            with Image.open(io.BytesIO(blob), formats=formats) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise CannotDecode(
                        f"image too large ({width} x {height} pixels, the limit is {max_pixels}; "
                        f"raise max_pixels to allow it)"
                    )
                image.load()
                # Only now: Pillow turns TIFFs itself while it loads them, and forgets the tag.
                orientation = image.getexif().get(ORIENTATION, 1)
                name = str(image.format)
                alpha = image.has_transparency_data
                rgba = _rgba(image, alpha)
        except Image.DecompressionBombError as error:
            raise CannotDecode(f"image too large (Pillow's own limit: {error})") from None
        except UnidentifiedImageError:
            raise UnknownFormat("Pillow does not know it either") from None
        except MemoryError:
            raise
        except Exception as error:  # whatever its many decoders raise
            if isinstance(error, CannotDecode):
                raise
            reason = f"{type(error).__name__}: {error}"
            raise CannotDecode(f"corrupt image (Pillow says {reason[:200]})") from None
    return Picture(name, rgba, alpha, orientation if orientation in range(1, 9) else 1)


def _rgba(image: Any, alpha: bool) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow clips these to 255 when it converts them; here 16 bits become 8 as in a PNG.
        levels = np.asarray(image).astype(np.uint32)
        grey = ((levels * 255 + 32895) >> 16).astype(np.uint8)
        return np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    if image.mode in ("I", "F"):
        raise CannotDecode(
            f"unsupported image ({image.format} of 32 bits for each pixel, mode {image.mode}: what "
            f"is white in it is not known; store 8 or 16 bits)"
        )
    # Not at once to RGBA, where convert() drops the alpha that it is asked for in other modes.
    converted = image.convert("RGBA" if alpha else "RGB").convert("RGBA")
    return np.ascontiguousarray(converted)

"""What the samples of Pillow's images mean: from each of its modes to RGB and alpha of 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
"""TIFF's tags."""

WHITE_IS_ZERO = 0
"""A value of the latter."""

CODESTREAM = b"\xff\x4f\xff\x51"
"""How that of a JPEG 2000 file starts."""


class NotDefined(Exception):
    """Which level a sample stands for is not known, in words."""


def depths_of(image: Any, blob: bytes) -> tuple[int, ...]:
    """The bits of each channel's samples in the file, of an image that is not loaded yet.

    Pillow's mode does not tell. Gray of 12 bits is "I;16", as it is in a TIFF, and shifted in a
    JPEG 2000; colors of 16 bits are cut to 8.
    """
    match image.format:
        case "TIFF":
            return tuple(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
        case "JPEG2000":
            # Then a length, capabilities and eight numbers of 4 bytes; and of each channel its bits
            # less 1, with the sign on top, and two steps.
            at = blob.find(CODESTREAM) + 40
            end = at + 2 + 3 * int.from_bytes(blob[at : at + 2], "big")
            return tuple((bits & 127) + 1 for bits in blob[at + 2 : end : 3])
        case "PPM":
            args = image.tile[0].args
            is_deep = image.mode == "I" or (isinstance(args, tuple) and args[-1] > 255)
            return (16 if is_deep else 8,)
        case "SGI":
            return (8 * blob[3],)
        case "AVIF":
            at = blob.find(b"av1C") + 6
            return (8 if at < 6 or not blob[at] & 0x40 else 12 if blob[at] & 0x20 else 10,)
    return (16 if image.mode.startswith("I;16") else 8,)


def levels_of(image: Any, depths: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """The table from samples to levels of 8 bits, of a loaded image in gray whose samples are not
    such levels already, or None. Raises NotDefined."""
    gray, depth = image.mode, max(depths, default=8)
    shift = 0
    if image.format == "JPEG2000" and min(depths, default=8) < 8:
        if gray != "L":
            raise NotDefined(
                f"a JPEG 2000 in mode {gray} with channels of {min(depths)} bits, whose levels "
                f"Pillow does not get right; store 8 bits"
            )
        shift = 8 - depth  # Pillow makes 128 of the white of 1 bit
    elif gray.startswith("I;16"):
        shift = 16 - depth if image.format == "JPEG2000" else 0
    elif gray == "I" and image.format == "PPM":
        depth = 16
    elif gray in ("I", "F"):
        raise NotDefined(
            f"{image.format} of 32 bits for each pixel, mode {gray}: what is white in it is not "
            f"known; store 8 or 16 bits"
        )
    else:
        return None
    white = (1 << depth) - 1
    samples = np.arange(1 << (depth + shift)) >> shift
    if image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        samples = white - samples  # which Pillow does for 8 bits
    return ((samples * 510 + white) // (2 * white)).astype(np.uint8)


def write_rows(band: Any, levels: NDArray[np.uint8] | None, pixels: NDArray[np.uint8]) -> None:
    """Write the rows of an image to ``pixels``, (h, w, 3) or with alpha (h, w, 4)."""
    if levels is not None:
        pixels[:] = np.take(levels, np.asarray(band), mode="clip")[:, :, None]
        return
    if band.mode == "La":  # premultiplied: from this there is only one way
        band = band.convert("LA")
    # Also of what is asked for without alpha: to RGBA at once, some modes lose or invent one.
    pixels[:] = np.asarray(band.convert("RGB" if pixels.shape[2] == 3 else "RGBA"))

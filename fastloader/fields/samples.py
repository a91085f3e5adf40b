"""Convert the samples of Pillow's images, in each of its modes, to 8-bit RGB and alpha."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
"""Two tags of TIFF."""

WHITE_IS_ZERO = 0
"""A value of PHOTOMETRIC."""

CODESTREAM = b"\xff\x4f\xff\x51"
"""The first bytes of the codestream in a JPEG 2000 file."""


class NotDefined(Exception):
    """Raised when it is not known which level a sample stands for; the message says why."""


def depths_of(image: Any, blob: bytes) -> tuple[int, ...]:
    """Return the bits per sample of each channel of an image that is not loaded yet.

    They are read from the file, because Pillow's mode does not tell. Gray of 12 bits has the mode
    "I;16": the samples are as stored in a TIFF, but shifted in a JPEG 2000. Colors of 16 bits are
    cut to 8.
    """
    match image.format:
        case "TIFF":
            return tuple(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))
        case "JPEG2000":
            # The SIZ segment: a length, capabilities and eight numbers of 4 bytes, then the number
            # of channels and 3 bytes for each: its bits less 1, with the sign in the top bit, and
            # two subsampling steps.
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
    """Return the table from the samples of a loaded gray image to 8-bit levels.

    Returns
    -------
    NDArray or None
        A level for each sample. None if the samples are 8-bit levels already, or in color.

    Raises
    ------
    NotDefined
        If the levels that the samples stand for are not known.
    """
    gray, depth = image.mode, max(depths, default=8)
    shift = 0
    if image.format == "JPEG2000" and min(depths, default=8) < 8:
        if gray != "L":
            raise NotDefined(
                f"a JPEG 2000 in mode {gray} with channels of {min(depths)} bits, whose levels "
                f"Pillow does not get right; store 8 bits"
            )
        shift = 8 - depth  # Pillow turns white of 1 bit into 128
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
        samples = white - samples  # Pillow does this for 8 bits only
    return ((samples * 510 + white) // (2 * white)).astype(np.uint8)


def write_rows(band: Any, levels: NDArray[np.uint8] | None, pixels: NDArray[np.uint8]) -> None:
    """Write a band of rows to ``pixels`` as RGB or RGBA.

    Parameters
    ----------
    band
        A loaded image of Pillow's.
    levels
        The result of :func:`levels_of`.
    pixels
        uint8 of shape (height, width, 3), or (height, width, 4) with alpha.
    """
    if levels is not None:
        pixels[:] = np.take(levels, np.asarray(band), mode="clip")[:, :, None]
        return
    if band.mode == "La":  # premultiplied: Pillow converts it to LA only
        band = band.convert("LA")
    # Convert to what is asked for in one step. By way of RGBA, some modes lose or invent alpha.
    pixels[:] = np.asarray(band.convert("RGB" if pixels.shape[2] == 3 else "RGBA"))

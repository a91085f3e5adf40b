"""One image: what becomes of a blob. This runs in several threads, and the kernel holds no lock."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import NO_MEMORY, UNKNOWN_FORMAT, kernel_reason
from ...fields import pillow
from ...fields._kernel import FORMATS, Decoder, encode_jpeg
from ...fields.not_images import why_no_blob
from ...fields.values import BLOB, Values

MOST_SIDE = 65_500
"""The most pixels that a side of a JPEG may have for libjpeg."""


class Shrunk(NamedTuple):
    """What has become of an image.

    Attributes
    ----------
    image
        The new bytes; the value as it is if it was copied; None for a bad row.
    reason
        Why it is a bad row, or "".
    before, after
        The bytes of the blob and of what replaces it.
    is_same
        Whether the bytes were copied.
    """

    image: Any
    reason: str
    before: int
    after: int
    is_same: bool = False


@dataclass(frozen=True)
class Shrinker:
    """Makes small JPEGs of images. It has no state, so any number of threads may use it.

    Attributes
    ----------
    column
        The name of the image column, for reasons.
    side, quality, colors, background
        See :class:`.recipe.Recipe`.
    max_blob_bytes, max_pixels, max_scans, max_chunks
        The limits of the loader.
    """

    column: str
    side: int
    quality: int
    colors: str
    background: tuple[int, int, int] | None
    max_blob_bytes: int
    max_pixels: int
    max_scans: int
    max_chunks: int

    def shrink(self, values: Values, row: int) -> Shrunk:
        """Return what becomes of the image in a row of a column.

        Raises
        ------
        MemoryError
            If there is not enough memory, so that the row is not taken for a bad one.
        """
        if values.kinds[row] != BLOB:
            reason = why_no_blob(values, row, self.column, limit=self.max_blob_bytes)
            return Shrunk(None, reason, 0, 0)
        blob = values.blobs[row : row + 1]
        before = int(blob[0, 1])
        head = np.zeros((1, 4), np.uint32)
        failures = self._decoder(1, 1).look(blob, head)
        if failures and failures[0][1] == UNKNOWN_FORMAT:
            pixels, reason = self._by_pillow(values.value(row), failures[0][2])
            is_jpeg = is_upright = False
        elif failures:
            return Shrunk(None, _reason(failures), before, 0)
        else:
            number, height, width, orientation = head[0].tolist()
            is_jpeg, is_upright = number == FORMATS["JPEG"], orientation == 1
            pixels, reason = self._by_kernel(blob, height, width)
            is_upright = is_upright and pixels is not None and pixels.shape[:2] == (height, width)
        if pixels is None:
            return Shrunk(None, reason, before, 0)
        if self.colors == "srgb":
            converted = to_srgb(pixels, values.value(row))
            is_upright = is_upright and converted is None
            pixels = pixels if converted is None else converted
        image = encode_jpeg(grayed(pixels), quality=self.quality)
        if is_jpeg and is_upright and len(image) >= before:
            return Shrunk(values.value(row), "", before, before, is_same=True)
        return Shrunk(image, "", before, len(image))

    def _decoder(self, height: int, width: int) -> Decoder:
        """Return a decoder for one image. It takes 0.02 ms to make, and images differ in size."""
        return Decoder(
            height, width, max_pixels=self.max_pixels, max_scans=self.max_scans,
            max_chunks=self.max_chunks, background=self.background, filter="lanczos",
        )  # fmt: skip

    def _by_kernel(
        self, blob: NDArray[np.intp], height: int, width: int
    ) -> tuple[NDArray[np.uint8] | None, str]:
        """Return the small image, or the reason why there is none.

        An image that ends early is a bad row, although a loader fills it up with gray: the gray
        would stay, and nothing would show any more that it is not the image's own.
        """
        small = small_size(height, width, self.side)
        if reason := too_long(small):
            return None, reason
        pixels = np.empty((1, *small, 3), np.uint8)
        failures = self._decoder(*small).decode(blob, pixels)
        return (None, _reason(failures)) if failures else (pixels[0], "")

    def _by_pillow(self, blob: bytes, message: str) -> tuple[NDArray[np.uint8] | None, str]:
        """Return the small image of a format that the kernel does not know, or the reason."""
        try:
            found = pillow.decode(blob, self.max_pixels)
        except pillow.UnknownFormat as error:
            return None, kernel_reason(UNKNOWN_FORMAT, f"{message}; {error}")
        except pillow.CannotDecode as error:
            return None, str(error)
        height, width = found.pixels.shape[:2]
        if found.orientation > 4:
            height, width = width, height
        small = small_size(height, width, self.side)
        if reason := too_long(small):
            return None, reason
        pixels = np.empty((1, *small, 3), np.uint8)
        failure = self._decoder(*small).resize(
            found.pixels, pixels, alpha=found.alpha, orientation=found.orientation
        )
        return (None, _reason([(0, *failure)])) if failure else (pixels[0], "")


def small_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Return the size with a short side of at most ``side``. No image becomes larger."""
    short = min(height, width)
    if short <= side:
        return height, width
    small = [(2 * its * side + short) // (2 * short) for its in (height, width)]
    return small[0], small[1]


def too_long(small: tuple[int, int]) -> str:
    """Return why a JPEG cannot have this size, or ""."""
    height, width = small
    if max(small) <= MOST_SIDE:
        return ""
    return f"an image of {height} x {width} pixels is too long for a JPEG"


def grayed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the one channel of an image without colors, (height, width, 1), or the image."""
    for part in (pixels[:1], pixels):  # nearly all images with colors show it in their first row
        red, green, blue = (part[:, :, channel] for channel in range(3))
        if not (np.array_equal(red, green) and np.array_equal(red, blue)):
            return pixels
    return np.ascontiguousarray(pixels[:, :, :1])


def to_srgb(pixels: NDArray[np.uint8], blob: bytes) -> NDArray[np.uint8] | None:
    """Return the pixels with the blob's color profile applied, or None.

    It is None without a profile, with one that is not of RGB, and with one that cannot be used.
    """
    from PIL import Image, ImageCms

    try:
        with Image.open(io.BytesIO(blob)) as opened:
            profile = opened.info.get("icc_profile")
        if not profile:
            return None
        theirs = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if theirs.profile.xcolor_space.strip() != "RGB":
            return None
        image = Image.fromarray(pixels)
        made = ImageCms.profileToProfile(image, theirs, ImageCms.createProfile("sRGB"))
    except MemoryError:
        raise
    except Exception:  # Pillow's decoders and the profile's parser may raise anything
        return None
    return None if made is None else np.ascontiguousarray(np.asarray(made))


def _reason(failures: list[tuple[int, int, str]]) -> str:
    """Return why an image is bad. Raises MemoryError if that is not the image's fault."""
    _, status, message = failures[0]
    if status == NO_MEMORY:
        raise MemoryError(message)
    return kernel_reason(status, message)

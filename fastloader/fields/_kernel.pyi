from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

version: str
"""Of the package that it was compiled for."""
libraries: str
"""What decodes, e.g. ``"libjpeg-turbo 2.1.5, ..."``."""
sanitized: bool
"""Whether the kernel was compiled with AddressSanitizer."""

FITS: dict[str, int]
FILTERS: dict[str, int]
LAYOUTS: dict[str, int]
DTYPES: dict[str, int]
FORMATS: dict[str, int]

def crc32(buffers: Sequence[Any]) -> int:
    """The checksum of gzip (zlib.crc32) of buffers one after the other, without the GIL: 150 KB in
    0.01 ms, where zlib's own takes 0.1."""

@disjoint_base
class Decoder:
    """Decodes JPEG, PNG and WebP, and makes each picture ``height`` x ``width``.

    channels: 3 for RGB, 1 for luma. luma_later: the caller makes luma of the RGB.
    fit: "stretch"; "crop", the largest centred box of the wanted proportions times
        ``crop_fraction``; "pad", all of the picture with ``background`` around it; "random_crop", a
        box with a share of the area from ``scale`` and width / height from ``ratio``.
    flip: mirror one picture in two. ``seed``, epoch and row decide, for the crops too.
    filter: a key of FILTERS, as Pillow defines them.
    orientation: turn pictures as their EXIF data asks.
    quality: "exact", or "fast" for a reduced decode with cheaper arithmetic.
    background: levels (red, green, blue) for pictures with alpha to be composed over; None drops
        alpha.
    layout, dtype: keys of LAYOUTS and DTYPES. The float types hold (level / 255 - mean) / std.
    strict: refuse a blob that ends early or is damaged, rather than fill up with grey.
    max_pixels, max_scans, max_chunks: of an encoded picture.
    portable: no vector instructions; the pixels are the same.
    timed: keep ``times``.

    Keeps its scratch memory between calls. One thread at a time. Raises ValueError for an option
    out of its range.
    """

    shape: tuple[int, int, int]
    """Of one picture."""
    dtype: str
    simd: str
    """The vector instructions in use: ``"avx2"``, ``"neon"`` or ``"portable"``."""
    seen: tuple[int, int]
    """Height and width of the last picture, turned as it is to be seen."""
    times: dict[str, float]
    """Seconds so far: "total", and of these "resize" and "write"."""

    def __init__(
        self,
        height: int,
        width: int,
        *,
        max_pixels: int,
        max_scans: int = 100,
        max_chunks: int = 100_000,
        channels: int = 3,
        luma_later: bool = False,
        fit: str = "stretch",
        crop_fraction: float = 1.0,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = ...,
        flip: bool = False,
        seed: int = 0,
        filter: str = "bilinear",
        orientation: bool = True,
        quality: str = "exact",
        background: tuple[int, int, int] | None = None,
        layout: str = "NHWC",
        dtype: str = "uint8",
        mean: tuple[float, float, float] = ...,
        std: tuple[float, float, float] = ...,
        strict: bool = False,
        portable: bool = False,
        timed: bool = False,
    ) -> None: ...
    def decode(
        self,
        # bytes, memoryview, ...: whatever exports a contiguous buffer
        blobs: Sequence[Any] | NDArray[np.intp],
        pictures: NDArray[Any],
        rows: NDArray[np.uint64] | None = None,
        epoch: int = 0,
        seen: NDArray[np.uint32] | None = None,
    ) -> list[tuple[int, int, str]]:
        """Makes blob ``i`` into ``pictures[i]``, without the GIL.

        blobs: a list of buffers, or intp (n, 2): the address and size of memory that the caller
        keeps alive. pictures: (n or more, *shape) of ``dtype``, C-contiguous. rows: for each blob
        the number that its crop is a function of, with ``epoch``. seen: (n or more, 2), is given
        the heights and widths of the pictures, turned as they are to be seen.

        Returns ``(i, status, message)`` for each blob that is not all right; the statuses are
        named in :data:`fastloader.errors.KERNEL_STATUS`. Unless it is PARTIAL, what such a blob
        left in ``pictures[i]`` is undefined. Raises ValueError where the arrays do not fit.
        """

    def take_pictures(self) -> dict[str, tuple[int, int, int, int]]:
        """What has been decoded since the last call: for each format in FORMATS that there was the
        number of pictures, the bytes of their blobs, their pixels before the resize, and those of
        the largest."""

    def crop(
        self,
        stored: NDArray[np.uint8],
        pictures: NDArray[Any],
        rows: NDArray[np.uint64],
        epoch: int,
        original: NDArray[np.uint32] | None = None,
    ) -> None:
        """Makes decoded pictures, (n, h, w, 3), into ``pictures``, without the GIL.

        rows: as of :meth:`decode`. original: (n, 2), the sizes that the pictures had before they
        were made h x w; random crops are the boxes that :meth:`decode` would take of those, and not
        of what they are now. Raises MemoryError.
        """

    def resize(
        self,
        pixels: NDArray[np.uint8],
        picture: NDArray[Any],
        *,
        alpha: bool = False,
        orientation: int = 1,
        row: int = 0,
        epoch: int = 0,
    ) -> tuple[int, str] | None:
        """Makes decoded pixels, RGB (h, w, 3) or RGBA (h, w, 4), into ``picture[0]``.

        alpha: whether there is one in the fourth byte of a pixel. orientation: EXIF's. Returns
        None, or ``(status, message)``.
        """

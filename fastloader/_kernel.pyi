from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

jpeg_version: str
"""The JPEG library that the kernel was compiled against, e.g. ``"libjpeg-turbo 2.1.5"``."""
sanitized: bool
"""Whether the kernel was compiled with AddressSanitizer."""

class Decoder:
    """Decodes encoded pictures and resizes them to ``height`` x ``width``.

    ``max_pixels`` bounds width times height of an encoded picture, ``max_scans`` the scans of a
    progressive JPEG. ``portable`` keeps it from using vector instructions; the pixels are the
    same. Keeps its scratch memory between calls. One thread at a time.
    """

    height: int
    width: int
    simd: str
    """The vector instructions in use: ``"avx2"`` or ``"portable"``."""

    def __init__(
        self,
        height: int,
        width: int,
        *,
        max_pixels: int,
        max_scans: int,
        portable: bool = False,
    ) -> None: ...
    def decode(
        self,
        # bytes, memoryview, ...: whatever exports a contiguous buffer
        blobs: Sequence[Any] | NDArray[np.intp],
        pixels: NDArray[np.uint8],
    ) -> list[tuple[int, int, str]]:
        """Writes blob ``i`` to ``pixels[i]``, uint8 (n, height, width, 3), without the GIL.

        The blobs are a list of buffers, or intp (n, 2): the address and size of memory that the
        caller keeps alive.

        Returns ``(i, status, message)`` for each blob that could not be decoded; the statuses are
        named in :data:`fastloader.errors.KERNEL_STATUS`. What such a blob left in ``pixels[i]`` is
        undefined. Raises ValueError where the shapes do not fit.
        """

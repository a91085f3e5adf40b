"""The decoders that contestants and peers share: a JPEG becomes RGB levels of 224x224.

They run wherever a loader calls them: in the training process, in its threads, or in its worker
processes.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from .measure import SIZE


def pillow_pixels(blob: bytes) -> NDArray[np.uint8]:
    """Return the image as Pillow decodes and resizes it, uint8 (height, width, 3)."""
    from PIL import Image

    with Image.open(io.BytesIO(blob)) as image:
        small = image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR)
    return np.asarray(small)


def opencv_pixels(blob: bytes, target: NDArray[np.uint8]) -> None:
    """Decode and resize the image with OpenCV into ``target``, uint8 (height, width, 3)."""
    import cv2

    image = cv2.imdecode(
        np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    )
    small = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_LINEAR)
    # Swap the channels of the small image: that is 0.2 ms faster than swapping the large one.
    cv2.cvtColor(small, cv2.COLOR_BGR2RGB, dst=target)

"""Single images as the kernel makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fastloader.fields._kernel import Decoder

LIMITS = {"max_pixels": 10**8}
SIMD = pytest.mark.parametrize("portable", [False, True], ids=["simd", "portable"])


def kernel_image(
    blob: bytes, height: int, width: int, *, row: int = 0, epoch: int = 0, **options: Any
) -> NDArray[Any]:
    """Decode one image with the kernel, to the shape and type of the options."""
    decoder = Decoder(height, width, **LIMITS, **options)
    images = np.zeros((1, *decoder.shape), decoder.dtype)
    rows = np.array([row], np.uint64)
    assert decoder.decode([blob], images, rows, epoch) == []
    return images[0]


def raw(image: NDArray[np.uint8], height: int, width: int, **options: Any) -> NDArray[Any]:
    """Resize decoded RGBA pixels with the kernel."""
    decoder = Decoder(height, width, **LIMITS, **options)
    images = np.zeros((1, *decoder.shape), decoder.dtype)
    assert decoder.resize(image, images, alpha=True) is None
    return images[0]


def close(ours: NDArray[Any], reference: NDArray[np.float64]) -> bool:
    """Check that the levels are within one of the rounded reference."""
    return bool(np.abs(ours.astype(int) - np.floor(reference + 0.5)).max() <= 1)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return independent levels, the worst case for a filter with negative weights."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)

"""Small images of every kind that the kernel decodes, by file name."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from .small_jpegs import HEIGHT, SMALL_JPEGS, WIDTH
from .small_webps import SMALL_WEBPS


def _image(mode: str, seed: int = 3) -> Image.Image:
    """Return gradients with some noise, HEIGHT x WIDTH."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    levels = np.stack([x * 11, y * 15, (x + y) * 6, 255 - x * 9], 2)
    noisy = (levels + rng.integers(-9, 10, levels.shape)).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(noisy)
    return image.quantize(40) if mode == "P" else image.convert(mode)


def encoded(format: str, mode: str, **options: Any) -> bytes:
    """Return a small image in a format and one of Pillow's modes."""
    file = io.BytesIO()
    _image(mode).save(file, format, **options)
    return file.getvalue()


SMALL_PNGS = {
    "gray_1": encoded("PNG", "1"),
    "gray": encoded("PNG", "L"),
    "gray_16": encoded("PNG", "I;16"),
    "gray_alpha": encoded("PNG", "LA"),
    "rgb": encoded("PNG", "RGB"),
    "rgba": encoded("PNG", "RGBA"),
    "palette": encoded("PNG", "P"),
    "palette_4": encoded("PNG", "P", bits=4),
    "palette_alpha": encoded("PNG", "P", transparency=bytes(range(40))),
}
SMALL_IMAGES = {
    **{f"{name}.jpg": blob for name, blob in SMALL_JPEGS.items()},
    **{f"{name}.png": blob for name, blob in SMALL_PNGS.items()},
    **{f"{name}.webp": blob for name, blob in SMALL_WEBPS.items()},
}

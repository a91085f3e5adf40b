"""A contact sheet: images in a grid, with a caption below each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

SHEET_WIDTH, COLUMNS, GAP, CAPTION_HEIGHT = 900, 8, 8, 18
BACKGROUND, INK = "#ffffff", "#444444"


def contact_sheet(
    images: NDArray[np.uint8], captions: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Save images as a grid with a caption below each.

    Parameters
    ----------
    images
        (n, height, width, 3).
    captions
        A text for each image. One that is too long is cut.
    path
        The file to write. Its suffix chooses the format.
    """
    count, height, width = images.shape[:3]
    cell_width = (SHEET_WIDTH - GAP) // COLUMNS - GAP
    cell_height = max(1, round(cell_width * height / width))
    row_height = cell_height + CAPTION_HEIGHT + GAP
    rows = -(-count // COLUMNS)
    sheet = Image.new("RGB", (SHEET_WIDTH, GAP + rows * row_height), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), _font()
    margin = (SHEET_WIDTH - COLUMNS * (cell_width + GAP) + GAP) // 2
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = margin + i % COLUMNS * (cell_width + GAP)
        y = GAP + i // COLUMNS * row_height
        thumbnail = Image.fromarray(image).resize((cell_width, cell_height), Image.Resampling.BOX)
        sheet.paste(thumbnail, (x, y))
        text = _fitted(caption, font, cell_width)
        left, top, right, bottom = font.getbbox(text)
        middle = (x + cell_width / 2, y + cell_height + CAPTION_HEIGHT / 2)
        draw.text((middle[0] - (left + right) / 2, middle[1] - (top + bottom) / 2), text, INK, font)
    sheet.save(path)


def _font() -> Any:
    try:
        return ImageFont.load_default(12)
    except ImportError:  # built without FreeType: Pillow's own bitmap font has Latin letters only
        return ImageFont.load_default()


def _fitted(text: str, font: Any, width: int) -> str:
    """Return the text, cut if it is wider than ``width`` pixels."""
    if isinstance(font, ImageFont.ImageFont):
        text = text.encode("latin-1", "replace").decode("latin-1")
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."

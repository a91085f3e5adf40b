"""Masks: filter="nearest" keeps the stored class numbers, or says that it cannot."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastloader.errors import KERNEL_STATUS, OTHER_VALUES, kernel_reason
from fastloader.fields._kernel import Decoder

CLASSES = np.arange(12, dtype=np.uint8).reshape(3, 4)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def palette() -> Image.Image:
    """Return a mask with a palette in which classes 1 and 2 have nearly the same luma."""
    image = Image.fromarray(CLASSES).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 130, 0, *range(27)])
    return image


def decode(
    blob: bytes, channels: int, filter: str
) -> tuple[list[tuple[int, int, str]], NDArray[np.uint8]]:
    pixels = np.zeros((1, 3, 4, channels), np.uint8)
    decoder = Decoder(3, 4, max_pixels=100, channels=channels, filter=filter)
    return decoder.decode([blob], pixels), pixels[0]


def test_a_palettes_numbers_do_not_become_luma() -> None:
    [(_, status, message)], _ = decode(png(palette()), 1, "nearest")
    assert status == OTHER_VALUES
    reason = kernel_reason(status, message)
    assert reason.startswith('values that filter="nearest" would not keep (PNG: a palette')
    assert "store class numbers as 8-bit gray" in reason


@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_do_not_become_8(channels: int) -> None:
    image = Image.fromarray(CLASSES.astype(np.uint16) * 100)
    [(_, status, message)], _ = decode(png(image), channels, "nearest")
    assert (KERNEL_STATUS[status], message) == (
        KERNEL_STATUS[OTHER_VALUES], "PNG: 16 bits would become 8",
    )  # fmt: skip


def test_what_keeps_its_values_is_delivered() -> None:
    failures, pixels = decode(png(Image.fromarray(CLASSES)), 1, "nearest")
    assert failures == []
    np.testing.assert_array_equal(pixels[:, :, 0], CLASSES)
    failures, pixels = decode(png(palette()), 3, "nearest")
    assert failures == []
    np.testing.assert_array_equal(pixels, np.asarray(palette().convert("RGB")))


@pytest.mark.parametrize("filter", ["box", "bilinear"])
def test_other_filters_take_a_palette_for_colors(filter: str) -> None:
    assert decode(png(palette()), 1, filter)[0] == []

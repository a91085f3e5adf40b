"""Pixels exactly between two samples, where "nearest" and "box" have to take a side."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fastloader.fields._kernel import Decoder

from .tiers import few

FILTERS = ("nearest", "box", "bilinear", "bicubic", "lanczos")


def resized(blob: bytes, height: int, width: int, **options: Any) -> NDArray[np.uint8]:
    """Return gray levels of shape (height, width)."""
    decoder = Decoder(height, width, max_pixels=10**6, channels=1, **options)
    pixels = np.zeros((1, height, width, 1), np.uint8)
    assert decoder.decode([blob], pixels) == []
    return pixels[0, :, :, 0]


def png(levels: NDArray[np.uint8], orientation: int = 1) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(levels).save(file, "PNG", exif=exif)
    return file.getvalue()


def noise(height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng([height, width])
    return rng.integers(0, 256, (height, width), np.uint8)


def pairs(count: int) -> list[tuple[int, int]]:
    """Return pairs of (pixels, samples), half of them small: those have the most ties."""
    rng = np.random.default_rng(27)
    small = {(int(a), int(b)) for a, b in rng.integers(1, 60, (count // 2, 2))}
    large = {(int(a), int(b)) for a, b in rng.integers(1, 700, (count // 2, 2))}
    return sorted({(14, 299), (4, 197), (16, 239), (299, 14)} | small | large)


@few(1)
@pytest.mark.parametrize("orientation", [1, 2])
def test_nearest_takes_the_pixel_that_exact_numbers_give(orientation: int) -> None:
    for count, samples in pairs(1200):
        row = noise(1, count)
        exact = [(2 * i + 1) * count // (2 * samples) for i in range(samples)]
        stored = row if orientation == 1 else row[:, ::-1].copy()
        ours = resized(png(stored, orientation), 1, samples, filter="nearest")
        np.testing.assert_array_equal(ours[0], row[0, exact], f"{count} to {samples}")
        down = resized(png(row.T.copy()), samples, 1, filter="nearest")
        np.testing.assert_array_equal(down[:, 0], row[0, exact], f"{count} to {samples}")


@pytest.mark.parametrize("orientation", [1, 2])
def test_box_takes_the_pixels_that_pillow_takes(orientation: int) -> None:
    for count, samples in pairs(500):
        row = noise(1, count)
        expected = Image.fromarray(row).resize((samples, 1), Image.Resampling.BOX)
        stored = row if orientation == 1 else row[:, ::-1].copy()
        ours = resized(png(stored, orientation), 1, samples, filter="box").astype(int)
        assert np.abs(ours - np.asarray(expected)).max() <= 1, f"{count} to {samples}"


def test_a_row_of_three_pixels_that_is_mirrored() -> None:
    row = np.array([[0, 0, 255]], np.uint8)
    assert resized(png(row, 2), 1, 2, filter="box").tolist() == [[128, 0]]
    assert resized(png(row, 2), 1, 2, filter="nearest").tolist() == [[255, 0]]
    assert resized(png(row[:, ::-1].copy()), 1, 2, filter="nearest").tolist() == [[255, 0]]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad", "random_crop"])
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_and_resizing_is_resizing_what_was_turned(
    orientation: int, filter: str, fit: str
) -> None:
    """It is equal to the bit if rows stay rows; otherwise the passes round once more."""
    rng = np.random.default_rng(orientation)
    most = 0
    for height, width, out_height, out_width in rng.integers(1, 40, (25, 4)).tolist():
        stored = png(noise(height, width), orientation)
        upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(stored)))).copy()
        options: dict[str, Any] = {"filter": filter, "fit": fit, "flip": True, "seed": height}
        ours = resized(stored, out_height, out_width, **options)
        expected = resized(png(upright), out_height, out_width, **options)
        most = max(most, int(np.abs(ours.astype(int) - expected).max()))
    assert most <= (0 if orientation <= 4 or filter == "nearest" else 1)


@pytest.mark.parametrize("fit", ["stretch", "crop", "random_crop"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_at_half_its_size_is_turned_alike(orientation: int, fit: str) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    sides = np.repeat(np.repeat(noise(9, 12), 8, axis=0), 8, axis=1)
    Image.fromarray(sides).save(file, "JPEG", exif=exif, quality=100)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file.getvalue())))
    again = io.BytesIO()
    upright.save(again, "JPEG", quality=100)
    for size in (1, 2, 4, 6):
        options: dict[str, Any] = {"filter": "box", "fit": fit, "quality": "fast", "seed": 3}
        ours = resized(file.getvalue(), size, size, **options)
        expected = resized(again.getvalue(), size, size, **options)
        assert np.abs(ours.astype(int) - expected).max() <= 3

"""The orientation in a PNG's text, where ImageMagick put it, in every type that Pillow accepts."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from fastloader.fields._kernel import Decoder

PIXELS = np.random.default_rng(25).integers(0, 256, (4, 6, 3), np.uint8)
SHORT, LONG = 3, 4


def exif(orientation: int, kind: int = SHORT) -> bytes:
    value = struct.pack("<HH", orientation, 0) if kind == SHORT else struct.pack("<I", orientation)
    entry = struct.pack("<HHI", 0x0112, kind, 1) + value
    return b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)


def text(data: bytes) -> str:
    digits = data.hex()
    lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
    return f"\nexif\n{len(data):8}\n{lines}\n"


def png(profile: str | None = None, *, zip: bool = False, data: bytes = b"") -> bytes:
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    if profile is not None:
        info.add_text("Raw profile type exif", profile, zip=zip)
    Image.fromarray(PIXELS).save(file, "PNG", pnginfo=info, exif=data)
    return file.getvalue()


def agrees(blob: bytes) -> bool:
    """Return whether the pixels are those of Pillow's ImageOps.exif_transpose()."""
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(blob))))
    pixels = np.zeros((1, *expected.shape), np.uint8)
    decoder = Decoder(*expected.shape[:2], max_pixels=100)
    assert decoder.decode([blob], pixels) == []
    return bool((pixels[0] == expected).all())


@pytest.mark.parametrize("zip", [False, True])
@pytest.mark.parametrize("kind", [SHORT, LONG])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_raw_profile_turns_as_pillow_does(orientation: int, kind: int, zip: bool) -> None:
    assert agrees(png(text(exif(orientation, kind)), zip=zip))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_long_orientation_turns_as_pillow_does(orientation: int) -> None:
    assert agrees(png(data=exif(orientation, LONG)))


def test_an_exif_chunk_comes_before_a_raw_profile() -> None:
    assert agrees(png(text(exif(6)), data=exif(3)))


@pytest.mark.parametrize("zip", [False, True])
@pytest.mark.parametrize(
    "profile", ["", "\n", "\nexif\n", "\nexif\n  9\nzz\n", "\nexif\n9\n457869660"]
)
def test_a_raw_profile_that_is_none_is_passed_over(profile: str, zip: bool) -> None:
    pixels = np.zeros((1, 4, 6, 3), np.uint8)
    assert Decoder(4, 6, max_pixels=100).decode([png(profile, zip=zip)], pixels) == []
    np.testing.assert_array_equal(pixels[0], PIXELS)


def test_a_raw_profile_of_megabytes_is_read_in_part() -> None:
    pixels = np.zeros((1, 6, 4, 3), np.uint8)
    blob = png(text(exif(6) + bytes(3 << 20)), zip=True)
    assert Decoder(6, 4, max_pixels=100).decode([blob], pixels) == []
    np.testing.assert_array_equal(pixels[0], np.rot90(PIXELS, -1))

"""The kernel looks at the head of an image without decoding it, and encodes JPEG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastloader.errors import KERNEL_STATUS, UNKNOWN_FORMAT
from fastloader.fields._kernel import FORMATS, Decoder, encode_jpeg
from fastloader.fields.values import Values

from .small_images import SMALL_IMAGES
from .small_jpegs import HEIGHT, WIDTH
from .support import DATA, jpeg, needs_data

LIMITS = {"max_pixels": 50_000_000}


def looked(blob: bytes, **options: Any) -> tuple[int, int, int, int] | tuple[int, str]:
    """Return the format, height, width and orientation, or the status and the message."""
    head = np.zeros((1, 4), np.uint32)
    values = Values.of([blob])
    failures = Decoder(5, 7, **LIMITS | options).look(values.blobs, head)
    if failures:
        return failures[0][1:]
    number, height, width, orientation = head[0].tolist()
    return number, height, width, orientation


@pytest.mark.parametrize("name", SMALL_IMAGES)
def test_a_head_has_format_size_and_orientation(name: str) -> None:
    suffix = {"jpg": "JPEG", "png": "PNG", "webp": "WebP"}[name.rpartition(".")[2]]
    number, height, width, orientation = looked(SMALL_IMAGES[name])
    pixels = np.empty((1, 5, 7, 3), np.uint8)
    decoder = Decoder(5, 7, **LIMITS)
    assert decoder.decode([SMALL_IMAGES[name]], pixels) == []
    assert (number, (height, width)) == (FORMATS[suffix], decoder.seen)
    assert orientation in range(1, 9)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_head_is_turned_as_exif_asks(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    blob = jpeg(32, 24, exif=exif)
    height, width = (24, 32) if orientation < 5 else (32, 24)
    assert looked(blob) == (FORMATS["JPEG"], height, width, orientation)
    assert looked(blob, orientation=False) == (FORMATS["JPEG"], 24, 32, 1)


def test_a_head_needs_no_pixels_and_says_why_there_is_none() -> None:
    whole = jpeg(64, 48)
    scan = whole.index(b"\xff\xda")
    assert looked(whole[: scan + 20]) == (FORMATS["JPEG"], 48, 64, 1)
    assert looked(b"GIF89a and so on")[0] == UNKNOWN_FORMAT
    assert "limit is 10" in str(looked(whole, max_pixels=10)[1])


def test_a_decoder_decodes_as_before_after_it_has_looked() -> None:
    decoder, first, again = Decoder(5, 7, **LIMITS), *np.zeros((2, 1, 5, 7, 3), np.uint8)
    blob = SMALL_IMAGES["444.jpg"]
    decoder.decode([blob], first)
    other = Values.of([jpeg(100, 10)])  # which owns the blob
    decoder.look(other.blobs, np.zeros((1, 4), np.uint32))
    decoder.decode([blob], again)
    assert np.array_equal(first, again)
    assert decoder.seen == (HEIGHT, WIDTH)


@needs_data
def test_whatever_is_decoded_has_the_size_of_its_head() -> None:
    decoder = Decoder(8, 8, **LIMITS)
    pixels, head = np.empty((1, 8, 8, 3), np.uint8), np.zeros((1, 4), np.uint32)
    sizes = 0
    for path in sorted(path for path in (DATA / "corpora").rglob("*") if path.is_file()):
        blob = path.read_bytes()
        values = Values.of([blob])
        failures = decoder.decode(values.blobs, pixels)
        seen = decoder.seen
        looks = decoder.look(values.blobs, head)
        if not failures or KERNEL_STATUS[failures[0][1]][0] == "partial image":
            assert looks == [], path
            assert tuple(head[0, 1:3].tolist()) == seen, path
            sizes += 1
    assert sizes > 500


# ---- encoding ------------------------------------------------------------------------------------


def photo(height: int = 53, width: int = 78) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(jpeg(width, height)))
    return np.ascontiguousarray(np.asarray(image))


def by_pillow(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(
        out, "JPEG", subsampling="4:2:0", optimize=True, **options
    )
    return out.getvalue()


@pytest.mark.parametrize("quality", [1, 50, 90, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_what_pillow_makes_with_optimal_tables(quality: int, channels: int) -> None:
    pixels = np.ascontiguousarray(photo()[:, :, :channels])
    ours = encode_jpeg(pixels, quality=quality)
    theirs = by_pillow(pixels, quality=quality)
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(x))) for x in (ours, theirs)))
    assert abs(len(ours) - len(theirs)) < 50


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (7, 9), (300, 400)])
def test_noise_of_any_size_fits_and_comes_back(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    with Image.open(io.BytesIO(encode_jpeg(pixels, quality=100))) as image:
        image.load()
        assert (image.height, image.width, image.mode) == (*size, "RGB")


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((5, 5, 2), {"quality": 90}),
        ((5, 5, 4), {"quality": 90}),
        ((0, 5, 3), {"quality": 90}),
        ((5, 65_501, 3), {"quality": 90}),
        ((5, 5, 3), {"quality": 0}),
        ((5, 5, 3), {"quality": 101}),
    ],
)
def test_what_no_jpeg_can_be_made_of_is_refused(shape: Any, options: Any) -> None:
    with pytest.raises(ValueError, match="cannot be encoded|no image"):
        encode_jpeg(np.zeros(shape, np.uint8), **options)


def test_nothing_is_left_of_encoding_many_images() -> None:
    pixels = photo(200, 300)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    for _ in range(20):
        encode_jpeg(pixels, quality=90)
    before = resident()
    for _ in range(300):
        encode_jpeg(pixels, quality=90)
    assert resident() - before < 500  # pages; a leak of each would be 4000

"""What Pillow's samples mean: every mode and depth has the right levels, or a reason."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

import fastloader
from fastloader.fields import pillow
from fastloader.fields.context import Context
from fastloader.fields.image_decoder import ImageDecoder
from fastloader.fields.values import Values

from .small_tiffs import EXTRA, saved, tiff

needs_jpeg_2000 = pytest.mark.skipif(not features.check("jpg_2000"), reason="not in this Pillow")


def decoded(blob: bytes, height: int, width: int, **options: Any) -> NDArray[np.uint8] | str:
    """Return the image at its own size, or why it is bad."""
    field = fastloader.Image("i", size=(height, width), **options)
    images = np.zeros((1, *field.delivered("i").shape), np.uint8)
    decoder = ImageDecoder(field, Context())
    bad, partial = decoder.decode(Values.of([blob]), images, np.zeros(1, np.uint64), 0)
    assert not partial
    return bad[0] if bad else images[0]


def gray(blob: bytes, width: int = 2) -> list[int]:
    found = decoded(blob, 1, width, channels=1)
    assert not isinstance(found, str), found
    return [int(level) for level in found[0, :, 0]]


# ---- depths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("deflate", [False, True])
def test_12_bits_of_a_tiff_have_their_own_white(deflate: bool) -> None:
    blob = tiff(2, 1, bytes.fromhex("fff800"), bits=(12,), deflate=deflate)  # 4095, 2048
    assert gray(blob) == [255, 128]


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("big_endian", [False, True])
def test_16_bits_of_a_tiff_in_both_byte_orders(big_endian: bool, deflate: bool) -> None:
    data = np.array([65535, 32896, 257, 128], ">u2" if big_endian else "<u2").tobytes()
    blob = tiff(4, 1, data, bits=(16,), big_endian=big_endian, deflate=deflate)
    assert gray(blob, 4) == [255, 128, 1, 0]


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_where_zero_is_white_it_is_white_at_every_depth(bits: int) -> None:
    samples = np.array([0] * 8, "<u2" if bits == 16 else "u1").tobytes()
    assert gray(tiff(8, 1, samples, bits=(bits,), photometric=0), 8) == [255] * 8


def test_a_gray_map_of_any_maximum_has_its_own_white() -> None:
    for most in (1, 100, 255, 1023, 65535):
        size = 1 if most < 256 else 2
        assert gray(b"P5 2 1 %d\n" % most + most.to_bytes(size, "big") + bytes(size)) == [255, 0]


def jpeg_2000(samples: list[int], bits: int, mode: str = "L", **options: Any) -> bytes:
    """Return a lossless JPEG 2000 of one row of samples of any depth.

    Pillow writes 8 or 16 bits, and stores the samples less half of white. So the samples are
    shifted first, and the depth in the header is changed afterwards.
    """
    written = 16 if bits > 8 else 8
    shifted = np.array(samples) + (1 << (written - 1)) - (1 << (bits - 1))
    pixels = np.tile(shifted.astype(np.uint16 if bits > 8 else np.uint8), (8, 1))
    image = Image.fromarray(pixels)
    image = Image.merge(mode, [image] * len(mode)) if len(mode) > 1 else image
    blob = bytearray(saved(image, "JPEG2000", irreversible=False, no_jp2=True, mct=0, **options))
    at = blob.index(b"\xff\x4f\xff\x51") + 42
    for channel in range(len(image.getbands())):
        assert blob[at + 3 * channel] == written - 1
        blob[at + 3 * channel] = bits - 1
    return bytes(blob)


@needs_jpeg_2000
@pytest.mark.parametrize("bits", [1, 2, 4, 7, 8, 9, 10, 12, 14, 16])
def test_gray_of_a_jpeg_2000_has_its_own_white_at_every_depth(bits: int) -> None:
    white = (1 << bits) - 1
    samples = [0, white, white // 2, white // 3, 0, white, 0, white]
    found = decoded(jpeg_2000(samples, bits), 8, 8)
    expected = np.floor(np.array(samples) * 255 / white + 0.5)
    np.testing.assert_array_equal(found, np.broadcast_to(expected[None, :, None], (8, 8, 3)))


@needs_jpeg_2000
def test_colors_of_a_jpeg_2000_below_8_bits_are_refused() -> None:
    found = decoded(jpeg_2000([0, 31] * 4, 5, "RGB"), 8, 8)
    assert "mode RGB with channels of 5 bits, whose levels Pillow does not get right" in found


@pytest.mark.parametrize("blob", [
    tiff(2, 1, np.array([0, 1], "<f4").tobytes(), bits=(32,), tags={339: 3}),
    tiff(2, 1, np.array([0, 1], "<u4").tobytes(), bits=(32,)),
    tiff(2, 1, np.array([0, 1], "<i2").tobytes(), bits=(16,), tags={339: 2}),
    b"Pf 2 1 -1.0\n" + np.array([0, 1], "<f4").tobytes(),
], ids=["float", "32 bits", "signed", "float map"])  # fmt: skip
def test_samples_without_a_known_white_are_refused(blob: bytes) -> None:
    assert "what is white in it is not known; store 8 or 16 bits" in decoded(blob, 1, 2)


# ---- modes ---------------------------------------------------------------------------------------


def noise(mode: str, seed: int = 1) -> Image.Image:
    rng = np.random.default_rng(seed)
    bands = [Image.fromarray(rng.integers(0, 256, (9, 13), np.uint8)) for _ in "1234"]
    if mode == "1":
        return bands[0].convert("1")
    if mode in ("P", "PA"):
        image = bands[0].copy()
        image.putpalette(rng.integers(0, 256, 768, np.uint8).tobytes())
        image = image if mode == "P" else image.convert("PA")
        if mode == "PA":
            image.putalpha(bands[1])
        return image
    return Image.merge(mode, bands[: len(Image.new(mode, (1, 1)).getbands())])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("mode", [
    "1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB",
])  # fmt: skip
def test_every_mode_of_a_tiff_has_pillows_pixels(
    mode: str, compression: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pillow, "BAND_PIXELS", 30)  # two rows
    blob = saved(noise(mode), "TIFF", compression=compression)
    image = Image.open(io.BytesIO(blob))
    if mode == "LAB" and not features.check("littlecms2"):
        pytest.skip("not in this Pillow")
    try:
        expected = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except OSError:
        pytest.skip("this Pillow does not read what it has written")
    np.testing.assert_array_equal(decoded(blob, 9, 13), expected[:, :, :3])
    if expected.shape[2] == 4:
        alpha = expected[:, :, 3:].astype(int)
        composed = (expected[:, :, :3] * alpha + 255 * (255 - alpha)) / 255
        assert np.abs(decoded(blob, 9, 13, background=(255, 255, 255)) - composed).max() <= 1


def test_an_image_of_many_bands_has_pillows_pixels() -> None:
    rng = np.random.default_rng(2)
    pixels = rng.integers(0, 256, (1100, 700, 3), np.uint8)
    blob = saved(Image.fromarray(pixels), "BMP")
    assert pixels.shape[0] * pixels.shape[1] > 2 * pillow.BAND_PIXELS
    np.testing.assert_array_equal(decoded(blob, 1100, 700), pixels)


def test_gray_with_premultiplied_alpha() -> None:
    """Mode La, which Pillow converts to LA and to nothing else."""
    data = bytes([100, 255, 50, 128, 0, 0, 7, 255])
    blob = tiff(4, 1, data, bits=(8, 8), tags={EXTRA: 1})
    try:
        assert Image.open(io.BytesIO(blob)).mode == "La"
    except Image.UnidentifiedImageError:
        pytest.skip("this Pillow does not know the mode")
    assert gray(blob, 4) == [100, 99, 0, 7]  # 50 * 255 / 128
    white = decoded(blob, 1, 4, background=(255, 255, 255))
    assert [int(level) for level in white[0, :, 0]] == [100, 177, 255, 7]  # 50 + 127


# ---- masks ---------------------------------------------------------------------------------------

TWO_CLASSES = saved(noise("P"), "GIF")
DEEP = {
    "TIFF 12": tiff(2, 1, bytes(3), bits=(12,)),
    "TIFF 16": tiff(2, 1, bytes(4), bits=(16,)),
    "TIFF RGB 16": tiff(2, 1, bytes(12), bits=(16, 16, 16), photometric=2),
    "PGM 16": b"P5 2 1 65535\n" + bytes(4),
    "PGM 10": b"P5 2 1 1023\n" + bytes(4),
    "PPM 16": b"P6 2 1 65535\n" + bytes(12),
    "SGI 16": b"\x01\xda\0\x02\0\x02\0\x02\0\x01\0\x01" + bytes(500) + bytes(4),
}


def test_a_palette_is_no_luma_where_it_may_be_a_mask() -> None:
    found = decoded(TWO_CLASSES, 9, 13, filter="nearest", channels=1)
    assert "a palette's numbers would become luma" in found
    assert "store class numbers as 8-bit gray; for colors pass channels=3" in found


@pytest.mark.parametrize("options", [{"filter": "nearest"}, {"channels": 1}, {}])
def test_a_palette_comes_through_where_nothing_is_lost_or_it_is_no_mask(
    options: dict[str, Any],
) -> None:
    assert not isinstance(decoded(TWO_CLASSES, 9, 13, **options), str)


@pytest.mark.parametrize("format", ["GIF", "PNG"])
def test_a_palette_is_a_mask_too_where_a_cache_keeps_colors(format: str) -> None:
    file = io.BytesIO()
    Image.open(io.BytesIO(TWO_CLASSES)).save(file, format)
    field = fastloader.Image("i", size=(9, 13), filter="nearest", channels=1, flip=True)
    decoder = ImageDecoder(field, Context(is_cached=True))
    images = np.zeros((1, 9, 13, 3), np.uint8)
    bad, _ = decoder.decode(Values.of([file.getvalue()]), images, np.zeros(1, np.uint64), 0)
    assert f"{format}: a palette's numbers would become luma" in bad[0]


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_are_not_cut_where_it_may_be_a_mask(name: str) -> None:
    bits = 12 if name == "TIFF 12" else 16
    for channels in (1, 3):
        found = decoded(DEEP[name], 1, 2, filter="nearest", channels=channels)
        assert f"{bits} bits would become 8" in found
    assert not isinstance(decoded(DEEP[name], 1, 2), str)


@needs_jpeg_2000
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_more_than_8_bits_of_a_jpeg_2000_are_not_cut_either(mode: str) -> None:
    blob = bytearray(jpeg_2000([0] * 8, 8, mode))
    at = blob.index(b"\xff\x4f\xff\x51") + 42
    blob[at] = 11
    assert "12 bits would become 8" in decoded(bytes(blob), 8, 8, filter="nearest")


@pytest.mark.skipif("avif" not in features.get_supported_modules(), reason="not in this Pillow")
def test_more_than_8_bits_of_an_avif_are_not_cut_either() -> None:
    blob = bytearray(saved(noise("RGB"), "AVIF"))
    assert not isinstance(decoded(bytes(blob), 9, 13, filter="nearest"), str)
    blob[blob.index(b"av1C") + 6] |= 0x40
    at = blob.index(b"pixi") + 8
    blob[at : at + 4] = b"\3\x0a\x0a\x0a"
    assert "10 bits would become 8" in decoded(bytes(blob), 9, 13, filter="nearest")

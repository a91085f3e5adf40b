"""JPEGs that are damaged in the middle are partial, or bad if nothing came before the damage."""

from __future__ import annotations

import io
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastloader.errors import KERNEL_STATUS
from fastloader.fields._kernel import Decoder

from .small_webps import SMALL_WEBPS
from .support import needs_data, photos

WIDTH, HEIGHT = 200, 150
KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "444": {"subsampling": "4:4:4"},
    "progressive": {"progressive": True},
    "gray": {"mode": "L"},
    "cmyk": {"mode": "CMYK"},
    "restarts": {"restart_marker_rows": 1},
}
MARKERS = [0x05, 0xA8, 0xC0, 0xC4, 0xC5, 0xD0, 0xD9, 0xE0, 0xFE]


def encoded(mode: str = "RGB", **options: Any) -> bytes:
    small = np.random.default_rng(8).integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def decode(
    blob: bytes, height: int = HEIGHT, width: int = WIDTH, *, row: int = 0, **options: Any
) -> tuple[str, NDArray[np.uint8], str]:
    """Return the kind of failure, the pixels, and the message."""
    pixels = np.full((1, height, width, options.get("channels", 3)), 77, np.uint8)
    decoder = Decoder(height, width, **{"max_pixels": 10**8, **options})
    failures = decoder.decode([blob], pixels, np.array([row], np.uint64))
    if not failures:
        return "", pixels[0], ""
    return KERNEL_STATUS[failures[0][1]][0], pixels[0], failures[0][2]


def scan(blob: bytes) -> int:
    """Return where the data of the last scan begins."""
    at = blob.rindex(b"\xff\xda")
    return at + 2 + int.from_bytes(blob[at + 2 : at + 4], "big")


def broken(blob: bytes, marker: int, share: float = 0.5) -> bytes:
    """Return the blob with this marker inside the data of the last scan."""
    at = scan(blob) + int((len(blob) - scan(blob)) * share)
    while 0xFF in blob[at - 1 : at + 3]:
        at += 1
    return blob[:at] + bytes([0xFF, marker]) + blob[at + 2 :]


@pytest.mark.parametrize("marker", MARKERS, ids=hex)
@pytest.mark.parametrize("kind", KINDS)
def test_a_marker_in_the_middle_of_the_data_makes_an_image_partial(kind: str, marker: int) -> None:
    blob = broken(encoded(**KINDS[kind]), marker)
    status, pixels, message = decode(blob)
    assert status == "partial image"
    assert f"marker, ff {marker:02x}, near byte " in message
    assert message.endswith(f"of {len(blob)}")
    assert decode(blob, strict=True)[0] == "truncated image"
    _, whole, _ = decode(encoded(**KINDS[kind]))
    if kind not in ("progressive", "restarts"):
        same = [bool((pixels[y] == whole[y]).all()) for y in range(HEIGHT)]
        assert same.index(False) >= 16
        if kind != "cmyk":
            assert (pixels[-8:] == 128).all()
    assert decode(blob, 18, 25, quality="fast")[0] in (
        ("partial image", "") if kind == "progressive" else ("partial image",)
    )


@pytest.mark.parametrize("marker", MARKERS, ids=hex)
@pytest.mark.parametrize("interval", [0, 1, 65535])
def test_a_header_alone_is_no_image(interval: int, marker: int) -> None:
    blob = encoded()
    at = blob.rindex(b"\xff\xda")
    define = b"\xff\xdd\x00\x04" + interval.to_bytes(2, "big")
    for strict in (False, True):
        empty = blob[:at] + define + blob[at : scan(blob)] + bytes([0xFF, marker]) + b"\xff\xd9"
        assert decode(empty, strict=strict)[0] == "truncated image"


def test_restarts_of_nothing_make_up_no_more_than_they_could_have_held() -> None:
    """One row of a large image, and then empty intervals of 65,535 MCUs."""
    blob = encoded()
    at, size = blob.rindex(b"\xff\xda"), blob.index(b"\xff\xc0") + 5
    head = blob[:size] + (9000).to_bytes(2, "big") + blob[size + 2 : at]
    restarts = b"".join(bytes([0xFF, 0xD0 + n % 8]) for n in range(100))
    whole = head + b"\xff\xdd\x00\x04\xff\xff" + blob[at:-2] + restarts + b"\xff\xd9"
    status, pixels, message = decode(whole, 900, 20)
    assert status == "partial image"
    assert "marker, ff d0" in message
    assert (pixels[20:] == 128).all()


def test_an_interval_that_breaks_off_is_not_the_end() -> None:
    blob = encoded(restart_marker_rows=1)
    second, third = blob.index(b"\xff\xd1"), blob.index(b"\xff\xd2")
    status, pixels, _ = decode(blob[: second + 20] + blob[third:])
    _, whole, _ = decode(blob)
    assert status == "partial image"
    np.testing.assert_array_equal(pixels[64:], whole[64:])


def test_random_bytes_show_where_they_leave_a_marker() -> None:
    blob = encoded()
    outcomes = Counter()
    for seed in range(60):
        at = random.Random(seed).randrange(scan(blob) + 2000, len(blob) - 600)
        torn = blob[:at] + random.Random(seed).randbytes(512) + blob[at + 512 :]
        outcomes[decode(torn)[0]] += 1
        assert decode(torn, strict=True)[0] == ("truncated image" if decode(torn)[0] else "")
    assert outcomes["partial image"] >= 50


@needs_data
def test_photographs_with_random_bytes_are_not_whole_where_pillow_refuses_them() -> None:
    for seed, path in enumerate(photos()[::5]):
        blob, rng = path.read_bytes(), random.Random(seed)
        at = rng.randrange(scan(blob), len(blob) - 600)
        torn = blob[:at] + rng.randbytes(512) + blob[at + 512 :]
        try:
            Image.open(io.BytesIO(torn)).load()
        except Exception:
            assert decode(torn, 64, 64)[0] != "", path.name
            assert decode(torn, 64, 64, strict=True)[0] != "", path.name


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_crop_of_an_incomplete_image_is_that_of_the_whole(kind: str, channels: int) -> None:
    """Even if libjpeg smooths the blocks of a progressive image."""
    blob = encoded(**KINDS[kind])
    outcomes = set()
    for torn in (*(blob[: int(len(blob) * n / 8)] for n in range(2, 8)), broken(blob, 0xC5)):
        status, full, _ = decode(torn, channels=channels)
        if status != "partial image":
            continue
        rgba = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
        rgba[:, :, :3] = full
        options: dict[str, Any] = {
            "fit": "random_crop", "scale": (0.05, 0.5), "channels": channels, "max_pixels": 10**8,
        }  # fmt: skip
        decoder, expected = Decoder(40, 40, **options), np.zeros((1, 40, 40, channels), np.uint8)
        for row in range(15):
            cropped, pixels, _ = decode(torn, 40, 40, row=row, **options)
            assert decoder.resize(rgba, expected, row=row) is None
            np.testing.assert_array_equal(pixels, expected[0], err_msg=f"{len(torn)}, {row}")
            outcomes.add(cropped)
    assert "partial image" in outcomes
    assert outcomes <= {"", "partial image"}


@pytest.mark.parametrize("name", SMALL_WEBPS)
def test_a_crop_of_a_webp_over_a_background_is_that_of_the_whole(name: str) -> None:
    blob, background = SMALL_WEBPS[name], (1, 128, 255)
    _, full, _ = decode(blob, 17, 23, background=background)
    rgba = np.full((17, 23, 4), 255, np.uint8)
    rgba[:, :, :3] = full
    options: dict[str, Any] = {"fit": "random_crop", "background": background, "max_pixels": 10**6}
    decoder, expected = Decoder(5, 16, **options), np.zeros((1, 5, 16, 3), np.uint8)
    for row in range(40):
        decoder.resize(rgba, expected, row=row)
        np.testing.assert_array_equal(decode(blob, 5, 16, row=row, **options)[1], expected[0])

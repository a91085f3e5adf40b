"""quality="fast": pixels near those of "exact"; what is whole or broken there is so here."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fastloader.errors import KERNEL_STATUS
from fastloader.fields._kernel import Decoder

from .small_webps import SMALL_WEBPS
from .support import (
    DATA,
    LIBRARIES,
    ROOT,
    SANITIZERS,
    compiled,
    needs_data,
    needs_sources,
    photos,
    unsanitized_environment,
)
from .tiers import few

LIMITS = {"max_pixels": 10**8, "max_scans": 100}


@needs_sources
def test_an_eighth_is_made_of_the_means_of_blocks(tmp_path: Path) -> None:
    """Test csrc/jpeg_eighth.c alone, so that no other decoder steps in when it gives up."""
    sources = [ROOT / "tests" / "compare_eighth.c", *(ROOT / "csrc").glob("*.c")]
    program = compiled(tmp_path / "compare", sources, *SANITIZERS, *LIBRARIES)
    done = subprocess.run(
        [program], env=unsanitized_environment(), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("400\n", "", 0)


def drawing(width: int, height: int) -> Image.Image:
    """Return an image of waves and a sharp edge."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [np.sin(x / 37) * 60 + np.cos(y / 29 + n) * 50 + 125 for n in range(3)]
    pixels = np.stack(waves, axis=2)
    pixels[y > x + 40] *= 0.6
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, mode: str = "RGB", **options: Any) -> bytes:
    out = io.BytesIO()
    image.convert(mode).save(out, "JPEG", **{"quality": 92, **options})
    return out.getvalue()


def decode(blob: bytes, size: int, **options: Any) -> tuple[str, NDArray[np.uint8]]:
    """Return the kind of failure, empty if there is none, and the pixels."""
    pixels = np.full((1, size, size, options.get("channels", 3)), 77, np.uint8)
    failures = Decoder(size, size, **{**LIMITS, **options}).decode([blob], pixels)
    return (KERNEL_STATUS[failures[0][1]][0] if failures else ""), pixels[0]


def psnr(ours: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the PSNR in decibels."""
    error = np.mean((ours.astype(float) - other) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


KINDS: dict[str, dict[str, Any]] = {
    "444": {"subsampling": "4:4:4"},
    "422": {"subsampling": "4:2:2"},
    "420": {"subsampling": "4:2:0"},
    "restarts": {"restart_marker_blocks": 7},
    "progressive": {"progressive": True},
    "progressive_444": {"progressive": True, "subsampling": "4:4:4"},
    "gray": {"mode": "L"},
    "gray_progressive": {"mode": "L", "progressive": True},
    "cmyk": {"mode": "CMYK"},
}
VIEWS: dict[str, dict[str, Any]] = {
    "stretch": {},
    "luma": {"channels": 1},
    "crop": {"fit": "crop", "crop_fraction": 0.8},
    "pad": {"fit": "pad", "background": (1, 2, 3)},
    "random_crop": {"fit": "random_crop", "flip": True, "seed": 5},
}


@few(60)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [12, 30, 60, 120, 250])  # reduced by 8 and by less, down to 1
@pytest.mark.parametrize("kind", KINDS)
def test_fast_is_near_exact(kind: str, size: int, view: str) -> None:
    blob = encoded(drawing(517, 389), **KINDS[kind])
    exact, expected = decode(blob, size, **VIEWS[view])
    fast, pixels = decode(blob, size, quality="fast", **VIEWS[view])
    assert (exact, fast) == ("", "")
    assert psnr(pixels, expected) > 33


@pytest.mark.parametrize("name", SMALL_WEBPS)
def test_fast_is_near_exact_in_webp(name: str) -> None:
    exact, expected = decode(SMALL_WEBPS[name], 8)
    fast, pixels = decode(SMALL_WEBPS[name], 8, quality="fast")
    assert exact == fast
    assert psnr(pixels, expected) > 25


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_an_image_is_the_same_as_when_exact(kind: str, strict: bool) -> None:
    """A progressive image may have exactly the scans that "fast" needs."""
    blob = encoded(drawing(800, 640), **KINDS[kind])
    for share in (0.02, 0.3, 0.6, 0.9):
        cut = blob[: int(len(blob) * share)]
        exact, expected = decode(cut, 60, strict=strict)
        fast, pixels = decode(cut, 60, strict=strict, quality="fast")
        if "progressive" in kind and share > 0.02:
            assert (exact, fast) == ("truncated image" if strict else "partial image", "")
        else:
            assert fast == exact
            assert fast in ("truncated image", *(() if strict else ("partial image",)))
        if exact == "partial image" and "progressive" not in kind:
            assert psnr(pixels, expected) > 25


def huffman_table(blob: bytes, kind: int) -> int:
    """Return where the DHT segment that has this table alone begins."""
    at = 2
    while not (blob[at + 1] == 0xC4 and blob[at + 4] == kind):
        at += 2 + int.from_bytes(blob[at + 2 : at + 4], "big")
    return at


def segment(marker: int, contents: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(contents) + 2).to_bytes(2, "big") + contents


@pytest.mark.parametrize(
    "table",
    [
        bytes([0, 2, *[0] * 15, 0, 1]),  # a code of all ones
        bytes([0, 0, 1, 5, 1, 1, 1, 1, 1, 1, 1, *[0] * 6, *range(12), 16]),  # 16 bits
        bytes([0, 3, *[0] * 15, 0, 1, 2]),  # three codes of one bit
    ],
    ids=["all ones", "symbol", "too many"],
)
def test_a_table_that_is_none_is_refused_as_when_exact(table: bytes) -> None:
    blob = encoded(drawing(517, 389))
    at = huffman_table(blob, 0)
    behind = at + 2 + int.from_bytes(blob[at + 2 : at + 4], "big")
    blob = blob[:at] + segment(0xC4, table) + blob[behind:]
    assert [decode(blob, 16, quality=q)[0] for q in ("exact", "fast")] == ["corrupt image"] * 2


@pytest.mark.timeout(20)  # before, 2.6 s a MB
def test_tables_that_nobody_reads_take_no_time() -> None:
    """There are 24 MB of them between the first scan of an image and its second."""
    luma, color = (encoded(drawing(264, 256), mode=mode, subsampling=0) for mode in ("L", "RGB"))
    header, scan = color.index(b"\xff\xda"), luma.index(b"\xff\xda")
    table = bytes([0x11, 1, 1, *[0] * 14, 1, 0xF0])
    first = segment(0xDA, bytes([1, 1, 0x00, 0, 63, 0])) + luma[scan + 10 : -2]
    tables = segment(0xC4, table * 3400) * 370
    second = segment(0xDA, bytes([2, 2, 0x11, 3, 0x11, 0, 63, 0]))
    blob = color[:header] + first + tables + second + bytes(8000) + b"\xff\xd9"
    assert decode(blob, 16, quality="fast")[0] == decode(blob, 16)[0]


@needs_data
def test_what_is_broken_is_so_when_exact() -> None:
    for path in sorted((DATA / "corpora").rglob("*.jp*g")):
        for size in (5, 48):
            exact, _ = decode(path.read_bytes(), size)
            fast, _ = decode(path.read_bytes(), size, quality="fast")
            assert fast == exact, path


def test_photographs_are_near_exact_at_every_size() -> None:
    """If there are no photographs, small images of our own take their place."""
    blobs = [path.read_bytes() for path in photos(20)] or [encoded(drawing(500, 375))]
    for size in (40, 100, 224):
        for blob in blobs:
            (_, exact), (_, fast) = decode(blob, size), decode(blob, size, quality="fast")
            assert psnr(fast, exact) > 26

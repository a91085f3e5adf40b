"""Files that nobody here wrote, many of them broken on purpose: pixels like Pillow's, or a reason.

Run under the sanitizers by ``make sanitize`` too.
"""

from __future__ import annotations

import io
import random
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

import fastloader
from fastloader.errors import KERNEL_STATUS
from fastloader.fields._kernel import Decoder
from fastloader.fields.context import Context
from fastloader.fields.image_decoder import ImageDecoder
from fastloader.fields.values import Values

from .small_images import SMALL_IMAGES
from .support import DATA, needs_data, resized

LIMITS = {"max_pixels": 50_000_000, "max_scans": 100}
SIZE = 64
FIELD = fastloader.Image("image_data", size=(SIZE, SIZE), max_pixels=50_000_000)
KEYS = np.zeros(1, np.uint64)

# What Pillow reads and we do not, or not so, and why.
CHECKSUM = "the checksum of its pixels is wrong: Pillow does not look, libpng refuses it too"
NOT_EXIF = "turned by XMP, not by EXIF data"
KNOWN = {
    "corpora/image_png/tests/bugfixes/x_interlaced_chck.png": CHECKSUM,
    "corpora/image_png/tests/pngsuite/xcsn0g01.png": CHECKSUM,
    "corpora/libpng/contrib/testpngs/crashers/badcrc.png": CHECKSUM,
    "corpora/pngsuite/png/xcsn0g01.png": CHECKSUM,
    "corpora/pillow_tests/images/xmp_tags_orientation.png": NOT_EXIF,
    "corpora/pillow_tests/images/xmp_tags_orientation_exiftool.png": NOT_EXIF,
}


def pillow(blob: bytes) -> NDArray[np.uint8] | None:
    """Return Pillow's pixels, upright and without alpha; None if Pillow refuses the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(blob))
            if image.width * image.height > LIMITS["max_pixels"]:
                return None
            image.load()
            sixteen = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
            image = ImageOps.exif_transpose(image)
            if sixteen:  # which Pillow clips when it converts it
                levels = np.asarray(image).astype(np.uint32)
                return np.dstack([((levels * 255 + 32895) >> 16).astype(np.uint8)] * 3)
            if image.has_transparency_data:
                image = image.convert("RGBA")
            return np.asarray(image.convert("RGB"))
        except Exception:
            return None


def difference(ours: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    """Return the largest difference, in levels."""
    if expected.size < 1_000_000:
        return float(np.abs(ours - resized(expected, SIZE, SIZE)).max())
    # Pillow's own resize, which is much faster than the reference and rounds twice.
    theirs = Image.fromarray(expected).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return float(np.abs(ours.astype(int) - np.asarray(theirs)).max())


def tolerance(blob: bytes) -> float:
    """Return the largest difference allowed: half a level more for a PNG of 16 bits.

    Of these, Pillow takes the upper 8 bits, and the kernel rounds.
    """
    return 1.5 if kind_of(blob) == "PNG" and blob[24:25] == b"\x10" else 1.0


def kind_of(blob: bytes) -> str:
    starts = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG"}
    if blob[:4] == b"RIFF" and blob[8:12] == b"WEBP":
        return "WebP"
    return next((name for start, name in starts.items() if blob.startswith(start)), "other")


def files() -> list[Path]:
    folders = ("corpora", "large", "png", "webp")
    found = [p for folder in folders for p in (DATA / folder).rglob("*") if p.is_file()]
    return sorted(found)


@needs_data
@pytest.mark.timeout(600)
def test_every_file_gives_pillows_pixels_or_a_reason(
    record_property: Callable[[str, str], None],
) -> None:
    decoder = ImageDecoder(FIELD, Context())
    pixels = np.empty((1, SIZE, SIZE, 3), np.uint8)
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    disagreements = []
    for path in files():
        blob, name = path.read_bytes(), str(path.relative_to(DATA))
        kind = kind_of(blob)
        bad, partial = decoder.decode(Values.of([blob]), pixels, KEYS, 0)
        expected = pillow(blob)
        if bad:
            outcomes[kind][bad[0].split(" (")[0]] += 1
            assert "(" in bad[0]
            if expected is not None:
                disagreements.append(f"{name}: Pillow reads it; we say {bad[0]}")
        elif partial:
            also = "" if expected is None else ", whole for Pillow"
            outcomes[kind][f"partial image{also}"] += 1
        elif expected is None:
            outcomes[kind]["decoded, Pillow refuses"] += 1
        else:
            outcomes[kind]["decoded"] += 1
            off = difference(pixels[0], expected)
            if off > tolerance(blob):
                disagreements.append(f"{name}: {off:.2f} levels off")
    lines = []
    for kind, counts in outcomes.items():
        lines.append(f"{sum(counts.values()):6} {kind}")
        lines += [f"{count:10} {outcome}" for outcome, count in counts.most_common()]
    for disagreement in disagreements:
        reason = KNOWN.get(disagreement.split(":")[0], "NOT EXPLAINED")
        lines.append(f"{disagreement} -- {reason}")
    record_property("summary", "\n".join(lines))  # conftest.py shows it at the end of the run
    assert [d for d in disagreements if d.split(":")[0] not in KNOWN] == []
    if features.check("webp"):
        assert {d.split(":")[0] for d in disagreements} == set(KNOWN)


@pytest.mark.parametrize("name", SMALL_IMAGES)
def test_no_mutation_of_an_image_does_harm(name: str) -> None:
    """Bytes are changed, cut and repeated. Whatever the result is, decoding returns."""
    rng = random.Random(name)
    decoder = Decoder(16, 16, **LIMITS)
    pixels = np.empty((1, 16, 16, 3), np.uint8)
    outcomes = Counter()
    for _ in range(500):
        blob = bytearray(SMALL_IMAGES[name])
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(blob))
            match rng.randrange(3):
                case 0:
                    blob[at] = rng.randrange(256)
                case 1:
                    del blob[at : at + rng.randint(1, 20)]
                case _:
                    blob[at:at] = blob[at : at + rng.randint(1, 20)]
            if not blob:
                break
        failures = decoder.decode([bytes(blob)], pixels)
        outcomes[KERNEL_STATUS[failures[0][1]][0] if failures else "decoded"] += 1
    assert len(outcomes) > 1, outcomes


def claims_to_be_huge(name: str) -> bytes:
    """Return a small file whose header claims 65,500 x 65,500 pixels, or the most of its format."""
    blob = bytearray(SMALL_IMAGES[name])
    if name.endswith(".jpg"):
        at = blob.index(b"\xff\xc0")  # marker, length (2), precision, height (2), width (2)
        blob[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    elif name.endswith(".png"):
        import zlib

        blob[16:24] = (65500).to_bytes(4, "big") * 2
        blob[29:33] = zlib.crc32(blob[12:29]).to_bytes(4, "big")
    else:
        at = blob.index(b"VP8L") + 9  # after the signature: 14 bits of width - 1, of height - 1
        blob[at : at + 4] = (0x0FFFFFFF).to_bytes(4, "little")
    return bytes(blob)


@pytest.mark.parametrize("name", ["420.jpg", "rgb.png", "lossless.webp"])
def test_a_small_file_that_claims_to_be_huge_is_refused_before_memory_is_taken(name: str) -> None:
    blob = claims_to_be_huge(name)
    pixels = np.empty((1, 8, 8, 3), np.uint8)
    before = int(Path("/proc/self/statm").read_text().split()[0])
    [(_, status, message)] = Decoder(8, 8, **LIMITS).decode([blob], pixels)
    assert KERNEL_STATUS[status][0] == "image too large"
    side = 16384 if name.endswith("webp") else 65500
    assert message == f"{side} x {side} pixels, the limit is 50000000"
    assert int(Path("/proc/self/statm").read_text().split()[0]) - before < 2560  # pages: 10 MiB

"""Files that nobody here wrote, many of them broken on purpose: pixels like Pillow's, or a reason.

Run under the sanitizers by ``make sanitize`` too.
"""

from __future__ import annotations

import io
import random
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastloader._kernel import Decoder
from fastloader.errors import KERNEL_STATUS

from .small_jpegs import SMALL_JPEGS
from .support import DATA, needs_data, resized

LIMITS = {"max_pixels": 50_000_000, "max_scans": 100}
SIZE = 64

# Pillow reads these and we do not, for a reason.
KNOWN: dict[str, str] = {}


def pillow(blob: bytes) -> np.ndarray | None:
    """Pillow's pixels of a JPEG, or None where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(blob), formats=["JPEG", "MPO"])
            return np.asarray(image.convert("RGB"))
        except Exception:
            return None


@needs_data
def test_every_file_of_the_corpora_gives_pillows_pixels_or_a_reason() -> None:
    decoder = Decoder(SIZE, SIZE, **LIMITS)
    pixels = np.empty((1, SIZE, SIZE, 3), np.uint8)
    outcomes: Counter[str] = Counter()
    disagreements = []
    for path in sorted(p for p in (DATA / "corpora").rglob("*") if p.is_file()):
        blob = path.read_bytes()
        failures = decoder.decode([blob], pixels)
        expected = pillow(blob) if blob[:3] == b"\xff\xd8\xff" else None
        if failures:
            _, status, message = failures[0]
            assert message
            outcomes[KERNEL_STATUS[status][0]] += 1
            if expected is not None:
                disagreements.append(f"{path.relative_to(DATA)}: Pillow reads it; we say {message}")
        elif expected is None:
            outcomes["decoded, Pillow refuses"] += 1
        else:
            outcomes["decoded"] += 1
            difference = np.abs(pixels[0] - resized(expected, SIZE, SIZE)).max()
            if difference > 1.0:
                disagreements.append(f"{path.relative_to(DATA)}: {difference:.1f} levels off")
    print("\n".join(f"{count:6} {outcome}" for outcome, count in outcomes.most_common()))
    unexplained = [d for d in disagreements if d.split(":")[0] not in KNOWN]
    assert unexplained == []


@pytest.mark.parametrize("kind", SMALL_JPEGS)
def test_no_mutation_of_a_picture_does_harm(kind: str) -> None:
    """Bytes changed, cut and repeated. Whatever comes of it, it comes back."""
    rng = random.Random(kind)
    decoder = Decoder(16, 16, **LIMITS)
    pixels = np.empty((1, 16, 16, 3), np.uint8)
    outcomes = Counter()
    for _ in range(1500):
        blob = bytearray(SMALL_JPEGS[kind])
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
    assert outcomes["decoded"] > 0
    assert len(outcomes) > 2, outcomes


def test_a_small_file_that_claims_to_be_huge_is_refused_before_memory_is_taken() -> None:
    blob = bytearray(SMALL_JPEGS["420"])
    start = blob.index(b"\xff\xc0")  # marker, length (2), precision, height (2), width (2)
    blob[start + 5 : start + 9] = b"\xff\xdc\xff\xdc"
    pixels = np.empty((1, 8, 8, 3), np.uint8)
    before = int(Path("/proc/self/statm").read_text().split()[0])
    [(_, status, message)] = Decoder(8, 8, **LIMITS).decode([bytes(blob)], pixels)
    assert KERNEL_STATUS[status][0] == "image too large"
    assert message == "65500 x 65500 pixels, the limit is 50000000"
    assert int(Path("/proc/self/statm").read_text().split()[0]) - before < 2560  # pages: 10 MiB

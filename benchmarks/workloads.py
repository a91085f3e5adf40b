"""The workloads of the decode stage: blobs in memory, and the boxes that are cropped from them."""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .photos import read_photos

SIZE = (224, 224)

Box = tuple[int, int, int, int]
"""(top, left, height, width) in pixels."""


class Folders(NamedTuple):
    """The folders that the workloads read.

    Attributes
    ----------
    data
        Contains the folders large, png/kodak and webp.
    images
        Contains the photographs.
    photos
        The number of photographs; None for all.
    """

    data: Path
    images: Path
    photos: int | None = None

    @classmethod
    def of(cls, options: argparse.Namespace) -> Folders:
        return cls(options.data, options.images, options.photos)


@dataclass(frozen=True)
class Workload:
    """A set of images to decode.

    Attributes
    ----------
    blobs
        Reads the encoded images.
    title
        What they are, in words.
    passes
        The number of passes in one measurement, which makes it long enough.
    step
        One image in so many is used, unless all are wanted.
    cropped
        Whether a random box of each image is resized instead of the whole image.
    """

    blobs: Callable[[Folders], list[bytes]]
    title: str
    passes: int = 1
    step: int = 1
    cropped: bool = False

    def read(self, folders: Folders, *, everything: bool = False) -> list[bytes]:
        return self.blobs(folders)[:: 1 if everything else self.step]


def _photos(folders: Folders) -> list[bytes]:
    return [blob for blob, _ in read_photos(folders.images, folders.photos)]


def _large(folders: Folders, *, progressive: bool) -> list[bytes]:
    return [
        blob
        for blob in _files(folders.data / "large", "*.jpg")
        if is_jpeg(blob) and (frame(blob)[0] in PROGRESSIVE) == progressive
    ]


def _files(folder: Path, pattern: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.glob(pattern))]


WORKLOADS = {
    "photos": Workload(_photos, "photographs of about 500x375, JPEG"),
    "random_crop": Workload(_photos, "a random box of each of these photographs", cropped=True),
    "baseline": Workload(
        functools.partial(_large, progressive=False), "large photographs, baseline JPEG", passes=3
    ),
    "progressive": Workload(  # each takes 0.3 s if all scans are read
        functools.partial(_large, progressive=True), "large photographs, progressive JPEG", step=3
    ),
    "png": Workload(
        lambda folders: _files(folders.data / "png" / "kodak", "*.png"),
        "photographs of 768x512, PNG",
        passes=2,
    ),
    "webp": Workload(
        lambda folders: _files(folders.data / "webp", "*.webp"), "large drawings, WebP"
    ),
}
JPEG = frozenset({"photos", "random_crop", "baseline", "progressive"})
LARGE = frozenset({"baseline", "progressive"})


# ---- JPEG headers --------------------------------------------------------------------------------

PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
NOT_FRAMES = {0xC4, 0xC8, 0xCC}
"""Markers among the start-of-frame markers that are none: tables, reserved, conditioning."""


def is_jpeg(blob: bytes) -> bool:
    return blob[:3] == b"\xff\xd8\xff"


def frame(blob: bytes) -> tuple[int, int, int]:
    """Return (start-of-frame marker, height, width) of a JPEG."""
    at = 2
    while at + 9 <= len(blob):
        marker = blob[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in NOT_FRAMES:
            height, width = (int.from_bytes(blob[at + i : at + i + 2], "big") for i in (5, 7))
            return marker, height, width
        else:
            at += 2 + int.from_bytes(blob[at + 2 : at + 4], "big")
    raise SystemExit("a JPEG has no start-of-frame marker")


# ---- random crops --------------------------------------------------------------------------------

SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
WORD = 0xFFFFFFFF


def boxes(blobs: list[bytes], *, seed: int = 0, epoch: int = 0) -> list[Box]:
    """Return the box that fastloader crops from each image, as row 0, 1, ... of a table.

    All contestants get the same boxes, because the work that a decoder can skip depends on the
    place of the box: other boxes would add 1 % of uncertainty to the ratios of 800 images.
    """
    return [_box(*frame(blob)[1:], seed, row, epoch) for row, blob in enumerate(blobs)]


def _philox(key: int, row: int, epoch: int, number: int) -> list[int]:
    """Return four words of Philox4x32-10, as csrc/view.c computes them."""
    c = [row & WORD, row >> 32, epoch & WORD, number]
    k0, k1 = key & WORD, key >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & WORD, (p0 >> 32) ^ c[3] ^ k1, p0 & WORD]
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c


def _box(height: int, width: int, seed: int, row: int, epoch: int) -> Box:
    for number in range(10):
        u = [word / 2**32 for word in _philox(seed, row, epoch, number)]
        area = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * u[0])
        low, high = map(math.log, RATIO)
        ratio = math.exp(low + (high - low) * u[1])
        w, h = math.floor(math.sqrt(area * ratio) + 0.5), math.floor(math.sqrt(area / ratio) + 0.5)
        if 1 <= w <= width and 1 <= h <= height:
            return math.floor((height - h + 1) * u[2]), math.floor((width - w + 1) * u[3]), h, w
    w, h = width, height
    if w / h < RATIO[0]:
        h = math.floor(w / RATIO[0] + 0.5)
    elif w / h > RATIO[1]:
        w = math.floor(h * RATIO[1] + 0.5)
    return (height - h) // 2, (width - w) // 2, h, w

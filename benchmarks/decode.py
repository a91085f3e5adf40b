"""One core, one process: what decoding a photograph costs, and what resizing it adds.

`bare` decodes to RGB and throws the pixels away. The others also resize to 224x224, bilinear with
antialiasing. The blobs are in memory.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np

from fastloader._kernel import Decoder
from fastloader.config import MAX_SCANS, Config

from . import bare
from .contestants import SIZE, pillow_pixels
from .measure import Sample, paired, parser, ratio, report, spread, table
from .photos import read_photos


def kernel(blobs: list[bytes], *, portable: bool) -> Callable[[], None]:
    """Decodes all blobs with fastloader's kernel, each into the same place."""
    decoder = Decoder(*SIZE, max_pixels=Config.max_pixels, max_scans=MAX_SCANS, portable=portable)
    pixels = np.empty((1, *SIZE, 3), np.uint8)

    def decode() -> None:
        for blob in blobs:
            if failures := decoder.decode([blob], pixels):
                raise SystemExit(f"the kernel cannot decode a photo: {failures[0][2]}")

    return decode


def pillow(blobs: list[bytes]) -> Callable[[], None]:
    def decode() -> None:
        for blob in blobs:
            pillow_pixels(blob)

    return decode


def lines(samples: dict[str, list[Sample]]) -> list[str]:
    rows = [
        [name, f"{spread(found, 'ms'):.3f}", f"{ratio(found, samples['bare'], 'ms'):.2f}"]
        for name, found in samples.items()
    ]
    return [table(["median [lowest..highest]", "ms per photo", "times bare"], rows)]


def main() -> None:
    options = parser("decode", __doc__, rounds=7).parse_args()
    blobs = [blob for blob, _ in read_photos(options.images)]
    contestants = {
        "bare": bare.decoder(blobs),
        "kernel": kernel(blobs, portable=False),
        "kernel, portable": kernel(blobs, portable=True),
        "pillow": pillow(blobs),
    }
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for decode in contestants.values():
        decode()  # to warm up

    def run(name: str) -> Sample:
        start = time.perf_counter()
        contestants[name]()
        return {"ms": (time.perf_counter() - start) / len(blobs) * 1000}

    samples = paired(list(contestants), options.rounds, run=run)
    report(options, samples, lines(samples))


if __name__ == "__main__":
    main()

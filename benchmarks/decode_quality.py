"""The cost and the gain of quality="fast": time, and PSNR of 224x224 images against exact ones."""

from __future__ import annotations

import argparse
import functools
import math
import time

import numpy as np
from numpy.typing import NDArray

from .decode_stages import one_core
from .decoders import Decode, Work, fastloader
from .measure import Sample, paired, ratio, spread, table
from .workloads import WORKLOADS, Folders

MEASURED = ("photos", "baseline", "progressive")
"""The workloads that are measured."""

FAST, EXACT = "fast", "exact"


def psnr(found: NDArray[np.uint8], wanted: NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio in dB, infinite if both are the same."""
    error = float(np.mean((found.astype(np.float64) - wanted) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def run(options: argparse.Namespace) -> tuple[dict[str, list[Sample]], list[str]]:
    samples: dict[str, list[Sample]] = {}
    rows = []
    with one_core():
        for workload in (name for name in MEASURED if name in options.workload):
            blobs = WORKLOADS[workload].read(Folders.of(options), everything=True)
            if not blobs:
                continue
            decode = {q: fastloader(Work(blobs, None), quality=q) for q in (EXACT, FAST)}
            values = [psnr(decode[FAST](i), decode[EXACT](i)) for i in range(len(blobs))]
            found = paired(
                list(decode), options.rounds, run=functools.partial(_once, decode, len(blobs))
            )
            rows.append(_row(workload, values, found))
            samples |= {f"{workload}: {quality}": each for quality, each in found.items()}
            samples[f"{workload}: psnr"] = [
                {"db": value if math.isfinite(value) else None} for value in sorted(values)
            ]
    headers = ["PSNR of fast against exact", "images", "mean dB", "worst dB", "the same"]
    return samples, [table([*headers, "ms exact", "ms fast", "times faster"], rows)]


def _once(decode: dict[str, Decode], count: int, quality: str) -> Sample:
    start = time.perf_counter()
    for i in range(count):
        decode[quality](i)
    return {"ms": (time.perf_counter() - start) / count * 1000}


def _row(workload: str, values: list[float], found: dict[str, list[Sample]]) -> list[str]:
    """Return a row of the table. The mean is over the images that differ."""
    differing = [value for value in values if math.isfinite(value)]
    same = len(values) - len(differing)
    return [
        workload,
        str(len(values)),
        f"{np.mean(differing):.1f}" if differing else "-",
        f"{min(differing):.1f}" if differing else "-",
        str(same),
        f"{spread(found[EXACT], 'ms'):.2f}",
        f"{spread(found[FAST], 'ms'):.2f}",
        f"{ratio(found[EXACT], found[FAST], 'ms'):.2f}",
    ]

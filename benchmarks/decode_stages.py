"""The time of a decode by stage, and whether the stages add up to the whole.

libjpeg-turbo's stages are measured without the kernel: entropy decoding alone, with its results
discarded, and the rest of a decode as the difference to a full one. The other times are those of
the kernel's own clock.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import bare
from .decoders import MAX_PIXELS
from .measure import Sample, Spread, paired, spread, table
from .workloads import SIZE, WORKLOADS, Folders

UINT8 = "uint8, NHWC"
FLOAT32 = "float32, NCHW"
VARIANTS: dict[str, dict[str, Any]] = {
    UINT8: {},
    FLOAT32: {"dtype": "float32", "layout": "NCHW"},
}
BARE = {"entropy": "entropy", "kept": "coefficients", "decode": "full"}
"""The modes of the bare decoder, by the names of their samples."""


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def kernel(blobs: list[bytes], *, timed: bool, **options: Any) -> Callable[[], Sample]:
    """Return a pass of the kernel over all blobs. If timed, it returns the times of its stages."""
    from fastloader.fields._kernel import Decoder

    decoder = Decoder(*SIZE, max_pixels=MAX_PIXELS, orientation=False, timed=timed, **options)
    image = np.empty((1, *decoder.shape), decoder.dtype)

    def decode() -> Sample:
        before = decoder.times
        for blob in blobs:
            if failures := decoder.decode([blob], image):
                raise SystemExit(f"the kernel cannot decode an image: {failures[0][2]}")
        return {stage: (at - before[stage]) * 1000 for stage, at in decoder.times.items()}

    return decode


def run(options: argparse.Namespace) -> tuple[dict[str, list[Sample]], list[str]]:
    """Measure the stages of the photographs."""
    blobs = WORKLOADS["photos"].read(Folders.of(options))
    passes: dict[str, Callable[[], Sample | None]] = {
        name: bare.decoder(blobs, mode) for name, mode in BARE.items()
    }
    for name, variant in VARIANTS.items():
        passes[name] = kernel(blobs, timed=True, **variant)
    passes["not timed"] = kernel(blobs, timed=False)

    def once(name: str) -> Sample:
        start = time.perf_counter()
        stages = passes[name]() or {}
        whole = {"ms": (time.perf_counter() - start) / len(blobs) * 1000}
        return whole | {stage: total / len(blobs) for stage, total in stages.items()}

    with one_core():
        for name in passes:
            once(name)  # to warm up
        samples = paired(list(passes), options.rounds, run=once)
    return samples, lines(samples, len(blobs))


def lines(samples: dict[str, list[Sample]], count: int) -> list[str]:
    columns = [_stages(samples, name) for name in VARIANTS]
    rows = [[stage, *(f"{column[stage]:.3f}" for column in columns)] for stage in columns[0]]
    off = [Spread.of(_off(samples, name)) for name in VARIANTS]
    rows.append(["kernel's total above the sum, %", *(f"{each:.1f}" for each in off)])
    clocked = spread(samples[UINT8], "ms").median / spread(samples["not timed"], "ms").median - 1
    return [
        f"Stages of {count} photographs, ms per image, median [lowest..highest]",
        "",
        table(["stage", *VARIANTS], rows),
        "",
        "The sum lacks the kernel's other work, and the kernel does some of it differently: it",
        "asks libjpeg for four bytes per pixel, and keeps its rows. Reading the clock costs "
        f"{clocked:+.1%}",
        f"compared with {spread(samples['not timed'], 'ms'):.3f} ms without it.",
        "Entropy decoding with all coefficients kept (jpeg_read_coefficients): "
        f"{spread(samples['kept'], 'ms'):.3f} ms.",
    ]


def _sums(samples: dict[str, list[Sample]], name: str) -> list[float]:
    """Return the sum of the measured stages in each round, in ms."""
    rounds = zip(samples["decode"], samples[name], strict=True)
    return [decode["ms"] + ours["resize"] + ours["write"] for decode, ours in rounds]


def _off(samples: dict[str, list[Sample]], name: str) -> list[float]:
    sums = _sums(samples, name)
    return [(ours["total"] / s - 1) * 100 for ours, s in zip(samples[name], sums, strict=True)]


def _stages(samples: dict[str, list[Sample]], name: str) -> dict[str, Spread]:
    both = zip(samples["decode"], samples["entropy"], strict=True)
    return {
        "entropy decoding": spread(samples["entropy"], "ms"),
        "inverse transform, upsampling, color": Spread.of(d["ms"] - e["ms"] for d, e in both),
        "resize": spread(samples[name], "resize"),
        "write": spread(samples[name], "write"),
        "sum": Spread.of(_sums(samples, name)),
        "kernel's total": spread(samples[name], "total"),
        "one call of the kernel": spread(samples[name], "ms"),
    }

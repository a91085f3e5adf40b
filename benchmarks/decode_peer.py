"""The process of one library of the decode stage.

It reads lines of JSON, ``[contestant, workload]``, runs that contestant over the images of the
workload, the first time after a pass to warm up, and answers with a line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

from . import pillows
from .decoders import CONTESTANTS, CannotDecodeError, Decode, Work, fastloader
from .measure import Sample
from .workloads import SIZE, WORKLOADS, Folders, boxes


class Runner:
    """Keeps what was prepared, so that a contestant starts and warms up once for all rounds."""

    def __init__(self, folders: Folders, *, everything: bool) -> None:
        self._folders = folders
        self._everything = everything
        self._ready: dict[tuple[str, str], Decode] = {}
        self._work = functools.cache(self._read)

    def _read(self, workload: str) -> Work:
        blobs = WORKLOADS[workload].read(self._folders, everything=self._everything)
        return Work(blobs, boxes(blobs) if WORKLOADS[workload].cropped else None)

    def __call__(self, name: str, workload: str) -> Sample:
        work = self._work(workload)
        count, passes = len(work.blobs), WORKLOADS[workload].passes
        decode = self._ready.get((name, workload))
        if decode is None:
            decode = CONTESTANTS[name].make(work)
            check(name, work, decode)
            for i in range(count):  # to warm up
                decode(i)
            self._ready[name, workload] = decode
        start, cpu = time.perf_counter(), time.process_time()
        for _ in range(passes):
            for i in range(count):
                decode(i)
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        per_image = 1000 / (passes * count)
        return {"ms": seconds * per_image, "cpu_ms": cpu_s * per_image, "images": count}


def check(name: str, work: Work, decode: Decode) -> None:
    """Check that the first image is nearly the one that fastloader makes.

    This finds a wrong region or swapped channels. It compares the mean levels of 8x8 parts, which
    hardly depend on the filter. SystemExit says by how much they differ.
    """
    if CONTESTANTS[name].antialias == "-":
        return
    parts = (SIZE[0] // 8, 8, SIZE[1] // 8, 8, 3)
    found = decode(0).reshape(parts).mean((1, 3))
    try:
        ours = fastloader(work)(0).reshape(parts).mean((1, 3))
    except CannotDecodeError:
        return
    if (difference := np.abs(found - ours).mean()) > 4:
        raise SystemExit(f"{name} differs by {difference:.1f} levels: that is another image")


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="python -m benchmarks.decode_peer", description="Runs the contestants of one peer."
    )
    arguments.add_argument("peer", choices=sorted({c.peer for c in CONTESTANTS.values()}))
    arguments.add_argument("--data", type=Path, required=True, help="folder with large, png, webp")
    arguments.add_argument("--images", type=Path, required=True, help="folder of the photographs")
    arguments.add_argument("--photos", type=int, help="how many of them (all)")
    arguments.add_argument("--all", action="store_true", help="all images of each workload")
    options = arguments.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if options.peer in pillows.NAMES:
        with contextlib.suppress(ImportError):  # version() then reports it for each sample
            pillows.use(options.peer)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keeps what libraries print out of the answers
    run = Runner(Folders.of(options), everything=options.all)
    for line in sys.stdin:
        name, workload = json.loads(line)
        try:
            sample = {"version": version(options.peer), **run(name, workload)}
        except ImportError as error:
            sample = {"missing": f"not installed ({error})"}
        except CannotDecodeError as error:
            sample = {"missing": f"cannot decode these ({error})"}
        print(json.dumps(sample), file=answers, flush=True)


def version(peer: str) -> str | None:
    """Return the version of a distribution. Raise ImportError if only the other Pillow is there."""
    try:
        return metadata.version(peer)
    except metadata.PackageNotFoundError as error:
        if peer.startswith("pillow"):
            raise ImportError(f"no package {peer}") from error
        return None


if __name__ == "__main__":
    main()

"""Decoding with libjpeg-turbo and nothing else: ``bare_jpeg.c``, compiled when it is needed."""

from __future__ import annotations

import ctypes
import itertools
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .measure import BUILD

SOURCE = Path(__file__).with_name("bare_jpeg.c")
LIBRARY = BUILD / "bare_jpeg.so"
FLAGS = ["-O2", "-std=c11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-fPIC", "-shared"]
MODES = ("full", "fast", "entropy", "coefficients")
"""The names of ``bare_mode`` in the source, in its order."""


def compiled() -> Path:
    """Return the shared library, compiled if it is missing or older than its source."""
    if not LIBRARY.exists() or LIBRARY.stat().st_mtime < SOURCE.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        unfinished = LIBRARY.with_suffix(f".{os.getpid()}")
        command = [os.environ.get("CC", "cc"), *FLAGS, str(SOURCE), "-o", str(unfinished), "-ljpeg"]
        try:
            subprocess.run(command, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise SystemExit(
                f"{SOURCE.name} cannot be compiled ({error}); it needs a C compiler and the "
                f"headers of libjpeg-turbo (Debian: apt-get install gcc libjpeg-dev)"
            ) from None
        os.replace(unfinished, LIBRARY)
    return LIBRARY


def decoder(
    blobs: list[bytes], mode: str = "full", size: tuple[int, int] = (0, 0)
) -> Callable[[], None]:
    """Return a function that decodes all blobs once, in one call of C.

    Parameters
    ----------
    mode
        One of MODES.
    size
        (height, width). The mode "fast" reduces images, but never below this size.
    """
    library = ctypes.CDLL(str(compiled()))
    library.bare_decode.restype = ctypes.c_size_t
    pointers = (ctypes.c_char_p * len(blobs))(*blobs)
    sizes = (ctypes.c_size_t * len(blobs))(*map(len, blobs))
    count = ctypes.c_size_t(len(blobs))
    how = (MODES.index(mode), *size)

    def decode() -> None:
        done = library.bare_decode(pointers, sizes, count, *how)
        if done != len(blobs):
            raise SystemExit(f"libjpeg cannot decode blob {done} of {len(blobs)}")

    return decode


def on_all_cores(blobs: list[bytes], processes: int, *, epochs: int) -> dict[str, float]:
    """Return the seconds until the last process is done, and the CPU seconds of all.

    Each process decodes its share of the blobs once to warm up. Then they start the clock together.
    """
    context = multiprocessing.get_context("fork")  # a forked child has the blobs already
    start = context.Barrier(processes, timeout=600)  # a process may die before it gets here
    results = context.SimpleQueue()
    # Each share is a consecutive part. If the table repeats its photos, the shares are equal.
    bounds = [len(blobs) * i // processes for i in range(processes + 1)]
    shares = [blobs[first:end] for first, end in itertools.pairwise(bounds)]
    workers = [context.Process(target=_share, args=(s, start, results, epochs)) for s in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode != 0:
            sys.exit(f"a process of the bare decoder ended with exit code {worker.exitcode}")
    begins, ends, cpu = zip(*(results.get() for _ in workers), strict=True)
    return {"seconds": max(ends) - min(begins), "cpu_s": sum(cpu)}


def _share(blobs: list[bytes], start: Any, results: Any, epochs: int) -> None:
    decode = decoder(blobs)
    decode()
    start.wait()
    begin, cpu = time.monotonic(), time.process_time()
    for _ in range(epochs):
        decode()
    results.put((begin, time.monotonic(), time.process_time() - cpu))

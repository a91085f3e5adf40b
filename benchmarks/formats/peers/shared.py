"""What the scripts of the peers share: the table that they copy, and how an epoch is measured.

A script is run as ``ENVIRONMENT/bin/python with_NAME.py write TABLE FOLDER --mode MODE``, and then
with ``read FOLDER`` in place of that. It prints one line of JSON. It cannot import this package or
fastloader, only this file and what its environment has.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

SIZE = 224
BATCH = 64
WORKERS = len(os.sched_getaffinity(0))
KEPT = 0.875
"""The part of the short side that a center crop keeps: 224 of 256."""

Row = tuple[bytes, int]


def rows_of(path: str | Path) -> list[Row]:
    """Return the JPEGs and labels of a SQLite table."""
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT image_data, label FROM images ORDER BY id").fetchall()
    finally:
        connection.close()


def pixels_of(blob: bytes) -> np.ndarray[Any, Any]:
    """Return the pixels of a JPEG, (height, width, 3)."""
    from PIL import Image

    with Image.open(io.BytesIO(blob)) as image:
        return np.array(image.convert("RGB"))


def digest_of(blobs: Iterable[bytes]) -> str:
    """Return a digest of the JPEGs that does not depend on their order."""
    each = sorted(hashlib.sha256(blob).digest() for blob in blobs)
    return hashlib.sha256(b"".join(each)).hexdigest()


def cpu_seconds() -> float:
    """Return the CPU time of this process and all its children so far, living ones included."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    in_children = sum(times.user + times.system for times in living)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + in_children


def measured(batches: Iterable[Any], seconds: float) -> dict[str, Any]:
    """Pull an epoch to warm up, then epochs until they have taken the time.

    ``batches`` yields pairs of images and labels, a new epoch each time that it is iterated. The
    first epoch also looks at the pixels: their mean shows that they are those of the photographs.
    """
    rows, means, shape = 0, [], ()
    for images, labels in batches:
        rows += len(labels)
        # NumPy reads tensors of the CPU, too.
        pixels = np.asarray(images)
        means.append(float(pixels.mean()) * len(labels))
        shape = pixels.shape[1:]
        if pixels.dtype != np.uint8:
            raise SystemExit(f"the batches are {pixels.dtype}, not uint8")
    total, epochs = 0, 0
    cpu, start = cpu_seconds(), time.perf_counter()
    while epochs == 0 or time.perf_counter() - start < seconds:
        total += sum(len(labels) for _, labels in batches)
        epochs += 1
    took, cpu_s = time.perf_counter() - start, cpu_seconds() - cpu
    return {
        "images_per_s": total / took,
        "cpu_ms_per_image": cpu_s / total * 1000,
        "rows": rows,
        "rows_of_later_epochs": total / epochs,
        "epochs": epochs,
        "shape": list(shape),
        "mean": sum(means) / rows,
    }


@dataclass(frozen=True)
class Peer:
    """What a script does.

    Attributes
    ----------
    write
        Writes the rows in the peer's format: a function of the rows, a folder and the mode.
    stored
        Yields the JPEGs as that format has them.
    read
        Returns the batches of a folder in one mode and one view.
    """

    write: Callable[[list[Row], Path, str], None]
    stored: Callable[[Path], Iterator[bytes]]
    read: Callable[[Path, str, str], Iterable[Any]]


def main(peer: Peer) -> None:
    """Do what the command line says, and print one line of JSON."""
    arguments = argparse.ArgumentParser()
    actions = arguments.add_subparsers(dest="action", required=True)
    write, read = actions.add_parser("write"), actions.add_parser("read")
    write.add_argument("table", type=Path)
    read.add_argument("--view", choices=("random", "center"), required=True)
    read.add_argument("--seconds", type=float, default=2.0)
    for each in (write, read):
        each.add_argument("folder", type=Path)
        each.add_argument("--mode", choices=("jpeg", "raw"), required=True)
    options = arguments.parse_args()
    if options.action == "read":
        found = measured(peer.read(options.folder, options.mode, options.view), options.seconds)
    else:
        options.folder.mkdir(parents=True)
        peer.write(rows_of(options.table), options.folder, options.mode)
        found = {"digest": digest_of(peer.stored(options.folder))} if options.mode == "jpeg" else {}
        files = [path for path in options.folder.rglob("*") if path.is_file()]
        found["megabytes"] = sum(path.stat().st_size for path in files) / 1e6
    print(json.dumps(found))

"""DALI on the CPU: files, its own decoder and crops, threads.

Its random crop decodes only what the crop needs. Its resize is antialiased.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shared
from nvidia.dali import fn, pipeline_def


def write(rows: list[shared.Row], folder: Path, mode: str) -> None:
    if mode == "raw":
        raise SystemExit("DALI caches decoded images on a GPU only")
    for i, (blob, _) in enumerate(rows):
        (folder / f"{i}.jpg").write_bytes(blob)
    (folder / "labels.json").write_text(json.dumps([label for _, label in rows]))


def stored(folder: Path) -> Iterator[bytes]:
    return (path.read_bytes() for path in folder.glob("*.jpg"))


class Batches:
    """The pipeline, an epoch at a time."""

    def __init__(self, folder: Path, view: str) -> None:
        labels = json.loads((folder / "labels.json").read_text())
        self._count = len(labels)
        self._pipeline = _pipeline(
            files=[str(folder / f"{i}.jpg") for i in range(len(labels))],
            labels=labels,
            view=view,
            batch_size=shared.BATCH,
            num_threads=shared.WORKERS,
            device_id=None,
        )
        self._pipeline.build()

    def __iter__(self) -> Iterator[Any]:
        # The reader fills the last batch with the first rows of the next epoch.
        for _ in range(math.ceil(self._count / shared.BATCH)):
            images, labels = self._pipeline.run()
            yield np.asarray(images.as_tensor()), np.asarray(labels.as_tensor())


@pipeline_def  # type: ignore[untyped-decorator]
def _pipeline(files: list[str], labels: list[int], view: str) -> Any:
    blobs, numbers = fn.readers.file(files=files, labels=labels, random_shuffle=True, name="reader")
    if view == "random":
        images = fn.decoders.image_random_crop(
            blobs, device="cpu", random_area=[0.08, 1.0], random_aspect_ratio=[3 / 4, 4 / 3]
        )
        images = fn.resize(images, size=[shared.SIZE, shared.SIZE])
        images = fn.flip(images, horizontal=fn.random.coin_flip())
    else:
        images = fn.decoders.image(blobs, device="cpu")
        images = fn.resize(images, resize_shorter=round(shared.SIZE / shared.KEPT))
        images = fn.crop(images, crop=(shared.SIZE, shared.SIZE))
    return images, numbers


def read(folder: Path, _mode: str, view: str) -> Any:
    return Batches(folder, view)


if __name__ == "__main__":
    shared.main(shared.Peer(write, stored, read))

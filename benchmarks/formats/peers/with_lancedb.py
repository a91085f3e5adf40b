"""LanceDB: a table with the JPEGs, or with pixels; a Permutation in worker processes, Pillow.

Its StreamingDataset, which decodes in threads of one process, was slower on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import shared
import views
from lancedb.permutation import Permutation
from torch.utils.data import DataLoader

SCHEMA = pa.schema(
    [("image", pa.binary()), ("label", pa.int64()), ("height", pa.int32()), ("width", pa.int32())]
)


def write(rows: list[shared.Row], folder: Path, mode: str) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(rows), shared.BATCH):
            part = []
            for blob, label in rows[start : start + shared.BATCH]:
                pixels = shared.pixels_of(blob)
                image = blob if mode == "jpeg" else pixels.tobytes()
                height, width = pixels.shape[:2]
                part.append({"image": image, "label": label, "height": height, "width": width})
            yield pa.RecordBatch.from_pylist(part, schema=SCHEMA)

    lancedb.connect(str(folder)).create_table("photos", batches(), schema=SCHEMA)


def stored(folder: Path) -> Iterator[bytes]:
    table = lancedb.connect(str(folder)).open_table("photos")
    return iter(table.to_arrow()["image"].to_pylist())


class Samples:
    """Makes samples of rows that were read together, in a worker."""

    def __init__(self, mode: str, view: str) -> None:
        self._view, self._mode = views.View(view), mode

    def __call__(self, batch: pa.RecordBatch) -> list[Any]:
        return [self._sample(row) for row in batch.to_pylist()]

    def _sample(self, row: dict[str, Any]) -> Any:
        if self._mode == "jpeg":
            return self._view.of_jpeg(row["image"]), row["label"]
        pixels = np.frombuffer(row["image"], np.uint8)
        pixels = pixels.reshape(row["height"], row["width"], 3)
        return self._view.of_pixels(pixels), row["label"]


def read(folder: Path, mode: str, view: str) -> Any:
    table = lancedb.connect(str(folder)).open_table("photos")
    return DataLoader(
        Permutation.identity(table).with_transform(Samples(mode, view)),
        batch_size=shared.BATCH,
        shuffle=True,
        num_workers=shared.WORKERS,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )


if __name__ == "__main__":
    shared.main(shared.Peer(write, stored, read))

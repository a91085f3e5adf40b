"""Other loaders, each used as its documentation says, from the same table to batches.

A batch is (images, labels), as NumPy arrays or tensors. All loaders have a worker for each core,
and all but SPDL decode with Pillow. Only Ray reads a database by itself. For the others, a row is
fetched by its key if the loader chooses the rows, and through a cursor if it takes them in order.
The packages are optional. One that is not installed is left out, and the output says so.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .measure import BATCH, SIZE, cores
from .photos import POSTGRES, SELECT, rows_of
from .pixels import opencv_pixels, pillow_pixels

BY_KEY = "SELECT image_data, label FROM images WHERE id = "


class Rows:
    """The table as a sequence, with a connection for each process that reads it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: Any = None
        with contextlib.closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT id FROM images ORDER BY id")
            self._keys = np.array([key for (key,) in cursor.fetchall()])

    def connect(self) -> Any:
        if self._path.startswith(POSTGRES):
            import psycopg2

            return psycopg2.connect(self._path)
        return sqlite3.connect(self._path, check_same_thread=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None}

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, i: int) -> tuple[NDArray[np.uint8], int]:
        if self._connection is None:
            self._connection = self.connect()
        mark = "%s" if self._path.startswith(POSTGRES) else "?"
        cursor = self._connection.cursor()
        cursor.execute(BY_KEY + mark, [int(self._keys[i])])
        blob, label = cursor.fetchone()
        return decoded(blob), label


def decoded(blob: Any) -> NDArray[np.uint8]:
    return pillow_pixels(bytes(blob))


def torch_dataloader(path: str, rows: type[Rows] = Rows) -> Any:
    """Use PyTorch: a map-style dataset, worker processes, a collate function."""
    import torch
    from torch.utils.data import DataLoader

    def collate(rows: list[tuple[NDArray[np.uint8], int]]) -> tuple[Any, Any]:
        images, labels = zip(*rows, strict=True)
        return torch.from_numpy(np.stack(images)), torch.tensor(labels)

    return DataLoader(
        rows(path),  # type: ignore[arg-type]
        batch_size=BATCH, num_workers=cores(), collate_fn=collate, persistent_workers=True,
    )  # fmt: skip


def grain(path: str, rows: type[Rows] = Rows) -> Any:
    """Use Grain: a MapDataset, and worker processes."""
    from absl import flags
    from grain import MapDataset, MultiprocessingOptions

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["grain"])
    dataset = MapDataset.source(rows(path)).batch(BATCH)
    return dataset.to_iter_dataset().mp_prefetch(MultiprocessingOptions(num_workers=cores()))


class HuggingFace:
    """Hugging Face Datasets: the table as Arrow, ``to_tf_dataset`` with worker processes."""

    def __init__(self, path: str) -> None:
        from datasets import Dataset

        blobs, labels = zip(*((bytes(blob), label) for blob, label in rows_of(path)), strict=True)
        dataset = Dataset.from_dict({"image": list(blobs), "label": list(labels)})
        dataset.set_transform(self._transform)
        self._batches = dataset.to_tf_dataset(
            batch_size=BATCH, shuffle=False, columns=["image"], label_cols=["label"],
            num_workers=cores(), collate_fn=_stacked,
        )  # fmt: skip

    @staticmethod
    def _transform(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        return {**rows, "image": [decoded(blob) for blob in rows["image"]]}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def _stacked(rows: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


class Spdl:
    """SPDL: a pipeline of threads with OpenCV, whose functions release the GIL. No antialiasing.

    SPDL's own decoder would need FFmpeg's libraries.
    """

    def __init__(self, path: str) -> None:
        import cv2
        import spdl.pipeline

        self._path, self._modules = path, (cv2, spdl.pipeline)  # imported before the clock starts

    def __iter__(self) -> Iterator[Any]:
        from spdl.pipeline import PipelineBuilder

        pipeline = (
            PipelineBuilder()
            .add_source(self._blobs())
            .pipe(self._decode, concurrency=cores(), output_order="input")
            .aggregate(BATCH)
            .pipe(self._batch)
            .add_sink(4)
            .build(num_threads=cores() + 1)
        )
        with pipeline.auto_stop():
            yield from pipeline

    def _blobs(self) -> Iterator[tuple[bytes, int]]:
        return ((bytes(blob), label) for blob, label in rows_of(self._path))

    @staticmethod
    def _decode(row: tuple[bytes, int]) -> tuple[NDArray[np.uint8], int]:
        pixels = np.empty((*SIZE, 3), np.uint8)
        opencv_pixels(row[0], pixels)
        return pixels, row[1]

    @staticmethod
    def _batch(rows: list[tuple[NDArray[np.uint8], int]]) -> Any:
        images, labels = zip(*rows, strict=True)
        return np.stack(images), np.array(labels)


def ray_dataset(path: str) -> Any:
    """Use Ray Data: ``read_sql``, and a map over its workers."""
    import ray

    rows = ray.data.read_sql(SELECT, Rows(path).connect)
    return rows.map_batches(_ray_decoded, batch_size=BATCH)


def _ray_decoded(rows: dict[str, Any]) -> dict[str, Any]:
    images = np.stack([decoded(blob) for blob in rows["image_data"]])
    return {"image": images, "label": np.array(rows["label"])}


class RayData:
    """Ray Data on this machine."""

    def __init__(self, path: str) -> None:
        import ray

        ray.init("local", num_cpus=cores(), include_dashboard=False, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        self._dataset = ray_dataset(path)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._dataset.iter_batches(batch_size=BATCH):
            yield batch["image"], batch["label"]


PEERS: dict[str, Callable[[str], Any]] = {
    "torch-dataloader": torch_dataloader,
    "huggingface": HuggingFace,
    "grain": grain,
    "spdl": Spdl,
    "ray-data": RayData,
}
"""The functions that make the batches, by name."""

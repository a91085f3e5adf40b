"""Mosaic Streaming: MDS shards with the JPEGs, or with pixels; worker processes, Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shared
import views
from streaming import MDSWriter, StreamingDataLoader, StreamingDataset
from streaming.base.format.mds.encodings import JPEG, _encodings


class Jpeg(JPEG):  # type: ignore[misc]
    """The encoding for JPEGs, which takes a JPEG that is encoded already."""

    def encode(self, obj: bytes) -> bytes:
        return obj


# Its own encoding keeps a JPEG as it is only if that is the file of an opened image.
_encodings["jpeg"] = Jpeg


def write(rows: list[shared.Row], folder: Path, mode: str) -> None:
    columns = {"image": "jpeg" if mode == "jpeg" else "ndarray:uint8", "label": "int"}
    with MDSWriter(out=str(folder / "shards"), columns=columns) as writer:
        for blob, label in rows:
            image = blob if mode == "jpeg" else shared.pixels_of(blob)
            writer.write({"image": image, "label": label})


def stored(folder: Path) -> Iterator[bytes]:
    dataset = StreamingDataset(local=str(folder / "shards"), batch_size=1)
    for i in range(len(dataset)):
        image = dataset[i]["image"]
        yield image.fp.getvalue()


class Photos(StreamingDataset):  # type: ignore[misc]
    """The dataset, with the view in ``__getitem__``, as its documentation has it."""

    def __init__(self, folder: Path, mode: str, view: str) -> None:
        super().__init__(local=str(folder / "shards"), shuffle=True, batch_size=shared.BATCH)
        self._view = views.View(view)
        self._decode = self._view.of_image if mode == "jpeg" else self._view.of_pixels

    def __getitem__(self, index: Any) -> Any:
        row = super().__getitem__(index)
        return self._decode(row["image"]), row["label"]


def read(folder: Path, mode: str, view: str) -> Any:
    return StreamingDataLoader(
        Photos(folder, mode, view),
        batch_size=shared.BATCH,
        num_workers=shared.WORKERS,
        persistent_workers=True,
    )


if __name__ == "__main__":
    shared.main(shared.Peer(write, stored, read))

"""LitData: chunks with the JPEGs as bytes, or with pixels; worker processes, Pillow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import shared
import views
from litdata import StreamingDataLoader, StreamingDataset, optimize


def sample(row: shared.Row, mode: str) -> dict[str, Any]:
    blob, label = row
    return {"image": blob if mode == "jpeg" else shared.pixels_of(blob), "label": label}


def write(rows: list[shared.Row], folder: Path, mode: str) -> None:
    optimize(
        fn=partial(sample, mode=mode),
        inputs=rows,
        output_dir=str(folder / "chunks"),
        chunk_bytes="32MB",
        num_workers=shared.WORKERS,
        verbose=False,
    )


def stored(folder: Path) -> Iterator[bytes]:
    dataset = StreamingDataset(str(folder / "chunks"))
    return (dataset[i]["image"] for i in range(len(dataset)))


class Photos(StreamingDataset):  # type: ignore[misc]
    """The dataset, with the view in ``__getitem__``, as LitData's documentation has it."""

    def __init__(self, folder: Path, mode: str, view: str) -> None:
        # By default it decodes runs of neighbors together. Of arrays in random order, most of that
        # would be wasted.
        batch_decode = "auto" if mode == "jpeg" else False
        super().__init__(
            str(folder / "chunks"), shuffle=True, drop_last=False, batch_decode=batch_decode
        )
        self._view = views.View(view)
        self._decode = self._view.of_jpeg if mode == "jpeg" else self._view.of_pixels

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

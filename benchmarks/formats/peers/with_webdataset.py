"""WebDataset: tar files with the JPEGs, worker processes, Pillow. A buffer shuffles."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import shared
import views
import webdataset as wds

SHARDS = 8


def write(rows: list[shared.Row], folder: Path, mode: str) -> None:
    if mode == "raw":
        raise SystemExit("WebDataset has no mode for decoded images")
    for shard in range(SHARDS):
        with wds.TarWriter(str(folder / f"{shard:06}.tar")) as writer:
            for i in range(shard, len(rows), SHARDS):
                blob, label = rows[i]
                writer.write({"__key__": f"{i:08}", "jpg": blob, "cls": str(label)})


def stored(folder: Path) -> Iterator[bytes]:
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as members:
            for member in members:
                file = members.extractfile(member)
                if file is not None and member.name.endswith(".jpg"):
                    yield file.read()


def same(label: int) -> int:
    return label


def read(folder: Path, _mode: str, view: str) -> Any:
    shards = [str(path) for path in sorted(folder.glob("*.tar"))]
    dataset = (
        wds.WebDataset(shards, shardshuffle=len(shards))
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg", "cls")
        .map_tuple(views.View(view).of_image, same)
        .batched(shared.BATCH)
    )
    return wds.WebLoader(
        dataset, batch_size=None, num_workers=shared.WORKERS, persistent_workers=True
    )


if __name__ == "__main__":
    shared.main(shared.Peer(write, stored, read))

"""FFCV: a .beton file with the JPEGs as they are, or with pixels; its own decoder and crops.

FFCV encodes what it writes. The field below stores JPEGs that exist already, so that FFCV decodes
the same bytes as all others. Its decoder uses the fast DCT, and its resize is OpenCV's by area.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shared
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import (
    CenterCropRGBImageDecoder,
    IntDecoder,
    RandomResizedCropRGBImageDecoder,
)
from ffcv.fields.rgb_image import IMAGE_MODES
from ffcv.loader import Loader, OrderOption
from ffcv.reader import Reader
from ffcv.transforms import RandomHorizontalFlip, Squeeze, ToTensor
from ffcv.writer import DatasetWriter


class Jpeg(RGBImageField):  # type: ignore[misc]
    """An image that is stored as the JPEG that it is."""

    def encode(self, destination: Any, image: bytes, malloc: Any) -> None:
        """Store a JPEG as FFCV stores those that it has encoded."""
        destination["mode"] = IMAGE_MODES["jpg"]
        destination["height"], destination["width"] = shared.pixels_of(image).shape[:2]
        destination["data_ptr"], storage = malloc(len(image))
        storage[:] = np.frombuffer(image, np.uint8)


class Pixels(RGBImageField):  # type: ignore[misc]
    """An image that is decoded and stored as pixels."""

    def encode(self, destination: Any, image: bytes, malloc: Any) -> None:
        """Decode the JPEG, and let FFCV store the pixels."""
        super().encode(destination, shared.pixels_of(image), malloc)


def write(rows: list[shared.Row], folder: Path, mode: str) -> None:
    field = Jpeg("jpg") if mode == "jpeg" else Pixels("raw")
    fields = {"image": field, "label": IntField()}
    writer = DatasetWriter(str(folder / "photos.beton"), fields, num_workers=shared.WORKERS)
    writer.from_indexed_dataset(rows)


def stored(folder: Path) -> Iterator[bytes]:
    path = folder / "photos.beton"
    reader = Reader(str(path), {"image": RGBImageField})
    size_of = {int(row["ptr"]): int(row["size"]) for row in reader.alloc_table}
    data = path.read_bytes()
    for row in reader.metadata["f0"]:
        start = int(row["data_ptr"])
        yield data[start : start + size_of[start]]


def read(folder: Path, _mode: str, view: str) -> Any:
    size = (shared.SIZE, shared.SIZE)
    if view == "random":
        image = [RandomResizedCropRGBImageDecoder(size), RandomHorizontalFlip()]
    else:
        image = [CenterCropRGBImageDecoder(size, shared.KEPT)]
    return Loader(
        str(folder / "photos.beton"),
        batch_size=shared.BATCH,
        num_workers=shared.WORKERS,
        order=OrderOption.RANDOM,
        os_cache=True,
        drop_last=False,
        custom_fields={"image": RGBImageField},
        pipelines={
            "image": [*image, ToTensor()],
            "label": [IntDecoder(), ToTensor(), Squeeze()],
        },
    )


if __name__ == "__main__":
    shared.main(shared.Peer(write, stored, read))

"""The rows of a Ray dataset, and those that a loader has."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastloader import FastLoader

from .support import unpacked


def in_order(dataset: Any) -> Any:
    dataset.context.execution_options.preserve_order = True
    return dataset


def rows_of(dataset: Any) -> dict[str, NDArray[Any]]:
    """Return all rows of one execution, by column."""
    batches = list(dataset.iter_batches(batch_size=64, batch_format="numpy"))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def loaded(url: str, epoch: int = 0, **options: Any) -> list[NDArray[Any]]:
    """Return the images, labels and keys of an epoch of a loader."""
    with FastLoader(url, workers=0, **options) as loader:
        for _ in range(epoch):
            list(loader)
        epochs = [[part.copy() for part in batch] for batch in unpacked(loader)]
    return [np.concatenate(parts) for parts in zip(*epochs, strict=True)]


def check_equal(rows: dict[str, NDArray[Any]], expected: list[NDArray[Any]]) -> None:
    """Check that rows are equal, in whatever order they are."""
    images, labels, keys = expected
    order, wanted = np.argsort(rows["id"], kind="stable"), np.argsort(keys)
    np.testing.assert_array_equal(rows["id"][order], keys[wanted])
    np.testing.assert_array_equal(rows["label"][order], labels[wanted])
    np.testing.assert_array_equal(rows["image_data"][order], images[wanted])

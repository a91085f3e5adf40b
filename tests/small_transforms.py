"""Functions that tests have workers run, in a module that workers import."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np

from fastloader import DROP

Row = dict[str, Any]


def jitter(row: Row, rng: np.random.Generator) -> None:
    """Change the image in place, with numbers of all generators that there are."""
    amount = int(rng.integers(30)) + random.randrange(30) + int(np.random.randint(30))
    row["image_data"][:] = row["image_data"] // 2 + amount


def mean(row: Row) -> Row:
    """Add an entry."""
    return {**row, "mean": row["image_data"].mean(dtype=np.float32)}


def one_hot(batch: Row) -> None:
    """Change the type and the shape of the labels."""
    batch["label"] = np.eye(10, dtype=np.float32)[batch["label"] // 10 % 10]


def mixed(batch: Row, rng: np.random.Generator) -> Row:
    """Mix each row with another one of the batch."""
    share = np.float32(rng.beta(0.2, 0.2))
    others = rng.permutation(len(batch["label"]))
    image = batch["image_data"].astype(np.float32)
    batch["image_data"] = share * image + (1 - share) * image[others]
    batch["label"] = share * batch["label"] + (1 - share) * batch["label"][others]
    return batch


def halved(batch: Row) -> None:
    """Change the type of the images, and leave their axes."""
    batch["image_data"] = batch["image_data"].astype(np.float32) / 2


def drop_thirds(row: Row) -> Any:
    """Drop the rows whose number can be divided by three."""
    return DROP if row["label"] % 30 == 0 else None


def nothing(_row: Row) -> None:
    """Leave everything as it is."""


def inverted(row: Row) -> None:
    """Invert the image."""
    row["image_data"] = 255 - row["image_data"]


def to_tensor(row: Row) -> None:
    """Make what most models take of the image."""
    row["image_data"] = (row["image_data"] / np.float32(255)).transpose(2, 0, 1)


def only_mean(row: Row) -> Row:
    """Leave no image."""
    return {"mean": row["image_data"].mean(), "label": row["label"]}


def slow(_row: Row) -> None:
    """Take longer than anything else."""
    time.sleep(0.002)


def fails(row: Row) -> None:
    """Fail on one row."""
    if row["label"] == 50:
        raise ValueError("no such label")


steps = [jitter, mean]

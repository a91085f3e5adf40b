"""What ``fastloader doctor`` tries out in a process of its own: a loader, and each framework.

``python -m fastloader.cli.doctor.reports NAME`` prints one report as a line of JSON.
``frameworks.py`` starts that process and reads the line.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...loader import FastLoader
from .sample_images import SAMPLES, SHAPE


@contextlib.contextmanager
def _loader() -> Iterator[FastLoader]:
    """Yield a loader of a new table that has the sample images in one batch."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "doctor.db"
        connection = sqlite3.connect(path)
        with connection:
            connection.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, image_data, label)")
            rows = enumerate(SAMPLES.values(), 1)
            connection.executemany("INSERT INTO images VALUES (?1, ?2, ?1)", rows)
        connection.close()
        with FastLoader(str(path), size=SHAPE[:2], batch_size=len(SAMPLES), workers=1) as loader:
            yield loader


def loader_report() -> dict[str, Any]:
    """Deliver a batch through a worker process and the ring, and count the copies."""
    with _loader() as loader:
        shapes = [list(images.shape) for images, _ in loader]
        return {"shapes": shapes, "copies": loader.stats().copies}


def tensorflow_report() -> dict[str, Any]:
    """Report whether a batch that came through tf.data still lies in the ring."""
    import tensorflow as tf

    aliased = []
    with _loader() as loader:
        for images, _ in loader.as_dataset():
            aliased.append(loader.delivery.aliases(np.asarray(memoryview(images)).ctypes.data))
            del images
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    return {"version": tf.__version__, "gpus": gpus, "aliased": aliased == [True]}


def torch_report() -> dict[str, Any]:
    """Report PyTorch's version and the GPUs that it sees."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"version": torch.__version__, "gpus": gpus}


def jax_report() -> dict[str, Any]:
    """Report JAX's version and the accelerators that it sees."""
    import jax

    gpus = [str(device) for device in jax.devices() if device.platform != "cpu"]
    return {"version": jax.__version__, "gpus": gpus}


REPORTS: dict[str, Callable[[], dict[str, Any]]] = {
    "loader": loader_report,
    "tensorflow": tensorflow_report,
    "torch": torch_report,
    "jax": jax_report,
}

if __name__ == "__main__":
    print(json.dumps(REPORTS[sys.argv[1]]()))

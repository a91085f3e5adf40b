"""Small Keras models, and how tests fit them."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "workers": 2}
BATCHES = 13


def model_of_the_documents() -> Any:
    """Return the compiled model that examples in documents and docstrings call ``model``."""
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((224, 224, 3)),
            layers.AveragePooling2D(32),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse")
    return model


def model_of(**compiled: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    return model


def fit(model: Any, dataset: Any, **options: Any) -> Any:
    # shuffle=True is the default of fit(), and Keras warns that it has no effect on a dataset.
    return model.fit(dataset, verbose=0, shuffle=False, **options).history


def scaled(dataset: Any) -> Any:
    """Return the dataset with labels from 0 to 1."""
    return dataset.map(lambda x, y, *rest: (x, tf.cast(y, tf.float32) / 1000, *rest))


class Steps(keras.callbacks.Callback):
    """Counts the steps of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.of_epoch: dict[int, int] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._epoch = epoch
        self.of_epoch[epoch] = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.of_epoch[self._epoch] += 1

"""A training on some backend of Keras, which can be killed at any moment, without TensorFlow.

``python -m tests.keras_backends BACKEND DATABASE FOLDER`` takes a step for each line that it reads,
and all that are left once there are no more lines. It says how many it has taken after each.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

EPOCHS = 3
SAVE_FREQ = 4


def train(backend: str, url: str, folder: Path) -> dict[str, Any]:
    """Fit a small model, resuming where an earlier call was. Return what it has become."""
    os.environ["KERAS_BACKEND"] = backend
    if backend != "tensorflow":
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # as if it were not installed
    import keras
    import numpy as np

    from fastloader import FastLoader
    from fastloader.adapters.keras import Resume

    assert keras.backend.backend() == backend

    class Paced(keras.callbacks.Callback):  # type: ignore[misc]
        taken = 0

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            sys.stdin.readline()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.taken += 1
            print(self.taken, flush=True)

    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Flatten(),
            layers.Dropout(0.5, seed=3),
            layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    options: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "workers": 2, "dtype": "float32"}
    with FastLoader(url, shuffle=True, seed=4, **options) as loader:
        resume = Resume(loader, folder / "backup", save_freq=SAVE_FREQ)
        history = model.fit(
            loader.as_keras(), epochs=EPOCHS, verbose=0, callbacks=[Paced(), resume]
        )
        rows = loader.stats().rows
    with FastLoader(url, label=None, **options) as loader:
        predicted = model.predict(loader.as_keras(), verbose=0)
    with FastLoader(url, **options) as loader:
        loss = model.evaluate(loader.as_keras(), verbose=0)
        again = model.evaluate(loader.as_keras(), verbose=0)
        images, labels = (np.concatenate(its) for its in zip(*loader, strict=True))
    assert np.allclose(loss, again)
    expected = model.predict_on_batch(images)
    return {
        "weights": [weights.tolist() for weights in model.get_weights()],
        "loss": history.history["loss"],
        "rows": rows,
        "predicted": bool(np.allclose(predicted, expected, atol=1e-5)),
        "evaluated": bool(np.isclose(loss[0], ((expected[:, 0] - labels) ** 2).mean(), rtol=1e-4)),
        "tensorflow": sys.modules.get("tensorflow") is not None,
    }


if __name__ == "__main__":
    found = train(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    Path(sys.argv[3], "found.json").write_text(json.dumps(found), encoding="utf-8")

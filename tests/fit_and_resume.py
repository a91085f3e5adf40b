"""A training that can be killed at any moment: ``python -m tests.fit_and_resume DATABASE FOLDER``.

It writes a line for every step that it takes: the optimizer's count of steps, and the labels of the
batch. It takes a step for each line that it reads, and all that are left once there are no more
lines.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

EPOCHS = 3
SAVE_FREQ = 4


def train(url: str, folder: Path, *, paced: bool = False) -> Any:
    """Fit a small model, resuming where an earlier call was. Return its weights."""
    import keras
    import tensorflow as tf

    from fastloader import FastLoader
    from fastloader.adapters.keras import Resume

    keras.utils.set_random_seed(1)
    lines = open(folder / "steps", "ab", buffering=0)  # noqa: SIM115 # until the process ends

    class Model(keras.Model):
        """A dense layer behind dropout, whose random state has to be resumed, too."""

        def __init__(self) -> None:
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5, seed=3)
            self.dense = keras.layers.Dense(1)

        def call(self, x: Any, training: bool = False) -> Any:
            x = tf.reshape(tf.cast(x, tf.float32) / 255, (-1, 8 * 8 * 3))
            return self.dense(self.dropout(x, training=training))

        def train_step(self, data: Any) -> Any:
            def log(step: Any, labels: Any) -> Any:
                if paced:
                    sys.stdin.readline()
                lines.write(f"{int(step)} {' '.join(map(str, labels.tolist()))}\n".encode())
                return step

            tf.numpy_function(log, [self.optimizer.iterations, data[1]], tf.int64)
            return super().train_step(data)

    model = Model()
    model(tf.zeros((1, 8, 8, 3)))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    with FastLoader(url, size=(8, 8), batch_size=8, workers=2, shuffle=True, seed=4) as loader:
        dataset = loader.as_dataset()
        resume = Resume(loader, folder / "backup", save_freq=SAVE_FREQ)
        # shuffle=True is the default of fit(), and Keras warns that it has no effect on a dataset.
        model.fit(dataset, epochs=EPOCHS, verbose=0, shuffle=False, callbacks=[resume])
    return [weights.tolist() for weights in model.get_weights()]


if __name__ == "__main__":
    import json

    found = train(sys.argv[1], Path(sys.argv[2]), paced=True)
    Path(sys.argv[2], "weights.json").write_text(json.dumps(found), encoding="utf-8")

"""Train with Keras from a PyDataset (once called Sequence) over a table."""

import io
import math
import random
import sqlite3
from contextlib import closing

import keras
import numpy as np
from PIL import Image


def decode(blob):
    image = Image.open(io.BytesIO(blob)).convert("RGB")
    return np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR))


class Photos(keras.utils.PyDataset):
    def __init__(self, path, batch_size, **options):
        super().__init__(**options)
        self.path, self.batch_size = path, batch_size
        with closing(sqlite3.connect(path)) as database:
            self.keys = [key for (key,) in database.execute("SELECT id FROM images")]
        random.shuffle(self.keys)

    def __len__(self):
        return math.ceil(len(self.keys) / self.batch_size)

    def __getitem__(self, index):
        keys = self.keys[index * self.batch_size : (index + 1) * self.batch_size]
        marks = ",".join("?" * len(keys))
        query = f"SELECT image_data, label FROM images WHERE id IN ({marks})"
        with closing(sqlite3.connect(self.path)) as database:
            blobs, labels = zip(*database.execute(query, keys), strict=True)
        return np.stack([decode(blob) for blob in blobs]), np.array(labels)

    def on_epoch_end(self):
        random.shuffle(self.keys)


train = Photos("photos.db", 32, workers=2)

model = keras.Sequential([
    keras.layers.Input((96, 96, 3)),
    keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(1),
])  # fmt: skip
model.compile("adam", "mse")
model.fit(train, epochs=2, verbose=2)

"""Train with Keras from a table that ``fastloader ingest photos photos.sqlite`` has made."""

import sqlite3
from contextlib import closing

import keras

from fastloader import FastLoader

options = {"size": (96, 96), "batch_size": 32}
rows = "SELECT id, image_data, label FROM images WHERE id % 5"
train = FastLoader("photos.sqlite", query=f"{rows} > 0", shuffle=True, seed=1, **options)
val = FastLoader("photos.sqlite", query=f"{rows} = 0", **options)
with closing(sqlite3.connect("photos.sqlite")) as database:
    names = [name for (name,) in database.execute("SELECT name FROM images_classes ORDER BY id")]

model = keras.Sequential([
    keras.layers.Input((96, 96, 3)),
    keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(len(names), activation="softmax"),
])  # fmt: skip
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train.as_dataset(), validation_data=val.as_dataset(), epochs=2, verbose=2)

"""Train with Keras from a table that fastloader reads."""

import keras

from fastloader import FastLoader


def make_loader(where, **options):
    query = f"SELECT id, image_data, label FROM images WHERE {where}"
    return FastLoader("photos.db", query=query, size=(96, 96), batch_size=32, **options)


train = make_loader("id % 10 > 0", shuffle=True, flip=True)
val = make_loader("id % 10 = 0")

model = keras.Sequential([
    keras.layers.Input((96, 96, 3)),
    keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(1),
])  # fmt: skip
model.compile("adam", "mse")
model.fit(train.as_dataset(), validation_data=val.as_dataset(), epochs=2, verbose=2)

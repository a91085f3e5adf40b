"""Train with Keras from a table that fastloader reads."""

import keras

from fastloader import FastLoader

train = FastLoader("photos.db", size=(96, 96), batch_size=32, shuffle=True)

model = keras.Sequential([
    keras.layers.Input((96, 96, 3)),
    keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(1),
])  # fmt: skip
model.compile("adam", "mse")
model.fit(train.as_dataset(), epochs=2, verbose=2)

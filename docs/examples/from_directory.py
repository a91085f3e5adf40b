"""Train with Keras from a folder of images, a subfolder for each class."""

import keras

train, val = keras.utils.image_dataset_from_directory(
    "photos",
    image_size=(96, 96),
    batch_size=32,
    validation_split=0.2,
    subset="both",
    seed=1,
)
names = train.class_names

model = keras.Sequential([
    keras.layers.Input((96, 96, 3)),
    keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(len(names), activation="softmax"),
])  # fmt: skip
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(train, validation_data=val, epochs=2, verbose=2)

"""Train with Keras from a table that tf.data reads."""

import keras
import tensorflow as tf


def decode(blob, label):
    image = tf.io.decode_jpeg(blob, channels=3)
    return tf.image.resize(image, (96, 96)), label


def make_dataset(where):
    query = f"SELECT image_data, label FROM images WHERE {where}"
    return tf.data.experimental.SqlDataset("sqlite", "photos.db", query, (tf.string, tf.int64))


train = make_dataset("id % 10 > 0").shuffle(1000)
train = train.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
train = train.map(lambda image, label: (tf.image.random_flip_left_right(image), label))
train = train.batch(32).prefetch(tf.data.AUTOTUNE)
val = make_dataset("id % 10 = 0").map(decode).batch(32)

model = keras.Sequential([
    keras.layers.Input((96, 96, 3)),
    keras.layers.Rescaling(1 / 255),
    keras.layers.Conv2D(16, 5, strides=2, activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(1),
])  # fmt: skip
model.compile("adam", "mse")
model.fit(train, validation_data=val, epochs=2, verbose=2)

"""Batches from a table: a generator of rows, which TensorFlow decodes."""

import sqlite3
from contextlib import closing

import tensorflow as tf


def rows():
    # tf.data calls the generator from several threads.
    with closing(sqlite3.connect("photos.db", check_same_thread=False)) as database:
        yield from database.execute("SELECT image_data, label FROM images ORDER BY id")


def decode(blob, label):
    image = tf.io.decode_jpeg(blob, channels=3)
    return tf.image.resize(image, (224, 224)), label


signature = (tf.TensorSpec((), tf.string), tf.TensorSpec((), tf.int64))
dataset = tf.data.Dataset.from_generator(rows, output_signature=signature)
dataset = dataset.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
dataset = dataset.batch(64).prefetch(tf.data.AUTOTUNE)

if __name__ == "__main__":
    for images, labels in dataset:
        print(images.shape, labels.shape)  # train here

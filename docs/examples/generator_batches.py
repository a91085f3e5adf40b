"""Batches from a table: a generator of batches, and a prefetch behind it."""

import io
import itertools
import sqlite3
from contextlib import closing

import numpy as np
import tensorflow as tf
from PIL import Image


def decode(blob):
    image = Image.open(io.BytesIO(blob)).convert("RGB")
    return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR))


def batches():
    # tf.data calls the generator from several threads.
    with closing(sqlite3.connect("photos.db", check_same_thread=False)) as database:
        rows = database.execute("SELECT image_data, label FROM images ORDER BY id")
        while batch := list(itertools.islice(rows, 64)):
            images = np.stack([decode(blob) for blob, label in batch])
            yield images, np.array([label for blob, label in batch])


signature = (
    tf.TensorSpec((None, 224, 224, 3), tf.uint8),
    tf.TensorSpec((None,), tf.int64),
)
dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
dataset = dataset.prefetch(tf.data.AUTOTUNE)

if __name__ == "__main__":
    for images, labels in dataset:
        print(images.shape, labels.shape)  # train here

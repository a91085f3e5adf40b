"""Batches from a table: a generator of images, which Pillow decodes."""

import io
import sqlite3
from contextlib import closing

import numpy as np
import tensorflow as tf
from PIL import Image


def images_and_labels():
    # tf.data calls the generator from several threads.
    with closing(sqlite3.connect("photos.db", check_same_thread=False)) as database:
        for blob, label in database.execute("SELECT image_data, label FROM images ORDER BY id"):
            image = Image.open(io.BytesIO(blob)).convert("RGB")
            image = image.resize((224, 224), Image.Resampling.BILINEAR)
            yield np.asarray(image), label


signature = (tf.TensorSpec((224, 224, 3), tf.uint8), tf.TensorSpec((), tf.int64))
dataset = tf.data.Dataset.from_generator(images_and_labels, output_signature=signature)
dataset = dataset.shuffle(1000).batch(64).prefetch(tf.data.AUTOTUNE)

if __name__ == "__main__":
    for images, labels in dataset:
        print(images.shape, labels.shape)  # train here

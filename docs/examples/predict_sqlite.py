"""Predict a label for every row, and write it into the table by the row's key (SQLite)."""

import sqlite3
from contextlib import closing

import numpy as np

from fastloader import FastLoader


def predict(images):
    """Stand for a model: (n, height, width, 3) to n numbers of classes."""
    return images.mean(axis=(1, 2)).argmax(axis=1)


keys, predicted = [], []
with FastLoader("photos.db", label=None, with_keys=True) as loader:
    for batch in loader:
        keys.append(batch["id"].copy())
        predicted.append(predict(batch["image_data"]))

rows = zip(np.concatenate(predicted).tolist(), np.concatenate(keys).tolist(), strict=True)
with closing(sqlite3.connect("photos.db")) as database, database:
    columns = [name for _, name, *_ in database.execute("PRAGMA table_info(images)")]
    if "predicted" not in columns:
        database.execute("ALTER TABLE images ADD COLUMN predicted INTEGER")
    database.executemany("UPDATE images SET predicted = ? WHERE id = ?", rows)

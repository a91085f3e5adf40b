"""What a user gets from a loader, with worker processes and without."""

from __future__ import annotations

import os
import pickle
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastloader
from fastloader import FastLoader
from fastloader.transport.ring import ALIGNMENT

from .support import decoded, jpeg, resized, simple_rows, table, unpacked

Make = Callable[..., FastLoader]


@pytest.fixture(params=[0, 1, 3])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Yield a function that makes loaders with 0, 1 or 3 workers; close them in the end."""
    loaders = []

    def made(url: str, **options: Any) -> FastLoader:
        options = {"size": (16, 16), "batch_size": 8, "workers": request.param, **options}
        loaders.append(FastLoader(url, **options))
        return loaders[-1]

    yield made
    for loader in loaders:
        loader.close()


def keys_of(loader: FastLoader) -> list[int]:
    """Return all keys of an epoch, in the order of delivery."""
    key = loader.config.key
    return [k for *_, keys in unpacked(loader, key) for k in keys.tolist()]


# ---- batches -------------------------------------------------------------------------------------


def test_every_row_comes_once_in_the_order_of_the_keys(make: Make, small: str) -> None:
    loader = make(small, with_keys=True)
    batches = list(loader)
    assert len(batches) == len(loader) == 13
    parts = zip(*unpacked(batches), strict=True)
    images, labels, keys = (np.concatenate(part) for part in parts)
    assert keys.tolist() == list(range(3, 301, 3))
    assert labels.tolist() == list(range(0, 1000, 10))
    assert (images.dtype, labels.dtype, keys.dtype) == (np.uint8, np.int64, np.int64)
    for image, (_, blob, _) in zip(images, simple_rows(100), strict=True):
        assert np.abs(image - resized(decoded(blob), 16, 16)).max() <= 1


def test_batches_are_full_but_for_the_last(make: Make, small: str) -> None:
    assert [len(images) for images, _ in make(small)] == [8] * 12 + [4]
    assert [len(images) for images, _ in make(small, drop_remainder=True)] == [8] * 12
    assert [len(images) for images, _ in make(small, batch_size=1000)] == [100]


def test_size_is_height_and_width(make: Make, small: str) -> None:
    images, _ = next(iter(make(small, size=(10, 30))))
    assert images.shape == (8, 10, 30, 3)


def test_each_iteration_is_the_next_epoch(make: Make, small: str) -> None:
    loader = make(small, with_keys=True)
    for epoch in range(3):
        assert keys_of(loader) == list(range(3, 301, 3))
        assert loader.stats().epochs == epoch + 1
    assert next(images["id"].tolist() for images, _ in loader()) == [3, 6, 9, 12, 15, 18, 21, 24]


def test_an_iteration_may_be_left_at_any_point(make: Make, small: str) -> None:
    loader = make(small, with_keys=True, slots=2)
    for pulled in (0, 1, 2, 5, 12, 13):
        iterator = iter(loader)
        for _ in range(pulled):
            next(iterator)
        assert keys_of(loader) == list(range(3, 301, 3))


def test_of_two_iterators_the_older_ends_with_an_error(make: Make, small: str) -> None:
    loader = make(small, with_keys=True)
    older = iter(loader)
    next(older)
    newer = iter(loader)
    with pytest.raises(fastloader.SupersededError, match=r"epoch 0\) has ended because a newer"):
        next(older)
    assert [key for *_, keys in unpacked(newer) for key in keys.tolist()] == list(range(3, 301, 3))


def test_arrays_are_aligned_writable_and_keep_their_values(make: Make, small: str) -> None:
    kept = []
    for images, labels in make(small, slots=2):
        assert images.ctypes.data % ALIGNMENT == 0
        assert labels.flags.writeable  # and a copy, which needs no alignment
        images[0, 0, 0, 0] = labels[0] % 251
        kept.append((images, labels))
    assert sum(len(images) for images, _ in kept) == 100
    for i, (images, labels) in enumerate(kept):
        assert labels.tolist() == [10 * row for row in range(8 * i, min(8 * i + 8, 100))]
        assert images[0, 0, 0, 0] == labels[0] % 251


def test_stats_count_leases_and_copies(make: Make, small: str) -> None:
    loader = make(small, slots=3)
    feeders = max(1, loader.config.workers)
    kept = list(loader)
    stats = loader.stats()
    assert (stats.batches, stats.rows, stats.epochs) == (13, 100, 1)
    assert (stats.leases, stats.copies) == (2 * feeders, 13 - 2 * feeders)
    assert stats.leased == 2 * feeders
    del kept
    for _ in loader:
        pass
    stats = loader.stats()
    assert stats.copies == 13 - 2 * feeders, "a consumer that keeps nothing costs no copies"
    assert stats.wait_s > 0


# ---- labels --------------------------------------------------------------------------------------


def test_labels_of_every_type(make: Make, tmp_path: Path) -> None:
    vectors = np.arange(60, dtype=np.float32).reshape(20, 3)
    path = table(
        tmp_path / "t.db",
        [(i, jpeg(), i, i / 4, i % 2, f"näme {i}", vectors[i].tobytes()) for i in range(20)],
        columns="id INTEGER PRIMARY KEY, image_data BLOB, i INT, f REAL, b BOOLEAN, t TEXT, v BLOB",
    )
    wanted = ["i", "f", "b", "t", "v:float32", "i:int16"]
    with pytest.raises(fastloader.ConfigError, match="none of them twice"):
        make(path, label=wanted)
    loader = make(path, label=wanted[:-1])
    parts = [labels for _, labels in loader]
    assert list(parts[0]) == ["i", "f", "b", "t", "v"]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert [a.dtype for a in whole.values()] == [np.int64, np.float64, bool, object, np.float32]
    assert whole["i"].tolist() == list(range(20))
    assert whole["f"].tolist() == [i / 4 for i in range(20)]
    assert whole["b"].tolist() == [bool(i % 2) for i in range(20)]
    assert whole["t"].tolist() == [f"näme {i}" for i in range(20)]
    np.testing.assert_array_equal(whole["v"], vectors)


def test_the_shape_of_a_batch_follows_label_and_with_keys(make: Make, small: str) -> None:
    assert next(iter(make(small, label=None))).shape == (8, 16, 16, 3)
    images = next(iter(make(small, label=None, with_keys=True)))
    assert list(images) == ["image_data", "id"]
    assert images["id"].tolist()[0] == 3
    images, labels = next(iter(make(small, label=["label:int32"], with_keys=True)))
    assert list(images) == ["image_data", "id"]
    assert labels["label"].dtype == np.int32
    with pytest.raises(fastloader.ConfigError, match="the key column 'id' is an image column too"):
        make(small, image=["image_data", "id"], with_keys=True)


def test_a_query_in_place_of_a_table(make: Make, small: str) -> None:
    query = "SELECT id AS k, image_data AS jpeg, label / 10 AS n FROM images WHERE id % 2 = 0;"
    loader = make(small, query=query, key="k", image="jpeg", label="n", with_keys=True)
    assert keys_of(loader) == list(range(6, 301, 6))


def test_rows_that_come_and_go_while_the_loader_runs_are_counted(make: Make, small: str) -> None:
    loader = make(small, with_keys=True, on_error="skip")
    connection = sqlite3.connect(small)
    with connection:
        # 48 is the last of its batch.
        connection.execute("DELETE FROM images WHERE id IN (3, 48, 150, 300)")
        for key in (1, 4, 5, 152, 299, 301):
            connection.execute("INSERT INTO images VALUES (?, ?, 0)", (key, jpeg()))
    connection.close()
    assert keys_of(loader) == [k for k in range(3, 301, 3) if k not in (3, 48, 150, 300)]
    assert [key for key, _ in loader.bad_rows] == [3, 48, 150, 300]
    assert all("the row is gone" in reason for _, reason in loader.bad_rows)
    assert loader.stats().passed_over == 4  # 1 and 301 lie outside of every batch


# ---- the object ----------------------------------------------------------------------------------


def test_a_loader_is_a_context_manager_and_closes_twice(make: Make, small: str) -> None:
    with make(small) as loader:
        iterator = iter(loader)
        images, _ = next(iterator)
        expected = images.copy()
    assert loader.closed
    loader.close()
    assert "closed" in repr(loader)
    np.testing.assert_array_equal(images, expected)
    for use in (lambda: next(iterator), lambda: iter(loader), loader.__enter__):
        with pytest.raises(fastloader.ClosedError, match="is closed: make a new FastLoader"):
            use()


def test_a_loader_may_be_closed_at_any_moment(make: Make, small: str) -> None:
    """It ends even while its source is being opened."""
    for _ in range(5):
        loader = make(small)
        iter(loader)
        loader.close()
        loader.close()


def test_an_unclosed_loader_warns_and_leaves_no_worker(small: str) -> None:
    script = f"""
import fastloader, os, time
loader = fastloader.FastLoader({small!r}, workers=1)
pid = loader.delivery.feeders[0].process.pid
del loader
deadline = time.monotonic() + 60
while os.waitpid(pid, os.WNOHANG) == (0, 0):
    assert time.monotonic() < deadline
    time.sleep(0.01)
"""
    command = [sys.executable, "-W", "default", "-c", script]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
    assert "ResourceWarning: unclosed <FastLoader sqlite:///" in run.stderr
    assert run.returncode == 0, run.stderr


def test_the_repr_tells_the_state(make: Make, small: str) -> None:
    loader = make(small)
    workers = loader.config.workers
    assert repr(loader) == (
        f"<FastLoader sqlite:///{small}: 100 rows in 13 batches, {workers} workers, not begun>"
    )


def test_options_come_from_the_environment(
    make: Make, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTLOADER_WITH_KEYS", "1")
    monkeypatch.setenv("FASTLOADER_LABEL", "none")
    images = next(iter(make(small)))
    assert len(images["image_data"]) == len(images["id"]) == 8


def test_a_forked_copy_says_that_it_is_one(make: Make, small: str) -> None:
    loader = make(small)
    list(loader)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            iter(loader)
        except fastloader.ClosedError as error:
            os.write(write, str(error).encode())
        loader.close()
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    assert b"of which this one is a fork" in os.read(read, 1000)
    os.close(read)
    assert len(list(loader)) == 13, "the fork must not have closed the original"


def test_a_loader_cannot_be_pickled(make: Make, small: str) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(make(small))


@pytest.mark.parametrize("workers", [0, 1, 2, 3, 7])
def test_batches_do_not_depend_on_the_number_of_workers(small: str, workers: int) -> None:
    with FastLoader(small, workers=1, size=(16, 16), batch_size=8, with_keys=True) as loader:
        expected = [[part.tobytes() for part in batch] for batch in unpacked(loader)]
    with FastLoader(small, workers=workers, size=(16, 16), batch_size=8, with_keys=True) as loader:
        assert [[part.tobytes() for part in batch] for batch in unpacked(loader)] == expected

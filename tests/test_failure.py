"""Whatever is wrong raises our own exception in the consumer: what, where, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import ConfigError, FastLoader, PlanError, RowError, SourceError, WorkerError
from fastloader.errors import FastloaderError, unexpected
from fastloader.transport.messages import Failure
from fastloader.transport.serial import pack, unpack

from .conftest import Either
from .support import jpeg, simple_rows, table, unpacked, worker_processes

workers = pytest.mark.parametrize("workers", [0, 2])


@contextmanager
def fails(error: type[FastloaderError], message: str) -> Iterator[None]:
    """Expect the block to fail with this error, and to leave no process."""
    with pytest.raises(error, match=message):
        yield
    assert worker_processes() == []


@workers
def test_what_is_wrong_with_the_table_is_said_when_the_loader_is_made(
    tmp_path: Path, workers: int
) -> None:
    path = table(tmp_path / "t.db", simple_rows(3))
    empty = table(tmp_path / "e.db", [])
    loose = "id INT, image_data BLOB, label INT"
    null = table(tmp_path / "n.db", [(1, b"", 0), (None, b"", 0)], columns=loose)
    twice = table(tmp_path / "d.db", [(1, b"", 0), (7, b"", 0), (7, b"", 0)], columns=loose)
    with fails(SourceError, "no.db: no such file"):
        FastLoader(tmp_path / "no.db", workers=workers)
    with fails(SourceError, "no table 'photos'; there are: images"):
        FastLoader(path, table="photos", workers=workers)
    with fails(SourceError, "no column 'class'; there are id, image_data, label"):
        FastLoader(path, label="class", workers=workers)
    with fails(ConfigError, "batch_size=0 must be from 1"):
        FastLoader(path, batch_size=0, workers=workers)
    with fails(ConfigError, "MiB are available: lower slots"):
        FastLoader(path, size=(60000, 60000), workers=workers)
    with fails(PlanError, "e.db, images: there are no rows to load"):
        FastLoader(empty, workers=workers)
    with fails(PlanError, "the key column 'id' is NULL in 1 row"):
        FastLoader(null, workers=workers)
    with fails(PlanError, "2 rows have the key 7; keys must be unique"):
        FastLoader(twice, workers=workers)


def test_a_missing_index_is_warned_of_where_the_loader_is_made(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(3), columns="id INT, image_data BLOB, label INT")
    with pytest.warns(UserWarning, match="CREATE UNIQUE INDEX") as caught:
        FastLoader(path, workers=1).close()
    assert Path(caught[0].filename).name == Path(__file__).name


BAD = {
    5: (b"", 50, r"empty image \(the blob is empty\)"),
    6: (None, 60, "column 'image_data' is NULL"),
    7: ("text", 70, "column 'image_data' is text, not a blob"),
    20: (jpeg()[:300], 200, "truncated image"),
    21: (jpeg(), None, "column 'label' holds NULL, int64 is needed"),
    22: (jpeg(), "cat", "column 'label' holds 'cat', int64 is needed"),
    40: (b"GIF89a....", 400, "it starts with 47 49 46 38"),
}


def bad_table(path: Path, bad: dict[int, Any] = BAD) -> str:
    rows = [
        (key, *bad[key][:2]) if key in bad else (key, image, label)
        for key, image, label in simple_rows(48)
    ]
    return table(path, rows)


@workers
@pytest.mark.parametrize("key", BAD)
def test_a_bad_row_is_raised_with_its_key_and_reason_after_the_batches_before_it(
    tmp_path: Path, key: int, workers: int
) -> None:
    path = bad_table(tmp_path / "t.db", {key: BAD[key]})
    with FastLoader(path, size=(8, 8), batch_size=8, workers=workers) as loader:
        for _ in range(2):  # and once more in the next epoch
            iterator = iter(loader)
            for _ in range((key - 1) // 8):
                next(iterator)
            with pytest.raises(RowError, match=BAD[key][2]) as caught:
                next(iterator)
            assert caught.value.key == key
            assert 'on_error="skip"' in str(caught.value)
            with pytest.raises(StopIteration):
                next(iterator)


@workers
def test_skip_drops_bad_rows_and_lists_them(
    tmp_path: Path, workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = bad_table(tmp_path / "t.db")
    options = {"size": (8, 8), "batch_size": 8, "workers": workers, "with_keys": True}
    with FastLoader(path, on_error="skip", **options) as loader:
        good = dict(zip(range(1, 49), range(0, 480, 10), strict=True))
        for _ in range(2):
            batches = list(unpacked(loader))
            labels, keys = (
                np.concatenate(part).tolist() for part in list(zip(*batches, strict=True))[1:]
            )
            assert keys == [key for key in good if key not in BAD]
            assert labels == [good[key] for key in keys]
            assert all(images.mean() > 10 for images, _, _ in batches)
            assert [key for key, _ in loader.bad_rows] == list(BAD)
        stats = loader.stats()
        assert (stats.rows, stats.bad_rows) == (2 * (48 - len(BAD)), 2 * len(BAD))
    assert "batch 0: 3 bad rows dropped; the first is key 5: empty image" in caplog.text
    assert "batch 4: 1 bad row dropped; the first is key 40" in caplog.text


@pytest.mark.parametrize("role", ["label", "sample_weight"])
@pytest.mark.filterwarnings("error")
def test_a_number_that_its_float_type_cannot_hold_is_a_bad_row(either: Either, role: str) -> None:
    url = either.table(simple_rows(4))  # labels 0, 10, 20, 30
    query = (
        "SELECT id, image_data, label, 16777207 + label AS n, "
        "CAST(label AS double precision) * 2e37 AS x FROM images"
    )
    options = {"query": query, "size": (8, 8), "workers": 0, "on_error": "skip"}
    if "postgres" not in url:  # where a query cannot be cached
        options["cache"] = "ram"
    for column, kept, reason in (
        ("x", [0, 2e38], "column 'x' holds 4e+38, float32 is needed; name a type that holds it"),
        ("n", [16777207], "column 'n' holds 16777227, float32 is needed"),
    ):
        with FastLoader(url, **options, **{role: f"{column}:float32"}) as loader:
            for _ in range(2):
                ((*_, values),) = loader
                assert values.tolist() == np.float32(kept).tolist()
            assert reason in dict(loader.bad_rows)[3]


@workers
def test_fill_keeps_bad_rows_black_with_their_keys(tmp_path: Path, workers: int) -> None:
    path = bad_table(tmp_path / "t.db")
    options = {"size": (8, 8), "batch_size": 8, "workers": workers, "with_keys": True}
    with FastLoader(path, on_error="fill", **options) as loader:
        images, labels, keys = (
            np.concatenate(part) for part in zip(*unpacked(loader), strict=True)
        )
        assert keys.tolist() == list(range(1, 49))
        for image, label, key in zip(images, labels, keys.tolist(), strict=True):
            assert (image.max() == 0) == (key in BAD)
            assert label == (0 if key in BAD else (key - 1) * 10)
        assert [key for key, _ in loader.bad_rows] == list(BAD)


@workers
def test_a_batch_without_a_good_row_is_passed_over_when_skipping(
    tmp_path: Path, workers: int
) -> None:
    rows = [(k, b"" if 9 <= k <= 24 else i, n) for k, i, n in simple_rows(40)]
    path = table(tmp_path / "t.db", rows)
    with FastLoader(path, on_error="skip", size=(8, 8), batch_size=8, workers=workers) as loader:
        assert [len(images) for images, _ in loader] == [8, 8, 8]
        assert len(loader.bad_rows) == 16


@workers
def test_text_labels_of_bad_rows_are_dropped_or_empty(tmp_path: Path, workers: int) -> None:
    rows = [(k, b"" if k == 2 else i, f"name {k}") for k, i, _ in simple_rows(3)]
    path = table(tmp_path / "t.db", rows, columns="id INTEGER PRIMARY KEY, image_data, label TEXT")
    expected = {"skip": ["name 1", "name 3"], "fill": ["name 1", "", "name 3"]}
    for on_error, names in expected.items():
        with FastLoader(path, on_error=on_error, size=(8, 8), workers=workers) as loader:
            assert [labels.tolist() for _, labels in loader] == [names]


@workers
def test_an_image_over_the_limit_is_refused_with_the_option_to_raise(
    tmp_path: Path, workers: int
) -> None:
    path = table(tmp_path / "t.db", simple_rows(3))
    with (
        FastLoader(path, max_pixels=700, workers=workers) as loader,
        pytest.raises(RowError, match="32 x 24 pixels, the limit is 700; raise max_pixels"),
    ):
        list(loader)


@workers
def test_a_table_that_is_dropped_while_the_loader_runs_is_an_error(
    tmp_path: Path, workers: int
) -> None:
    path = table(tmp_path / "t.db", simple_rows(100))
    # So that the workers, which have begun the next epoch, cannot have read all of it.
    little = {"slots": 2, "fetch_bytes": 1}
    with FastLoader(path, size=(8, 8), batch_size=8, workers=workers, **little) as loader:
        list(loader)
        connection = sqlite3.connect(path)
        connection.execute("DROP TABLE images")
        connection.close()
        with pytest.raises(SourceError, match="no such table"):
            list(loader)


def test_what_nobody_expected_comes_with_its_traceback() -> None:
    try:
        raise ZeroDivisionError("boom")
    except ZeroDivisionError as error:
        ours = unpack(pack(Failure.of(unexpected(error))), Failure).error()
    assert isinstance(ours, WorkerError)
    assert "ZeroDivisionError: boom" in str(ours)


@workers
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("gone", ["id % 8 = 0", "id % 8 IN (1, 2)", "id > 60", "id > 0"])
def test_rows_that_have_gone_are_bad_in_every_epoch_and_the_others_where_they_belong(
    tmp_path: Path, workers: int, shuffle: bool, gone: str
) -> None:
    """Rows go at the ends of batches, at their beginnings, at the end of the table, and all."""
    path = table(tmp_path / "t.db", [(k, i, k) for k, i, _ in simple_rows(100)])
    options = {"size": (8, 8), "batch_size": 8, "workers": workers, "fetch_bytes": 3000}
    options |= {"shuffle": shuffle, "shuffle_block": 3, "on_error": "fill", "with_keys": True}
    with FastLoader(path, **options) as loader:
        connection = sqlite3.connect(path)
        with connection:
            left = {k for (k,) in connection.execute(f"SELECT id FROM images WHERE NOT ({gone})")}
            connection.execute(f"DELETE FROM images WHERE {gone}")
        connection.close()
        for epoch in range(3):
            parts = zip(*unpacked(loader), strict=True)
            images, labels, keys = (np.concatenate(part) for part in parts)
            assert sorted(keys.tolist()) == [*range(1, 101)]
            there = np.isin(keys, [*left])
            assert labels.tolist() == np.where(there, keys, 0).tolist(), f"epoch {epoch}"
            assert (images.reshape(100, -1).any(axis=1) == there).all()
        assert loader.stats().bad_rows == 3 * (100 - len(left))

"""Loaders that sample: the classes and weights of real tables, in every way to read them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import (
    Balanced,
    Category,
    ClassBatch,
    ConfigError,
    FastLoader,
    Number,
    PlanError,
    Sampling,
    SourceError,
    StateError,
    Weighted,
    per_row,
)
from fastloader.cli import main

from .conftest import Either
from .support import jpeg, table
from .tiers import few

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "with_keys": True, "slots": 2}
IMAGES = [jpeg(16, 12, seed=seed) for seed in range(4)]
SQLITE = "id INTEGER PRIMARY KEY, image_data BLOB, label TEXT, weight REAL, number INTEGER"
POSTGRES = "id int8 PRIMARY KEY, image_data bytea, label text, weight float8, number int4"
CLASSES = ("cat", "dog", "日本")
SAMPLINGS = [Balanced(), Weighted("weight"), Weighted("weight", replacement=False),
             ClassBatch(2, 4)]  # fmt: skip


def class_of(number: int) -> str:
    """Ninety, nine and one in a hundred."""
    return CLASSES[0 if number % 100 >= 10 else 1 if number % 100 else 2]


def rows(count: int = 200) -> list[tuple[Any, ...]]:
    return [
        (3 * n, IMAGES[n % 4], class_of(n), float(class_of(n) != "cat"), n % 5)
        for n in range(count)
    ]


def made(either: Either, some: list[tuple[Any, ...]] | None = None) -> str:
    columns = POSTGRES if either.url.startswith("postgresql") else SQLITE
    return either.table(rows() if some is None else some, columns=columns)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return table(tmp_path / "t.db", rows(), columns=SQLITE)


def given(sampling: Sampling, **options: Any) -> dict[str, Any]:
    its = {**OPTIONS, "sampling": sampling, **options}
    if isinstance(sampling, ClassBatch):
        del its["batch_size"]
    return its


def keys_of(batch: Any) -> list[Any]:
    return batch[0]["id"].tolist()


def contents(loader: FastLoader, epochs: int = 1) -> Iterator[tuple[Any, ...]]:
    for _ in range(epochs):
        for x, y in loader:
            yield x["id"].tolist(), x["image_data"].tobytes(), y.tolist()


# ---- the same rows, however they are read --------------------------------------------------------


@few(2)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=repr)
def test_batches_are_the_same_with_any_workers_databases_caches_and_shards(
    either: Either, sampling: Sampling
) -> None:
    url = made(either)
    options = given(sampling, fit="random_crop", flip=True)
    with FastLoader(url, workers=0, **options) as loader:
        expected = [*contents(loader, 3)]
        assert len(expected) == 3 * len(loader)
    found = [key for keys, *_ in expected for key in keys]
    assert Counter(found).most_common(1)[0][1] > 3
    assert all(label == class_of(key // 3) for k, _, y in expected for key, label in zip(k, y))  # noqa: B905
    for workers, cache in ((2, None), (3, "ram"), (0, "ram")):
        if cache:  # whose crops are of smaller images
            with FastLoader(url, workers=1, cache=cache, **options) as loader:
                expected = [*contents(loader, 3)]
        with FastLoader(url, workers=workers, cache=cache, **options) as loader:
            assert [*contents(loader, 3)] == expected
    shards: list[list[list[int]]] = []
    for index in range(2):
        with FastLoader(url, workers=1, shard=(index, 2), **options) as loader:
            shards.append([keys_of(batch) for batch in loader])
    assert len({len(batches) for batches in shards}) == 1
    together = [key for step in zip(*shards, strict=True) for keys in step for key in keys]
    assert together == found[: len(together)]
    assert len(found) // 3 - len(together) < 2 * 8  # what does not fill a step of class batches


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=repr)
def test_a_row_that_comes_twice_has_another_crop_flip_and_rng(
    path: str, sampling: Sampling
) -> None:
    def draw(row: dict[str, Any], rng: np.random.Generator) -> None:
        row["drawn"] = rng.random()

    options = given(sampling, fit="random_crop", scale=(0.2, 0.9), transform=per_row(draw))
    with FastLoader(path, workers=2, **options) as loader:
        found: dict[int, list[tuple[bytes, float]]] = {}
        for x, _ in loader:
            for key, image, drawn in zip(x["id"], x["image_data"], x["drawn"], strict=True):
                found.setdefault(int(key), []).append((image.tobytes(), float(drawn)))
    often = max(found.values(), key=len)
    assert len(often) > 3
    assert len({drawn for _, drawn in often}) == len(often)
    assert len({image for image, _ in often}) > 0.8 * len(often)  # of 8x8 pixels, some are alike


def test_a_row_twice_in_a_batch_is_read_twice(either: Either) -> None:
    """From PostgreSQL by a cursor, or by COPY where there are no images."""
    url = made(either, rows(3))
    for options in ({}, {"image": None, "label": ["label", "number"]}):
        with FastLoader(
            url, workers=0, batch_size=40, epoch_rows=80, with_keys=True, size=(8, 8),
            sampling=Weighted("number"), **options,
        ) as loader:  # fmt: skip
            for x, _ in loader:
                assert set(x["id"].tolist()) == {3, 6}


def test_balanced_is_of_the_label_or_of_any_column(either: Either) -> None:
    url = made(either)
    with FastLoader(url, workers=2, sampling="balanced", **OPTIONS) as loader:
        labels = Counter(label for _ in range(2) for _, y in loader for label in y.tolist())
    assert max(labels.values()) - min(labels.values()) <= 1
    assert set(labels) == set(CLASSES)
    fields = {"n": Number("number"), "c": Category("label")}
    with FastLoader(url, workers=0, fields=fields, sampling=Balanced("number")) as loader:
        numbers = Counter(n for x in loader for n in x["n"].tolist())
    assert numbers == dict.fromkeys(range(5), 40)


def test_split_and_where_choose_the_rows_that_are_sampled(either: Either) -> None:
    url = made(either)
    for chosen in ({"where": "id >= 30 AND id < 330"}, {"split": ":0.6"}):
        with FastLoader(url, workers=0, **OPTIONS, **chosen) as loader:
            there = {key for batch in loader for key in keys_of(batch)}
        with FastLoader(
            url,
            workers=2,
            sampling=Weighted("number", replacement=False),
            epoch_rows=900,
            **OPTIONS,
            **chosen,
        ) as loader:
            found = {key for batch in loader for key in keys_of(batch)}
        assert found == {key for key in there if key // 3 % 5}


def test_weights_of_zero_never_come(path: str) -> None:
    for replacement in (True, False):
        sampling = Weighted("weight", replacement=replacement)
        with FastLoader(path, workers=0, sampling=sampling, **OPTIONS) as loader:
            assert {y for batch in loader for y in batch[1].tolist()} == {"dog", "日本"}


def test_class_batches_have_their_classes_together(path: str) -> None:
    with FastLoader(path, workers=2, **given(ClassBatch(3, 2))) as loader:
        assert loader.config.batch_size == 6
        for x, y in loader:
            assert y[0::2].tolist() == y[1::2].tolist()
            assert set(y.tolist()) == set(CLASSES)
            assert len(x) == 2


def test_epochs_of_another_length(path: str) -> None:
    for rows_each in (70, 450):
        with FastLoader(path, workers=2, shuffle=True, epoch_rows=rows_each, **OPTIONS) as loader:
            assert len(loader) == -(-rows_each // 8)
            epochs = [[key for batch in loader for key in keys_of(batch)] for _ in range(4)]
        assert {len(keys) for keys in epochs} == {rows_each}
        counts = Counter(key for keys in epochs for key in keys)
        assert max(counts.values()) - min(counts.get(3 * n, 0) for n in range(200)) <= 1


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=repr)
def test_a_state_resumes_and_knows_the_classes(path: str, sampling: Sampling) -> None:
    options = given(sampling)
    with FastLoader(path, workers=2, **options) as loader:
        expected = [keys_of(batch) for _ in range(2) for batch in loader]
    with FastLoader(path, workers=1, **options) as loader:
        iterator = iter(loader)
        found = [keys_of(next(iterator)) for _ in range(5)]
        state = loader.state_dict()
    with FastLoader(path, workers=3, **options) as loader:
        loader.load_state_dict(state)
        found += [keys_of(batch) for _ in range(2) for batch in loader]
    assert found == expected
    plain = {**OPTIONS, "batch_size": 8}
    with (
        FastLoader(path, workers=0, shuffle=True, **plain) as loader,
        pytest.raises(StateError, match="shuffle=None|sampling="),
    ):
        loader.load_state_dict(state)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE images SET label = 'cat', weight = 2 WHERE id = 3")
    database.close()
    with (
        FastLoader(path, workers=0, **options) as loader,
        pytest.raises(StateError, match="rows have other (classes|weights) now"),
    ):
        loader.load_state_dict(state)


# ---- what cannot be sampled ----------------------------------------------------------------------


def broken(either: Either, column: str, value: object, **options: Any) -> str:
    url = made(either)
    if url.startswith("postgresql"):
        import contextlib

        import psycopg2

        with contextlib.closing(psycopg2.connect(url)) as database, database:
            database.cursor().execute(f"UPDATE images SET {column} = %s WHERE id = 33", (value,))
    else:
        with sqlite3.connect(url) as database:
            database.execute(f"UPDATE images SET {column} = ? WHERE id = 33", (value,))
        database.close()
    with pytest.raises((PlanError, ConfigError, SourceError)) as caught:
        FastLoader(url, workers=0, **{**OPTIONS, **options})
    return str(caught.value)


def test_a_row_without_a_class_is_an_error_with_its_key(either: Either) -> None:
    words = broken(either, "label", None, sampling="balanced")
    assert (
        "sampling=Balanced(column='label'): the row with key 33: column 'label' holds NULL" in words
    )
    assert "leave such rows out with where=" in words


@pytest.mark.parametrize("value", [None, -1.0, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_an_error_with_its_key(either: Either, value: object) -> None:
    words = broken(either, "weight", value, sampling=Weighted("weight"))
    assert "sampling=Weighted(column='weight'): the row with key 33" in words


@few(3)
@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (Balanced("nothing"), "no column 'nothing'"),
        (Balanced("weight"), "neither text nor integers"),
        (Weighted("label"), "holds text: use Text or Category, or cast it to a number"),
    ],
)
def test_columns_that_cannot_decide_are_errors_in_words(
    either: Either, sampling: Sampling, words: str
) -> None:
    assert words in broken(either, "number", 1, sampling=sampling)


def test_too_few_classes_or_no_weight_is_an_error(either: Either) -> None:
    url = made(either)
    for workers in (0, 2):
        with pytest.raises(PlanError, match="needs 4 classes, and the column has 3"):
            FastLoader(url, workers=workers, **given(ClassBatch(4, 2)))
        with pytest.raises(PlanError, match="all weights are 0"):
            FastLoader(url, workers=workers, where="weight = 0", **given(Weighted("weight")))


def test_a_bad_row_is_bad_each_time_and_listed_once(tmp_path: Path) -> None:
    some = [(k, b"" if k == 0 else image, *rest) for k, image, *rest in rows(20)]
    path = table(tmp_path / "t.db", some, columns=SQLITE)  # the only row of its class
    for on_error in ("skip", "fill"):
        with FastLoader(path, workers=2, sampling="balanced", on_error=on_error, **OPTIONS) as made:
            sizes = [len(y) for _, y in made]
            assert sum(sizes) == (20 if on_error == "fill" else 20 - made.stats().bad_rows)
            assert made.stats().bad_rows in (6, 7)
            assert [key for key, _ in made.bad_rows] == [0]


# ---- on the command line -------------------------------------------------------------------------


def test_the_command_line_samples(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", path, "--sampling", "balanced", "--epoch-rows", "640"]) == 0
    assert "10 of 64 rows an epoch" in capsys.readouterr().out
    assert main(["plan", path, "--sampling", "Weighted('nothing')"]) != 0
    assert "no column 'nothing'" in capsys.readouterr().err
    sheet = str(Path(path).with_name("sheet.png"))
    assert main(["preview", path, "--sampling", "balanced", "-o", sheet, "--size", "8x8"]) == 0
    capsys.readouterr()


def test_a_check_reads_every_row_once_whatever_the_environment_samples(
    path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE images SET image_data = x'00' WHERE id = 33")
    database.close()
    monkeypatch.setenv("FASTLOADER_SAMPLING", "ClassBatch(classes=3, each=1)")
    monkeypatch.setenv("FASTLOADER_EPOCH_ROWS", "3")
    assert main(["check", path, "--workers", "0"]) == 1
    assert "200 rows: 1 cannot be delivered" in capsys.readouterr().out

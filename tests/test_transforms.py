"""Functions of the user run in the workers: what they get, and what becomes of what they return."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import (
    DROP,
    Bytes,
    ConfigError,
    FastLoader,
    Json,
    Number,
    Ragged,
    RowError,
    Spec,
    Text,
    TransformError,
    UsageError,
    per_batch,
    per_row,
)

from . import small_transforms as functions
from .conftest import Either
from .support import simple_rows, table
from .tiers import few

SIZE = (12, 16)
SOME: dict[str, Any] = {"size": SIZE, "batch_size": 16}
both = pytest.mark.parametrize("workers", [0, 2])


def batches(url: str, **options: Any) -> list[Any]:
    with FastLoader(url, **{**SOME, **options}) as loader:
        return list(loader)


def together(batches: list[Any]) -> tuple[Any, Any]:
    """Return the images and the labels of all batches."""
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)


# ---- what a function gets and returns ------------------------------------------------------------


@both
def test_a_row_is_changed_in_place(small: str, workers: int) -> None:
    def invert(row: dict[str, Any]) -> None:
        assert row["image_data"].shape == (*SIZE, 3)
        np.subtract(255, row["image_data"], out=row["image_data"])

    plain, inverted = (
        together(batches(small, workers=workers, transform=transform))
        for transform in (None, invert)
    )
    assert np.array_equal(inverted[0], 255 - plain[0])
    assert np.array_equal(inverted[1], plain[1])


def test_an_array_that_is_not_replaced_is_the_slot_itself(small: str) -> None:
    with FastLoader(small, **SOME, workers=1, transform=functions.jitter) as loader:
        for images, _ in loader:
            assert loader.delivery.aliases(images.ctypes.data)
    with FastLoader(small, **SOME, workers=1, transform=functions.nothing) as loader:
        assert loader.delivery.crew.schema.levels[0] == loader.delivery.crew.schema.levels[1]


@both
def test_a_function_returns_a_new_dict_the_old_one_or_nothing(small: str, workers: int) -> None:
    def new(row: dict[str, Any]) -> dict[str, Any]:
        return {"image_data": row["image_data"], "label": row["label"] + 1}

    def old(row: dict[str, Any]) -> dict[str, Any]:
        row["label"] = row["label"] + 1
        return row

    def nothing(row: dict[str, Any]) -> None:
        row["label"] = row["label"] + 1

    plain = together(batches(small, workers=workers))
    for function in (new, old, nothing):
        found = together(batches(small, workers=workers, transform=function))
        assert np.array_equal(found[0], plain[0])
        assert np.array_equal(found[1], plain[1] + 1)


@both
def test_other_types_and_shapes_are_found_on_some_rows(small: str, workers: int) -> None:
    def tensor(row: dict[str, Any]) -> None:
        row["image_data"] = row["image_data"].transpose(2, 0, 1) / np.float32(255)
        row["label"] = [row["label"], 7]

    with FastLoader(small, **SOME, workers=workers, transform=tensor) as loader:
        assert [(c.dtype, c.shape) for c in loader.columns] == [
            ("float32", (3, *SIZE)), ("int64", (2,)),
        ]  # fmt: skip
        images, labels = together(list(loader))
    plain = together(batches(small, workers=0))
    assert images.dtype == np.float32
    assert np.array_equal(images, plain[0].transpose(0, 3, 1, 2) / np.float32(255))
    assert labels.tolist() == [[label, 7] for label in plain[1].tolist()]


@both
def test_new_entries_go_with_the_inputs_or_where_they_are_declared(
    small: str, workers: int
) -> None:
    def add(row: dict[str, Any]) -> None:
        row["mean"] = row["image_data"].mean()
        row["name"] = f"row {row['label']}"
        row["target"] = row["label"] % 3

    step = per_row(add, outputs={"target": Spec("int8", part="y")})
    for x, y in batches(small, workers=workers, transform=step):
        assert x["mean"].dtype == np.float64
        assert x["name"].tolist() == [f"row {label}" for label in y["label"].tolist()]
        assert y["target"].dtype == np.int8
        assert np.array_equal(y["target"], y["label"] % 3)


@both
def test_entries_can_be_removed(small: str, workers: int) -> None:
    def remove(row: dict[str, Any]) -> None:
        row["mean"] = row.pop("image_data").mean()

    means, labels = together(batches(small, workers=workers, transform=remove))
    assert means.shape == labels.shape == (100,)

    step = per_row(functions.mean, outputs={"image_data": None, "mean": Spec("float16")})
    declared, _ = together(batches(small, workers=workers, transform=step))
    assert declared.dtype == np.float16
    assert np.allclose(declared, means, rtol=1e-3)


@both
def test_two_entries_can_change_places(small: str, workers: int) -> None:
    fields = {"a": Number("id"), "b": Number("label")}

    def swap(row: dict[str, Any]) -> None:
        row["a"], row["b"] = row["b"], row["a"]

    def swap_all(batch: dict[str, Any]) -> None:
        batch["a"], batch["b"] = batch["b"], batch["a"]

    options = {"workers": workers, "fields": fields, "size": ..., "batch_size": 16}
    del options["size"]
    for step in (swap, per_batch(swap_all)):
        with FastLoader(small, transform=step, **options) as loader:  # type: ignore[arg-type]
            for x in loader:
                assert np.array_equal(x["a"], (x["b"] // 3 - 1) * 10)


@both
def test_functions_of_rows_and_batches_run_in_their_order(small: str, workers: int) -> None:
    def add(row: dict[str, Any]) -> None:
        row["label"] = row["label"] + 1

    def double(batch: dict[str, Any]) -> None:
        batch["label"] = batch["label"].astype(np.float32) * 2

    def half(row: dict[str, Any]) -> None:
        assert row["label"].dtype == np.float32
        row["label"] = row["label"] + np.float32(0.5)

    plain = together(batches(small, workers=0))[1]
    steps = [add, add, per_batch(double), per_batch(double), half]
    found = together(batches(small, workers=workers, transform=steps))[1]
    assert found.dtype == np.float32
    assert np.array_equal(found, (plain + 2) * 4 + 0.5)


@both
def test_a_batch_keeps_its_rows(small: str, workers: int) -> None:
    steps = [per_batch(functions.one_hot), per_batch(functions.mixed)]
    with FastLoader(small, **SOME, workers=workers, transform=steps) as loader:
        for images, labels in loader:
            assert images.dtype == labels.dtype == np.float32
            assert labels.shape == (len(images), 10)
            assert np.allclose(labels.sum(1), 1)


@both
def test_text_json_bytes_and_rows_of_different_sizes(either: Either, workers: int) -> None:
    rows = [(i, f"text {i}", json.dumps({"n": i}), bytes(range(i % 5))) for i in range(40)]
    url = either.table(rows, columns="id INTEGER PRIMARY KEY, caption TEXT, meta TEXT, raw "
                       + ("BYTEA" if "postgres" in either.url else "BLOB"))  # fmt: skip

    def change(row: dict[str, Any]) -> None:
        number = row["meta"]["n"]
        row["meta"]["twice"] = 2 * number
        row["caption"] = row["caption"].upper()
        assert type(row["raw"]) is bytes
        row["sizes"] = np.arange(number % 4)
        row["raw"] = row["raw"] * 2

    def check(batch: dict[str, Any]) -> None:
        assert isinstance(batch["sizes"], Ragged)
        batch["sizes"] = [np.append(its, 7) for its in batch["sizes"]]
        batch["caption"] = [f"{text}!" for text in batch["caption"]]

    fields = {"caption": Text(), "meta": Json(), "raw": Bytes()}
    step = per_row(change, outputs={"sizes": Spec("int64", (None,))})
    found: list[tuple[Any, ...]] = []
    with FastLoader(
        url, fields=fields, batch_size=8, workers=workers, transform=[step, per_batch(check)]
    ) as loader:
        for x in loader:
            assert x["sizes"].dtype == np.int64
            found += zip(
                x["caption"], x["meta"], x["raw"].to_bytes(), x["sizes"].to_list(), strict=True
            )
    assert found == [
        (f"TEXT {i}!", {"n": i, "twice": 2 * i}, bytes(range(i % 5)) * 2, [*range(i % 4), 7])
        for i in range(40)
    ]


def test_many_items_that_have_no_room_in_a_slot_arrive(small: str) -> None:
    def grow(row: dict[str, Any]) -> None:
        row["many"] = np.arange(5000 if row["label"] == 570 else 1)

    step = per_row(grow, outputs={"many": Spec("int64", (None,))})
    sizes = [n for x, _ in batches(small, workers=2, transform=step) for n in x["many"].lengths]
    assert sizes == [5000 if i == 57 else 1 for i in range(100)]


def test_keys_are_there_to_read_if_they_are_delivered(small: str) -> None:
    def look(row: dict[str, Any]) -> None:
        assert row["id"] == 3 * (row["label"] // 10 + 1)
        row["label"] = row["id"]
        row["id"] = 5  # has no effect

    def look_at_all(batch: dict[str, Any]) -> None:
        assert np.array_equal(batch["id"], batch["label"])

    steps = [look, per_batch(look_at_all)]
    for x, labels in batches(small, workers=2, with_keys=True, transform=steps):
        assert np.array_equal(x["id"], labels)


# ---- dropped and bad rows ------------------------------------------------------------------------


@both
@few(2)
@pytest.mark.parametrize("on_error", ["raise", "skip", "fill"])
def test_dropped_rows_are_counted_and_the_others_come_once(
    either: Either, workers: int, on_error: str
) -> None:
    url = either.table(simple_rows(100))
    step = per_row(functions.drop_thirds, drops=True)
    with FastLoader(
        url, **SOME, workers=workers, transform=step, on_error=on_error, shuffle=True
    ) as loader:  # type: ignore[arg-type]
        for _epoch in range(2):
            labels = sorted(label for _, its in loader for label in its.tolist())
            assert labels == [10 * i for i in range(100) if i % 3]
        assert loader.stats().dropped_rows == 68
        assert loader.stats().rows == 132
        assert loader.bad_rows == []


def test_a_batch_of_nothing_but_dropped_rows_is_left_out(small: str) -> None:
    def few_rows(row: dict[str, Any]) -> Any:
        return None if row["label"] >= 500 else DROP

    step = per_row(few_rows, drops=True)
    assert [len(y) for _, y in batches(small, workers=2, transform=step)] == [14, 16, 16, 4]
    shards = [batches(small, workers=2, transform=step, shard=(i, 2)) for i in range(2)]
    sizes = [[len(y) for _, y in shard] for shard in shards]
    assert sum(map(sum, sizes)) == 50
    assert [len(shard) for shard in sizes] == [4, 4]  # so that all shards take as many steps
    assert 0 in sizes[0]


@both
def test_a_row_on_which_a_function_fails_is_a_bad_row(small: str, workers: int) -> None:
    with FastLoader(small, **SOME, workers=workers, transform=functions.fails) as loader:
        with pytest.raises(TransformError, match="no such label") as caught:
            list(loader)
        assert caught.value.key == 18
        assert "fails raised ValueError: no such label" in caught.value.reason
        assert "small_transforms.py" in caught.value.reason  # the traceback
        assert "group.py" not in caught.value.reason  # without our own frames
    for on_error, rows in (("skip", 99), ("fill", 100)):
        with FastLoader(
            small, **SOME, workers=workers, transform=functions.fails, on_error=on_error
        ) as loader:  # type: ignore[arg-type]
            images, labels = together(list(loader))
            assert len(labels) == rows
            assert [key for key, _ in loader.bad_rows] == [18]
        if on_error == "fill":
            assert not images[5].any()
            assert labels[5] == 0


def test_if_all_rows_are_bad_what_is_declared_counts(tmp_path: Path) -> None:
    url = table(tmp_path / "t.db", [(key, b"", key) for key in range(20)])

    def add(row: dict[str, Any]) -> None:
        row["mean"] = row["image_data"].mean()

    step = per_row(add, outputs={"mean": Spec("float32")})
    found = batches(url, workers=1, transform=step, on_error="fill")
    assert [x["mean"].dtype for x, _ in found] == [np.float32, np.float32]
    with pytest.raises(RowError, match="empty image"):
        batches(url, workers=1, transform=step)


@both
def test_bad_rows_reach_no_function(tmp_path_factory: Any, workers: int) -> None:
    rows = simple_rows(60)
    rows[20] = (21, b"", 200)
    url = table(tmp_path_factory.mktemp("bad") / "t.db", rows)

    def seen(row: dict[str, Any]) -> None:
        assert row["label"] != 200

    def count(batch: dict[str, Any]) -> None:
        assert 200 not in batch["label"]

    steps = [seen, per_batch(count)]
    _, labels = together(batches(url, workers=workers, transform=steps, on_error="skip"))
    assert labels.tolist() == [10 * i for i in range(60) if i != 20]


# ---- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "must be a function"),
        ({"a": 1}, "must be a function"),
        ([functions.mean, 5], "must be a function"),
        ("no such name", "must be a function"),
        ("tests.small_transforms:nowhere", "cannot import 'tests.small_transforms:nowhere'"),
        ("no_such_module:f", "cannot import 'no_such_module:f'"),
        (lambda: None, "must take one argument, the row, or two"),
        (lambda a, b, c: a + b + c, "must take one argument, the row, or two"),
        (lambda **row: row, "must take one argument, the row, or two"),
    ],
)
def test_what_is_no_transform_is_refused(small: str, given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FastLoader(small, transform=given)


def test_specs_and_outputs_are_checked() -> None:
    for wrong in (
        lambda: Spec("complex64"),
        lambda: Spec("float32", (-1,)),
        lambda: Spec("float32", (3, None)),
        lambda: Spec("text", (3,)),
        lambda: Spec("float32", part="z"),  # type: ignore[arg-type]
        lambda: per_row(functions.mean, outputs={"mean": "float32"}),  # type: ignore[dict-item]
        lambda: per_batch(5),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError):
            wrong()
    assert Spec(np.float32, 3) == Spec("float32", (3,))  # type: ignore[arg-type]
    assert repr(per_row(functions.mean)) == "per_row(mean)"


def test_usual_names_of_the_option_are_understood(small: str) -> None:
    with pytest.raises(UsageError, match="did you mean transform="):
        FastLoader(small, augment=functions.mean)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="per_batch"):
        FastLoader(small, collate_fn=functions.mean)  # type: ignore[call-arg]


def test_names_must_differ_across_the_whole_batch(small: str) -> None:
    fields = {"n": Number("id")}
    with pytest.raises(ConfigError, match="rename a field, because a transform gets all"):
        FastLoader(small, fields=fields, label={"n": Number("label")}, transform=functions.nothing)


def test_shapes_that_differ_must_be_declared(small: str) -> None:
    def differ(row: dict[str, Any]) -> None:
        row["many"] = np.zeros((row["label"] // 10, 2), np.int16)

    with pytest.raises(ConfigError, match=r"Spec\('int16', \(None, 2\)\)"):
        FastLoader(small, transform=differ)


def test_the_environment_names_a_function(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTLOADER_TRANSFORM", "tests.small_transforms:mean")
    assert {*batches(small, workers=2)[0][0]} == {"image_data", "mean"}
    monkeypatch.setenv("FASTLOADER_TRANSFORM", "tests.small_transforms:steps")
    with FastLoader(small, workers=0) as loader:
        assert list(map(repr, loader.config.transform)) == ["per_row(jitter)", "per_row(mean)"]

"""Mixtures of real loaders: each is a loader like any other."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import (
    DROP,
    Array,
    Category,
    ClassBatch,
    ClosedError,
    ConfigError,
    CopyError,
    FastLoader,
    Mixture,
    Number,
    PlanError,
    RowError,
    StateError,
    SupersededError,
    Text,
    mix,
    per_row,
)

from .conftest import Either
from .support import simple_rows, table, worker_processes
from .tiers import few, full

OPTIONS: dict[str, Any] = {
    "size": (8, 8), "batch_size": 8, "with_keys": True, "slots": 3, "shuffle": True,
    "fit": "random_crop", "flip": True,
}  # fmt: skip

Row = tuple[int, int, bytes]
"""Label, key and pixels. Labels of the second table are odd."""


@pytest.fixture
def tables(either: Either, tmp_path: Path) -> tuple[str, str]:
    """Make a table of 100 rows, and a SQLite file with 30."""
    odd = [(key, image, label + 1) for key, image, label in simple_rows(30)]
    return either.table(simple_rows(100, gap=3)), table(tmp_path / "few.db", odd)


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """As ``tables``, with both in SQLite."""
    odd = [(key, image, label + 1) for key, image, label in simple_rows(30)]
    many = table(tmp_path / "many.db", simple_rows(100, gap=3))
    return many, table(tmp_path / "few.db", odd)


def mixture(tables: tuple[str, str], *, within: Any = "batch", **options: Any) -> Mixture:
    rows = options.pop("epoch_rows", 128)
    one, other = (FastLoader(url, **{**OPTIONS, **options}) for url in tables)
    return mix({one: 0.7, other: 0.3}, epoch_rows=rows, within=within)


def rows_of(batch: Any) -> list[Row]:
    x, labels = batch
    images = (image.tobytes() for image in x["image_data"])
    return list(zip(labels.tolist(), x["id"].tolist(), images, strict=True))


def epochs_of(loader: Any, count: int) -> list[list[list[Row]]]:
    return [[rows_of(batch) for batch in loader] for _ in range(count)]


def labels_of(batches: list[list[Row]]) -> list[list[int]]:
    return [[label for label, _, _ in batch] for batch in batches]


# ---- which rows come -----------------------------------------------------------------------------


@few(2)
@pytest.mark.parametrize("within", ["batch", "batches"])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_rows_are_those_of_the_loaders_in_their_orders_and_proportions(
    tables: tuple[str, str], within: str, workers: int
) -> None:
    with mixture(tables, within=within, workers=0) as loader:
        alone = epochs_of(loader, 3)
        assert len(loader) == 16
    with mixture(tables, within=within, workers=workers) as loader:
        assert epochs_of(loader, 3) == alone
        assert {len(batch) for epoch in alone for batch in epoch} == {8}
        assert loader.stats().rows == 3 * 128
        assert sum(each.stats().rows for each in loader.loaders) == 3 * 128
    # Each loader goes on in the next epoch where the last one ends.
    for url, odd, each in zip(tables, (0, 1), loader.shares, strict=True):
        rows = each if within == "batch" else 8 * each
        with FastLoader(url, **OPTIONS, workers=0, epoch_rows=rows) as own:
            expected = [label for _, labels in itertools.chain(own, own, own) for label in labels]
        found = [label for its in alone for batch in labels_of(its) for label in batch]
        assert [label for label in found if label % 2 == odd] == expected
        if odd:
            assert loader.loaders[1].stats().rows == len(expected)
    odd = [sum(label % 2 for label in batch) for its in alone for batch in labels_of(its)]
    assert set(odd) == ({2, 3} if within == "batch" else {0, 8})


@pytest.mark.parametrize("within", ["batch", "batches"])
def test_all_shards_together_deliver_the_same_and_take_the_same_loader(
    two: tuple[str, str], within: str
) -> None:
    shards = []
    for index in range(3):
        with mixture(two, within=within, workers=index, shard=(index, 3), epoch_rows=240) as loader:
            assert len(loader) == 10
            shards.append(epochs_of(loader, 1)[0])
    if within == "batches":
        for step in zip(*shards, strict=True):
            assert len({label % 2 for batch in step for label, _, _ in batch}) == 1
    found = [row for step in zip(*shards, strict=True) for batch in step for row in batch]
    for url, odd, count in zip(two, (0, 1), (168, 72), strict=True):
        its = [row for row in found if row[0] % 2 == odd]
        assert len(its) == count
        with FastLoader(url, **{**OPTIONS, "batch_size": count}, epoch_rows=count) as own:
            assert [its] == epochs_of(own, 1)[0]


def test_the_default_is_an_epoch_of_all_loaders_and_weights_need_no_sum(
    two: tuple[str, str],
) -> None:
    one, other = (FastLoader(url, **OPTIONS, workers=0) for url in two)
    with mix({one: 10, other: 3}) as loader:
        assert loader.shares == (100, 30)
        assert len(loader) == 16  # of 8 rows; 2 are left out
        assert repr(loader) == (
            "<Mixture of 2 loaders: 130 rows in 16 batches, 0 workers, not begun>"
        )
    assert one.closed
    assert other.closed


def test_a_loader_keeps_its_sampling(two: tuple[str, str], tmp_path: Path) -> None:
    rows = [(key, image, 2 * (n % 10 == 0)) for n, (key, image, _) in enumerate(simple_rows(100))]
    one = FastLoader(
        table(tmp_path / "classes.db", rows), **OPTIONS, workers=0, sampling="balanced"
    )
    other = FastLoader(two[1], **OPTIONS, workers=0)
    with mix({one: 1, other: 1}, epoch_rows=80) as loader:
        labels = [label for batch in loader for label, _, _ in rows_of(batch)]
        assert (labels.count(0), labels.count(2)) == (20, 20)


def test_batches_of_classes_can_be_mixed_as_a_whole(two: tuple[str, str]) -> None:
    options = {**OPTIONS, "workers": 0}
    del options["batch_size"]
    one = FastLoader(two[0], **options, sampling=ClassBatch(4, 2, column="id"))
    other = FastLoader(two[1], **options, batch_size=8)
    with pytest.raises(ConfigError, match='ClassBatch cannot be divided.*within="batches"'):
        mix({one: 1, other: 1})
    with mix({one: 1, other: 1}, within="batches", epoch_rows=64) as loader:
        sizes = [len(np.unique(labels)) for _, labels in loader]
    assert len(sizes) == 8


# ---- a loader like any other ---------------------------------------------------------------------


def test_whole_batches_are_handed_over_as_they_lie_in_a_ring(two: tuple[str, str]) -> None:
    with mixture(two, within="batches", workers=1) as loader:
        kept = []
        for x, _ in loader:
            kept.append(x)
            assert loader.delivery.aliases(x["image_data"].ctypes.data)
            del kept[:-1]
        stats = loader.stats()
        assert (stats.leases, stats.copies) == (16, 0)
    with mixture(two, within="batch", workers=1) as loader:
        for x, _ in loader:
            assert x["image_data"].ctypes.data % 64 == 0
            assert not loader.delivery.aliases(x["image_data"].ctypes.data)


@few(2)
@pytest.mark.parametrize("within", ["batch", "batches"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_resumes_anywhere(two: tuple[str, str], within: str, workers: int) -> None:
    with mixture(two, within=within, workers=workers) as loader:
        whole = [batch for epoch in epochs_of(loader, 2) for batch in epoch]
        for begun in (0, 7, 16, 21):
            with mixture(two, within=within, workers=workers) as begins:
                taken = iter(itertools.chain.from_iterable([begins, begins]))
                found = [rows_of(next(taken)) for _ in range(begun)]
                state = json.loads(json.dumps(begins.state_dict()))
                assert state == begins.state_dict(consumed=begun)
            loader.load_state_dict(state)
            assert rows_of(loader.peek()) == whole[begun]
            found += [rows_of(batch) for batch in loader]
            found += [rows_of(batch) for batch in loader]
            assert found[:32] == whole
        assert epochs_of(loader.epoch(1), 1)[0] == whole[16:]


def test_an_elastic_state_resumes_the_rows_of_all_loaders(two: tuple[str, str]) -> None:
    with mixture(two, workers=0, batch_size=128) as loader:
        whole = sorted(row for batch in loader for row in rows_of(batch))
        following = sorted(row for batch in loader for row in rows_of(batch))
    begun, states = [], []
    for index in range(2):
        with mixture(two, workers=1, shard=(index, 2)) as loader:
            batches = iter(loader)
            begun += [row for _ in range(3) for row in rows_of(next(batches))]
            states.append(loader.state_dict())
    assert states[0]["rows"] == 48
    with mixture(two, workers=2, batch_size=5) as loader:
        with pytest.raises(StateError, match="pass elastic=True"):
            loader.load_state_dict(states[0])
        loader.load_state_dict(states[1], elastic=True)
        assert sorted(begun + [row for batch in loader for row in rows_of(batch)]) == whole
        found = sorted(row for batch in loader for row in rows_of(batch))
        assert len(found) == 125
        assert set(found) <= set(following)
    with (
        mixture(two, workers=0, within="batches") as loader,
        pytest.raises(ConfigError, match='within="batch" can'),
    ):
        loader.load_state_dict(states[0], elastic=True)


def test_a_state_of_other_loaders_is_refused_with_the_number_of_the_loader(
    two: tuple[str, str],
) -> None:
    with mixture(two, workers=0) as loader:
        state = loader.state_dict()
    with (
        mixture((two[0], two[0]), workers=0) as loader,
        pytest.raises(StateError, match="loader 2 of the mixture: .*few.db.*many.db"),
    ):
        loader.load_state_dict(state)
    with (
        mixture(two, workers=0, epoch_rows=136) as loader,
        pytest.raises(StateError, match="shares="),
    ):
        loader.load_state_dict(state)
    with (
        FastLoader(two[0], **OPTIONS, workers=0) as alone,
        pytest.raises(StateError, match="is that of a mixture of 2 loaders, and this is"),
    ):
        alone.load_state_dict(state)


@few(2)
@pytest.mark.parametrize("within", ["batch", "batches"])
def test_dead_workers_of_each_loader_are_replaced(two: tuple[str, str], within: str) -> None:
    with mixture(two, within=within, workers=0) as loader:
        alone = epochs_of(loader, 2)
    # A death may be noticed in the next epoch, so one of them may have more than three.
    with mixture(two, within=within, workers=2, max_restarts=10) as loader:
        found = []
        for _ in range(2):
            found.append([])
            for number, batch in enumerate(loader):
                found[-1].append(rows_of(batch))
                if number in (2, 5, 9):
                    running = worker_processes()
                    running[number % len(running)].kill()
        assert found == alone
        assert loader.stats().restarts >= 1
        assert loader.stats().restarts == sum(its.stats().restarts for its in loader.loaders)


@few(2)
@pytest.mark.parametrize("framework", ["dataset", "torch", "jax"])
@pytest.mark.parametrize("within", ["batch", "batches"])
def test_frameworks_get_the_same_batches(two: tuple[str, str], framework: str, within: str) -> None:
    pytest.importorskip({"dataset": "tensorflow"}.get(framework, framework))
    with mixture(two, within=within, workers=1) as loader:
        expected = [labels for epoch in epochs_of(loader, 2) for labels in labels_of(epoch)]
    with mixture(two, within=within, workers=1) as loader:
        batches: Any = getattr(loader, f"as_{framework}")()
        assert len(batches) == 16
        found = [np.asarray(labels).tolist() for _ in range(2) for _, labels in batches]
        assert found == expected
        if framework == "dataset":
            assert batches.element_spec[0]["image_data"].shape == (8, 8, 8, 3)
            state = loader.state_dict(consumed=5)
            loader.load_state_dict(state)
            assert next(iter(batches))[1].numpy().tolist() == expected[5]


@full
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Keras's own
def test_keras_trains_and_resumes_with_a_mixture(two: tuple[str, str], tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    from fastloader.adapters.keras import Resume

    seen: list[Any] = []

    def fitted(epochs: int, *, stop: int | None = None) -> None:
        model = keras.Sequential(
            [keras.layers.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]
        )
        model.compile("sgd", "mse", run_eagerly=True)
        step = model.train_step

        def seeing(batch: Any) -> Any:
            seen.append(batch[1].numpy().tolist())
            if len(seen) == stop:
                raise KeyboardInterrupt
            return step(batch)

        model.train_step = seeing
        with mixture(two, workers=1, with_keys=False) as loader:
            resume = Resume(loader, tmp_path / "saved", save_freq=4, delete_checkpoint=False)
            model.fit(
                loader.as_dataset(), epochs=epochs, verbose=0, callbacks=[resume], shuffle=False
            )

    with pytest.raises(KeyboardInterrupt):
        fitted(2, stop=22)
    del seen[20:]  # four steps are saved at a time
    fitted(2)
    with mixture(two, workers=0) as loader:
        assert seen == [labels for epoch in epochs_of(loader, 2) for labels in labels_of(epoch)]


def test_texts_ragged_arrays_and_numbers_are_put_together(tmp_path: Path) -> None:
    urls = []
    for which, rows in (("one", 20), ("other", 9)):
        made = [
            (n, f"{which} {n} é" * (n % 3), np.array([n] * (n % 4), "<i4").tobytes(),
             float(n) if n % 5 else None)
            for n in range(rows)
        ]  # fmt: skip
        columns = "id INTEGER PRIMARY KEY, caption TEXT, tokens BLOB, age REAL"
        urls.append(table(tmp_path / f"{which}.db", made, columns=columns))
    fields = {
        "caption": Text(), "tokens": Array(dtype="int32", ragged=True),
        "age": Number(null="mask"),
    }  # fmt: skip
    made_of = [
        FastLoader(url, fields=fields, batch_size=6, workers=w) for w, url in enumerate(urls)
    ]
    with mix(dict(zip(made_of, (2, 1), strict=True)), epoch_rows=60) as loader:
        assert len(loader) == 10
        for number, x in enumerate(loader):
            texts, tokens = x["caption"].tolist(), x["tokens"].to_list()
            first = [(4 * number + i) % 20 for i in range(4)]
            second = [(2 * number + i) % 9 for i in range(2)]
            assert texts == [
                *(f"one {n} é" * (n % 3) for n in first),
                *(f"other {n} é" * (n % 3) for n in second),
            ]
            assert tokens == [[n] * (n % 4) for n in first + second]
            assert x["age_valid"].tolist() == [n % 5 > 0 for n in first + second]


# ---- bad rows ------------------------------------------------------------------------------------


@pytest.fixture
def damaged(two: tuple[str, str], tmp_path: Path) -> tuple[str, str]:
    """Of the second table, half the images are empty, and a whole batch in a row."""
    rows = [(k, image if k > 16 else b"", label + 1) for k, image, label in simple_rows(30)]
    return two[0], table(tmp_path / "damaged.db", rows)


@few(2)
@pytest.mark.parametrize("within", ["batch", "batches"])
@pytest.mark.parametrize("shards", [1, 2])
def test_bad_rows_are_those_of_their_loader_and_steps_stay_equal(
    damaged: tuple[str, str], within: str, shards: int, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"within": within, "workers": 1, "on_error": "skip", "shuffle": False}
    batches = 0
    for index in range(shards):
        with mixture(damaged, **options, shard=(index, shards), epoch_rows=128) as loader:
            sizes = [len(rows_of(batch)) for batch in loader]
            bad = loader.bad_rows
            assert bad == loader.loaders[1].bad_rows
            assert loader.loaders[0].bad_rows == []
            stats = loader.stats()
            assert stats.bad_rows == loader.loaders[1].stats().bad_rows > 0
            assert stats.rows == sum(sizes) == 8 * len(loader) - stats.bad_rows
            batches += len(sizes)
            if shards == 2:
                assert len(sizes) == 8
    if within == "batches" and shards == 1:
        assert batches == 13  # of the second loader, the first two have no row left, and the fifth
    assert caplog.text.count("empty image") == caplog.text.count("bad row") > 0


def test_a_bad_row_is_an_error_that_names_it(damaged: tuple[str, str]) -> None:
    with mixture(damaged, workers=1) as loader:
        with pytest.raises(RowError, match="empty image"):
            list(loader)
        with pytest.raises(RowError, match="empty image"):
            list(loader)


def test_a_function_may_drop_rows_of_one_loader(two: tuple[str, str]) -> None:
    def drops(row: Any) -> Any:
        return DROP if row["label"] % 20 == 0 else None

    one = FastLoader(two[0], **OPTIONS, workers=1, transform=per_row(drops, drops=True))
    other = FastLoader(two[1], **OPTIONS, workers=1)
    with mix({other: 1, one: 1}, epoch_rows=64) as loader:
        assert loader.config.may_lack_rows
        found = [row for batch in loader for row in rows_of(batch)]
        assert len(found) + loader.stats().dropped_rows == 64
        assert loader.stats().dropped_rows > 5
        tf = pytest.importorskip("tensorflow")
        assert loader.as_dataset().element_spec[1].shape == tf.TensorShape([None])


# ---- lifetimes -----------------------------------------------------------------------------------


def test_the_loaders_belong_to_the_mixture(two: tuple[str, str]) -> None:
    with mixture(two, workers=1) as loader:
        one = loader.loaders[0]
        resume = partial(one.load_state_dict, {})
        for use in (
            one.__iter__, one, one.peek, one.as_jax().__iter__, one.epoch(0).__iter__,
            one.state_dict, resume,
        ):  # fmt: skip
            with pytest.raises(ConfigError, match="part of a mixture"):
                use()
        with pytest.raises(ConfigError, match="part of a mixture"):
            mix({one: 1})
        older = iter(loader)
        next(older)
        assert rows_of(next(iter(loader)))
        with pytest.raises(SupersededError):
            next(older)
        with pytest.raises(CopyError, match="a Mixture cannot be copied"):
            loader.__reduce__()
    with pytest.raises(ClosedError):
        next(iter(loader))


def test_a_loader_may_have_been_used_before(two: tuple[str, str]) -> None:
    with mixture(two, workers=1) as loader:
        expected = epochs_of(loader, 1)
    one, other = (FastLoader(url, **OPTIONS, workers=1) for url in two)
    list(one)
    assert rows_of(next(iter(one)))
    other.peek()
    with mix({one: 0.7, other: 0.3}, epoch_rows=128) as loader:
        assert epochs_of(loader, 1) == expected


def test_an_unclosed_mixture_warns_once_and_leaves_no_worker(two: tuple[str, str]) -> None:
    script = f"""
import fastloader, os, time
one, other = (fastloader.FastLoader(url, workers=1, size=(8, 8)) for url in {two!r})
pids = [its.delivery.feeders[0].process.pid for its in (one, other)]
loader = fastloader.mix({{one: 1, other: 1}})
next(iter(loader))
del one, other, loader
deadline = time.monotonic() + 60
for pid in pids:
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        assert time.monotonic() < deadline
        time.sleep(0.01)
"""
    command = [sys.executable, "-W", "default", "-c", script]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=90)
    assert run.stderr.count("unclosed <Mixture of 2 loaders") == 1
    assert "unclosed <FastLoader" not in run.stderr
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 4}, "batch_size=8, and loader 2 has batch_size=4: give them the same"),
        ({"shard": (1, 2)}, "has shard="),
        ({"on_error": "skip"}, "has on_error="),
        ({"deterministic": False}, "has deterministic="),
        ({"size": (8, 9)}, r"delivers .*uint8 \(n, 8, 8, 3\).* and loader 2 .*\(n, 8, 9, 3\)"),
        ({"label": "label:int32"}, "int64.*int32.*the same entries"),
        ({"with_keys": False}, "give them the same entries"),
        ({"label": Category("label")}, r"int64 \(n\) of classes \[1, 11"),
    ],
)
def test_loaders_that_differ_are_refused(
    two: tuple[str, str], options: dict[str, Any], message: str
) -> None:
    with (
        FastLoader(two[0], **OPTIONS, workers=0) as one,
        FastLoader(two[1], **{**OPTIONS, **options}, workers=0) as other,
    ):
        with pytest.raises(ConfigError, match=message):
            mix({one: 1, other: 1})
        assert len(rows_of(next(iter(one)))) == 8  # it is still the user's


def test_what_is_no_mixture_is_refused_with_words(two: tuple[str, str]) -> None:
    with (
        FastLoader(two[0], **OPTIONS, workers=0) as one,
        FastLoader(two[1], **OPTIONS, workers=0) as other,
        FastLoader(two[1], **OPTIONS, workers=0, deterministic=False) as hasty,
    ):
        for loaders, message in (
            ([one, other], "takes a dict from loaders to weights"),
            ({}, "takes a dict from loaders to weights"),
            ({one: 0}, "weight 0 of <FastLoader"),
            ({one: True}, "weight True"),
            ({one: "1"}, "weight '1'"),
            ({one: float("nan")}, "weight nan"),
            ({one: float("inf")}, "weight inf"),
            ({"a": 1}, "takes FastLoaders, and not 'a'"),
            ({hasty: 1}, "deterministic=True"),
            ({one: 1, other: 1e-9}, "an epoch of 130 rows has none of loader 2, whose weight is"),
        ):
            with pytest.raises(ConfigError, match=message):
                mix(loaders)  # type: ignore[arg-type]
        for options, message in (
            ({"within": "rows"}, "within='rows'"),
            ({"epoch_rows": 0}, "epoch_rows=0"),
            ({"epoch_rows": 1.5}, "epoch_rows=1.5"),
            ({"epoch_rows": 8, "within": "batches"}, "an epoch of 1 batches has none of loader 2"),
        ):
            with pytest.raises(ConfigError, match=message):
                mix({one: 1, other: 1}, **options)  # type: ignore[arg-type]
        with pytest.raises(PlanError, match="the mixture: 7 rows do not fill a batch of 8"):
            mix({one: 1, other: 1}, epoch_rows=7)
        with mix({one: 1, other: 1}, epoch_rows=8) as loader:
            with pytest.raises(ConfigError, match="mix all loaders at once"):
                mix({loader: 1})  # type: ignore[dict-item]
            assert len(loader) == 1

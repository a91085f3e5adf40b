"""Tables that grow between epochs: new rows come, old epochs stay what they were."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import (
    Category,
    ConfigError,
    FastLoader,
    PlanError,
    SourceError,
    StateError,
    SupersededError,
    Weighted,
    mix,
)

from .conftest import Either
from .servers.postgres import Database
from .support import jpeg, rows_of, simple_rows, table, wait_until, worker_processes
from .tiers import few, full

OPTIONS: dict[str, Any] = {
    "size": (8, 8), "batch_size": 8, "with_keys": True, "slots": 3, "shuffle": True, "seed": 3,
    "flip": True, "fit": "random_crop",
}  # fmt: skip

Row = tuple[int, bytes]


def epoch_of(loader: Any) -> list[Row]:
    return [row for batch in loader for row in rows_of(batch)]


@pytest.fixture
def add(either: Either) -> Callable[[int, int], None]:
    """Return what adds rows with keys from one to another to the table that this makes."""
    either.table(simple_rows(20))
    return lambda first, end: add_to(either.url, simple_rows(end)[first:])


def add_to(url: str, rows: list[tuple[Any, ...]]) -> None:
    marks = ", ".join(["%s" if url.startswith("postgresql") else "?"] * len(rows[0]))
    insert = f"INSERT INTO images VALUES ({marks})"
    if url.startswith("postgresql"):
        import psycopg2

        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.executemany(insert, rows)
    else:
        connection = sqlite3.connect(url)
        with connection:
            connection.executemany(insert, rows)
    connection.close()


@pytest.fixture
def growing(tmp_path: Path) -> str:
    return table(tmp_path / "growing.db", simple_rows(20))


# ---- refresh and follow --------------------------------------------------------------------------


@few(2)
@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_epoch_has_the_rows_that_were_added(
    either: Either, add: Callable[[int, int], None], workers: int
) -> None:
    with FastLoader(either.url, **OPTIONS, workers=workers) as loader:
        first = epoch_of(loader)
        add(20, 33)
        second = epoch_of(loader)
        assert loader.stats().rows_added == 0
        assert loader.refresh() == 33
        assert loader.stats().rows_added == 13
        assert len(loader) == 5
        third = epoch_of(loader)
        fourth = epoch_of(loader)
        assert loader.stats().leases + loader.stats().copies == 3 + 3 + 5 + 5
    keys = [sorted(key for key, _ in epoch) for epoch in (first, second, third, fourth)]
    assert keys == [[*range(1, 21)]] * 2 + [[*range(1, 34)]] * 2
    with FastLoader(either.url, **OPTIONS, workers=workers) as loader:  # each is the epoch of then
        assert [epoch_of(loader.epoch(number)) for number in (2, 3)] == [third, fourth]


@few(2)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_follows_its_table_epoch_by_epoch(
    either: Either, add: Callable[[int, int], None], workers: int
) -> None:
    with FastLoader(either.url, **OPTIONS, workers=workers, follow="epoch") as loader:
        sizes = []
        for end in (20, 21, 37, 37, 50):
            if sizes and end > sizes[-1]:
                add(sizes[-1], end)
            expected = rows_of(loader.peek())
            found = epoch_of(loader)
            assert found[:8] == expected
            sizes.append(len(found))
        assert sizes == [20, 21, 37, 37, 50]
        assert loader.stats().rows_added == 30
        assert loader.stats().epochs == 5
        assert len(worker_processes()) == workers


def test_an_iteration_under_way_ends_and_its_batches_stay(growing: str) -> None:
    with FastLoader(growing, **OPTIONS, workers=1) as loader:
        batches = iter(loader)
        (x, _), before = (batch := next(batches)), rows_of(batch)
        add_to(growing, simple_rows(30)[20:])
        loader.refresh()
        with pytest.raises(SupersededError, match=r"refresh\(\) has read the table again"):
            next(batches)
        assert rows_of((x, None)) == before
        assert len(epoch_of(loader)) == 30
        assert loader.state_dict()["epoch"] == 2


def test_a_thread_that_waits_for_a_batch_is_told(small: str) -> None:
    with FastLoader(small, **{**OPTIONS, "slots": 2}, workers=1) as loader:
        batches = iter(loader)
        next(batches)
        worker_processes()[0].suspend()
        found: list[str] = []

        def waits() -> None:
            try:
                for _ in batches:
                    pass
            except SupersededError as error:
                found.append(str(error))

        waiting = threading.Thread(target=waits)
        waiting.start()
        time.sleep(0.2)
        loader.refresh()
        waiting.join(60)
        assert len(found) == 1
        assert "refresh() has read the table again" in found[0]
        assert len(epoch_of(loader)) == 100


def test_the_first_rows_are_enough_so_that_hosts_agree(growing: str) -> None:
    with (
        FastLoader(growing, **OPTIONS, workers=1, shard=(0, 2)) as one,
        FastLoader(growing, **OPTIONS, workers=0, shard=(1, 2)) as other,
    ):
        epoch_of(one), epoch_of(other)
        add_to(growing, simple_rows(31)[20:])
        rows = one.refresh()
        add_to(growing, simple_rows(40)[31:])  # meanwhile
        assert other.refresh(rows=rows) == 31
        assert one.state_dict()["plan"]["keys"] == other.state_dict()["plan"]["keys"]
        both = [epoch_of(one), epoch_of(other)]
        assert sorted(key for rows in both for key, _ in rows) == [*range(1, 32)]
        with pytest.raises(PlanError, match="40 rows, and refresh.rows=41. asks for more"):
            other.refresh(rows=41)
        for wrong in (0, -1, True, "3"):
            with pytest.raises(ConfigError, match="must be a number of rows"):
                other.refresh(rows=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failed_look_leaves_the_loader_as_it_was(
    growing: str, tmp_path: Path, workers: int
) -> None:
    with FastLoader(growing, **OPTIONS, workers=workers, follow="epoch") as loader:
        first = epoch_of(loader)
        Path(growing).rename(tmp_path / "away.db")
        with pytest.raises(SourceError, match="growing.db"):
            loader.refresh()
        with pytest.raises(SourceError, match="growing.db"):
            iter(loader)
        (tmp_path / "away.db").rename(growing)
        with sqlite3.connect(growing) as connection:
            connection.execute("DELETE FROM images WHERE id > 3")
        connection.close()
        assert len(first) == 20
        assert len(epoch_of(loader)) == 3
        assert loader.stats().rows_added == -17
        with sqlite3.connect(growing) as connection:
            connection.execute("DELETE FROM images")
        connection.close()
        with pytest.raises(PlanError, match="no rows"):
            loader.refresh()


def test_columns_that_would_deliver_something_else_are_an_error(tmp_path: Path) -> None:
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label TEXT"
    rows = [(n, jpeg(16, 12), "ab"[n % 2]) for n in range(6)]
    path = table(tmp_path / "classes.db", rows, columns=columns)
    with FastLoader(path, **OPTIONS, label=Category("label"), workers=1) as loader:
        add_to(path, [(6, jpeg(16, 12), "b")])
        assert loader.refresh() == 7
        add_to(path, [(7, jpeg(16, 12), "c")])
        with pytest.raises(ConfigError, match=r"would hold .*\['a', 'b', 'c'\].* ask for types"):
            loader.refresh()
        assert len(epoch_of(loader)) == 7
    named = Category("label", classes=["a", "b"])
    with FastLoader(path, **OPTIONS, label=named, workers=1, on_error="skip") as loader:
        add_to(path, [(8, jpeg(16, 12), "a")])
        loader.refresh()
        assert len(epoch_of(loader)) == 8
        assert [key for key, _ in loader.bad_rows] == [7]


def test_a_snapshot_ends_with_the_epoch(database: Database) -> None:
    """So that vacuum can remove what was deleted since."""
    url = database.table(simple_rows(20))
    oldest = (
        "SELECT min(backend_xmin::text::bigint) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with FastLoader(url, **OPTIONS, workers=1, follow="epoch") as loader:
        epoch_of(loader)
        ((before,),) = database.execute(oldest)
        add_to(url, simple_rows(25)[20:])
        epoch_of(loader)
        wait_until(lambda: database.execute(oldest)[0][0] > before)


# ---- states --------------------------------------------------------------------------------------


@few(3)
@pytest.mark.parametrize("options", [
    {}, {"sampling": "balanced"}, {"sampling": Weighted("label", replacement=False)},
    {"sampling": Weighted("label")}, {"shuffle": False}, {"epoch_rows": 50}, {"follow": "epoch"},
])  # fmt: skip
@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_resumes_with_the_rows_as_of_then(
    growing: str, options: dict[str, Any], workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    options = {**OPTIONS, "workers": workers, **options}
    with sqlite3.connect(growing) as connection:
        connection.execute("UPDATE images SET label = label / 50")
    connection.close()
    with FastLoader(growing, **options) as loader:
        first = epoch_of(loader)
        batches = iter(loader)
        begun = rows_of(next(batches))
        state = json.loads(json.dumps(loader.state_dict()))
        rest = [row for batch in batches for row in rows_of(batch)]
    add_to(growing, [(key, image, 2) for key, image, _ in simple_rows(47)[20:]])
    for also in ({}, {"batch_size": 5}):
        with FastLoader(growing, **{**options, **also}) as loader, caplog.at_level("INFO"):
            loader.load_state_dict(state, elastic=bool(also))
            assert "27 rows that were added since the state was saved" in caplog.text
            caplog.clear()
            assert epoch_of(loader) == rest
            assert {key for key, _ in first + begun + rest} <= {*range(1, 21)}
            following = {key for key, _ in epoch_of(loader)}
            if "follow" in options:
                assert following == {*range(1, 48)}
            else:
                assert following <= {*range(1, 21)}
                assert loader.refresh() == 47
                assert max(key for _ in range(4) for key, _ in epoch_of(loader)) > 20


def test_keys_of_text_resume_too_whatever_their_length(tmp_path: Path) -> None:
    rows = [(f"a{n:02}", jpeg(16, 12), n) for n in range(20)]
    path = table(tmp_path / "text.db", rows, columns="id TEXT PRIMARY KEY, image_data BLOB, label")
    with FastLoader(path, **OPTIONS, workers=1) as loader:
        batches = iter(loader)
        next(batches)
        state = loader.state_dict()
        rest = [key for x, _ in batches for key in x["id"].tolist()]
    add_to(path, [("b" * 30, jpeg(16, 12), 0)])
    with FastLoader(path, **OPTIONS, workers=1) as loader:
        loader.load_state_dict(state)
        assert [key for x, _ in loader for key in x["id"].tolist()] == rest


def test_a_state_whose_rows_are_not_the_first_ones_any_more_is_refused(growing: str) -> None:
    with FastLoader(growing, **OPTIONS, workers=1, follow="epoch") as loader:
        begins = loader.state_dict()
        next(iter(loader))
        state = loader.state_dict()
    with sqlite3.connect(growing) as connection:
        connection.execute("UPDATE images SET id = 0 WHERE id = 7")
    connection.close()
    with FastLoader(growing, **OPTIONS, workers=1, follow="epoch") as loader:
        with pytest.raises(StateError, match="other keys now than when the state was saved"):
            loader.load_state_dict(state)
        loader.load_state_dict(begins)  # nothing of its epoch was delivered
        assert len(epoch_of(loader)) == 20
    with (
        FastLoader(growing, **{**OPTIONS, "seed": 4}, workers=1) as loader,
        pytest.raises(StateError),
    ):
        loader.load_state_dict(begins)


def test_nothing_changes_if_a_state_is_refused_for_another_reason(growing: str) -> None:
    with FastLoader(growing, **OPTIONS, workers=1) as loader:
        next(iter(loader))
        state = loader.state_dict()
    add_to(growing, simple_rows(25)[20:])
    with FastLoader(growing, **{**OPTIONS, "seed": 4}, workers=1) as loader:
        pids = [process.pid for process in worker_processes()]
        with pytest.raises(StateError, match="seed=3"):
            loader.load_state_dict(state)
        assert pids == [process.pid for process in worker_processes()]
        assert len(epoch_of(loader)) == 25


def test_a_count_goes_on_over_epochs_of_different_length(growing: str) -> None:
    """As TensorFlow needs, which takes batches of the next epoch ahead of training."""
    with FastLoader(growing, **OPTIONS, workers=1, follow="epoch") as loader:
        epochs = [[rows_of(batch) for batch in loader()]]
        for end in (30, 45):
            add_to(growing, simple_rows(end)[len([r for b in epochs[-1] for r in b]) :])
            epochs.append([rows_of(batch) for batch in loader()])
        assert [len(epoch) for epoch in epochs] == [3, 4, 6]
        states = [loader.state_dict(consumed=taken) for taken in range(14)]
    found = [(state["epoch"], state["batch"], state["plan"]["rows"]) for state in states]
    assert found == [
        *((0, batch, 20) for batch in range(3)), *((1, batch, 30) for batch in range(4)),
        *((2, batch, 45) for batch in range(6)), (3, 0, 45),
    ]  # fmt: skip
    for taken in (1, 5, 9):
        with FastLoader(growing, **OPTIONS, workers=1, follow="epoch") as loader:
            loader.load_state_dict(states[taken])
            epoch, batch, _ = found[taken]
            assert [rows_of(its) for its in loader] == epochs[epoch][batch:]


# ---- frameworks ----------------------------------------------------------------------------------


def test_datasets_of_tensorflow_follow(growing: str) -> None:
    tf = pytest.importorskip("tensorflow")
    with FastLoader(growing, **OPTIONS, workers=2, follow="epoch") as loader:
        dataset = loader.as_dataset()
        assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
        assert sum(len(labels) for _, labels in dataset) == 20
        add_to(growing, simple_rows(41)[20:])
        assert sum(len(labels) for _, labels in dataset) == 41
    with FastLoader(growing, **OPTIONS, workers=2) as loader:
        dataset = loader.as_dataset()
        add_to(growing, simple_rows(60)[41:])
        loader.refresh()
        with pytest.raises(tf.errors.InvalidArgumentError, match="call as_dataset.. after refresh"):
            list(dataset)
        assert sum(len(labels) for _, labels in loader.as_dataset()) == 60


@full
def test_pytorch_and_jax_follow(growing: str) -> None:
    for name in ("torch", "jax"):
        pytest.importorskip(name)
        with FastLoader(growing, **OPTIONS, workers=1, follow="epoch") as loader:
            batches: Any = getattr(loader, f"as_{name}")()
            rows = loader.config and len(np.concatenate([labels for _, labels in batches]))
            add_to(growing, [(rows + 1, jpeg(16, 12), 0)])
            assert len(np.concatenate([labels for _, labels in batches])) == rows + 1


def test_what_cannot_follow_is_refused_with_words(growing: str) -> None:
    for options, message in (
        ({"shard": (0, 2)}, r"refresh\(rows=...\) with what it returns"),
        ({"cache": "ram"}, "leave out one of them"),
        ({"follow": "row"}, 'must be "epoch"'),
    ):
        with pytest.raises(ConfigError, match=message):
            FastLoader(growing, **{**OPTIONS, "follow": "epoch", **options})
    with (
        FastLoader(growing, **OPTIONS, workers=0, follow="epoch") as loader,
        pytest.raises(ConfigError, match='without follow="epoch"'),
    ):
        mix({loader: 1})
    one = FastLoader(growing, **OPTIONS, workers=0)
    with mix({one: 1}), pytest.raises(ConfigError, match="part of a mixture"):
        one.refresh()


@pytest.mark.parametrize("cache", ["ram", "folder"])
def test_a_cache_is_made_anew(growing: str, tmp_path: Path, cache: str) -> None:
    where = cache if cache == "ram" else str(tmp_path / "cache")
    options = {**OPTIONS, "cache": where, "workers": 1}
    with FastLoader(growing, **options) as loader:
        for _ in range(2):
            epoch_of(loader)
        kept = loader.stats().cached_rows
        assert kept > 0
        add_to(growing, simple_rows(25)[20:])
        assert loader.refresh() == 25
        found = epoch_of(loader)
        assert loader.stats().cached_rows == kept
        assert sorted(key for key, _ in found) == [*range(1, 26)]
        epoch_of(loader)
        assert loader.stats().cached_rows > kept
        loader.refresh(rows=20)
        assert sorted(key for key, _ in epoch_of(loader)) == [*range(1, 21)]

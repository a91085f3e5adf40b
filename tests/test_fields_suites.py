"""What holds for images holds for every field: order, resume, shards, and workers that die."""

from __future__ import annotations

import fcntl
import itertools
import sys
import termios
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import Array, FastLoader, Number, Ragged

from .conftest import Either
from .servers.postgres import Database
from .servers.proxy import Proxy
from .support import table, wait_until, worker_processes
from .test_ragged import COLUMNS, OPTIONS, ROWS, check, row, values

SHUFFLED: dict[str, Any] = {**OPTIONS, "shuffle": True, "seed": 3}

Batch = dict[str, Any]


@pytest.fixture
def url(either: Either) -> str:
    return either.table([row(key) for key in range(1, ROWS + 1)], columns=COLUMNS)


def as_batch(batch: Any) -> Batch:
    """Return a batch as plain values, to compare it."""
    parts = {f"x {name}": its for name, its in batch[0].items()}
    parts |= {f"y {name}": its for name, its in batch[1].items()}
    return {
        n: its.to_list() if isinstance(its, Ragged) else its.tolist() for n, its in parts.items()
    }


def two_epochs(url: str, **options: Any) -> list[Batch]:
    with FastLoader(url, **{**SHUFFLED, **options}) as loader:
        return [as_batch(batch) for _ in range(2) for batch in loader]


def test_a_batch_does_not_depend_on_the_workers(url: str) -> None:
    expected = two_epochs(url, workers=0)
    assert len(expected) == 2 * len(range(0, ROWS, 8))
    for workers in (1, 3):
        assert two_epochs(url, workers=workers) == expected


def test_another_loader_resumes_with_exactly_the_rest(url: str) -> None:
    expected = two_epochs(url, workers=0)
    with FastLoader(url, **SHUFFLED, workers=2) as loader:
        found = [as_batch(batch) for batch in itertools.islice(loader, 5)]
        state = loader.state_dict()
    with FastLoader(url, **SHUFFLED, workers=1) as loader:
        loader.load_state_dict(state)
        found += [as_batch(batch) for _ in range(2) for batch in loader]
    assert found == expected


def test_all_shards_together_see_every_row_once(url: str) -> None:
    seen = []
    for index in range(3):
        with FastLoader(url, **SHUFFLED, workers=0, shard=(index, 3)) as loader:
            seen += [key for x, y in loader for key in check(x, y, loader.classes)]
    assert sorted(seen) == list(range(1, ROWS + 1))


def test_a_worker_that_is_killed_is_replaced_at_the_right_batch(url: str) -> None:
    expected = two_epochs(url, workers=0)
    with FastLoader(url, **SHUFFLED, workers=2, slots=2) as loader:
        found = []
        for batch in itertools.chain.from_iterable(iter(loader) for _ in range(2)):
            found.append(as_batch(batch))
            if len(found) in (3, 11):
                worker_processes()[0].kill()
        assert found == expected
        assert loader.stats().restarts >= 1


def test_a_worker_may_be_killed_in_the_middle_of_what_has_no_room_in_a_slot(tmp_path: Path) -> None:
    """The items of the second batch are more than the pipe holds, so the worker waits for us.

    The survey does not look at its first row.
    """
    many = np.arange(1_000_000, dtype=np.int32)
    rows = [(key, (many if key == 103 else many[:1]).tobytes(), key) for key in range(1, 201)]
    columns = "id INTEGER PRIMARY KEY, tokens BLOB, label INTEGER"
    url = table(tmp_path / "t.db", rows, columns=columns)
    fields = {"tokens": Array(dtype="int32", ragged=True), "label": Number()}
    with FastLoader(url, fields=fields, batch_size=102, workers=1) as loader:
        (feeder,) = loader.delivery.feeders
        for epoch in range(3):
            batches = iter(loader)
            assert next(batches)["label"].tolist() == list(range(1, 103))
            wait_until(lambda: bytes_in(feeder.fileno()) > 50_000)
            if epoch > 0:
                (worker,) = worker_processes()
                worker.kill()
                worker.wait(timeout=60)
            x = next(batches)
            assert x["label"].tolist() == list(range(103, 201))
            np.testing.assert_array_equal(x["tokens"][0], many)
            assert x["tokens"].lengths.tolist() == [len(many)] + [1] * 97
            assert next(batches, None) is None
        assert loader.stats().restarts == 2


def bytes_in(pipe: int) -> int:
    """Return how many bytes wait to be received."""
    found = fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0")
    return int.from_bytes(found, sys.byteorder)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_connection_that_is_cut_is_survived(database: Database, workers: int) -> None:
    many = 600
    rows = [row(key % ROWS + 1)[1:] for key in range(many)]
    database.table([(key, *its) for key, its in enumerate(rows, 1)], columns=COLUMNS)
    with (
        Proxy(database.cluster.port, cut_after=100_000) as proxy,
        FastLoader(
            database.url(host="127.0.0.1", port=proxy.port),
            workers=workers, consistency="latest", fetch_bytes=20_000, slots=2, **OPTIONS,
        ) as loader,
    ):  # fmt: skip
        seen = []
        for x, _ in loader:
            for key, tokens in zip(x["id"].tolist(), x["tokens"], strict=True):
                assert tokens.tolist() == values((key - 1) % ROWS + 1)["tokens"].tolist()
                seen.append(key)
    assert proxy.cuts > 0
    assert seen == list(range(1, many + 1))

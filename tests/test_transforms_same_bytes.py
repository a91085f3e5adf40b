"""A transform makes the same bytes, whoever runs it, and whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import FastLoader, per_batch, per_row
from fastloader.transforms.draws import BATCH, ROW, Draws

from . import small_transforms as functions
from .conftest import Either
from .support import jpeg, simple_rows, table, wait_until, worker_processes

STEPS = [
    functions.jitter, functions.mean, per_row(functions.drop_thirds, drops=True),
    per_batch(functions.one_hot), per_batch(functions.mixed),
]  # fmt: skip
OPTIONS: dict[str, Any] = {
    "size": (12, 16), "batch_size": 8, "shuffle": True, "with_keys": True, "transform": STEPS,
}  # fmt: skip


def digests(batches: Any) -> list[str]:
    """Return a digest of all bytes of each batch."""
    found = []
    for x, labels in batches:
        hashed = hashlib.sha256(labels.tobytes())
        for name in sorted(x):
            hashed.update(name.encode() + x[name].tobytes())
        found.append(hashed.hexdigest())
    return found


def epochs(url: str, count: int = 2, **options: Any) -> list[list[str]]:
    with FastLoader(url, **{**OPTIONS, **options}) as loader:
        return [digests(loader) for _ in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_bytes_are_the_same_for_any_number_of_workers(either: Either, workers: int) -> None:
    url = either.table(simple_rows(100))
    alone = epochs(url, workers=0)
    assert epochs(url, workers=workers) == alone
    assert alone[0] != alone[1]  # each epoch has numbers of its own
    assert epochs(url, workers=0, seed=1) != alone


@pytest.mark.parametrize("workers", [0, 2])
def test_the_bytes_are_the_same_after_a_resume(small: str, workers: int) -> None:
    whole = epochs(small, workers=0)
    with FastLoader(small, **OPTIONS, workers=workers) as loader:
        found = []
        for batch in loader:
            found += digests([batch])
            if len(found) == 5:
                state = loader.state_dict()
                break
    with FastLoader(small, **OPTIONS, workers=2 - workers) as loader:
        loader.load_state_dict(state)
        assert found + digests(loader) == whole[0]
        assert digests(loader) == whole[1]


def test_the_bytes_are_the_same_after_workers_were_killed(tmp_path: Path) -> None:
    images = [jpeg(600, 400, seed=seed) for seed in range(4)]
    rows = [(key, images[key % 4], 10 * key) for key in range(200)]
    url = table(tmp_path / "t.db", rows)
    alone = epochs(url, 1, workers=0)
    rng = random.Random(0)
    with FastLoader(url, **OPTIONS, workers=2, max_restarts=20, slots=2) as loader:
        found = []
        for at, batch in enumerate(loader):
            found += digests([batch])
            if at % 4 == 1:
                wait_until(lambda: len(worker_processes()) == 2)
                os.kill(rng.choice(worker_processes()).pid, signal.SIGKILL)
        assert loader.stats().restarts > 0
    assert [found] == alone


@pytest.mark.parametrize("cache", ["ram", "folder"])
def test_the_bytes_are_the_same_from_a_cache(small: str, tmp_path: Path, cache: str) -> None:
    where = cache if cache == "ram" else str(tmp_path / "cache")
    assert epochs(small, workers=2, cache=where) == epochs(small, workers=0)


def test_a_worker_leaves_no_trace_in_the_generators_of_the_training(small: str) -> None:
    random.seed(5)
    np.random.seed(5)
    wanted = random.random(), np.random.random()
    random.seed(5)
    np.random.seed(5)
    epochs(small, 1, workers=0)
    assert (random.random(), np.random.random()) == wanted


def test_torch_is_seeded_where_it_is_imported(small: str) -> None:
    torch = pytest.importorskip("torch")

    def draw(row: dict[str, Any]) -> None:
        row["label"] = float(torch.rand(()))

    found = [epochs(small, 1, workers=workers, transform=draw) for workers in (0, 2)]
    assert found[0] == found[1]


def test_draws_depend_on_seed_epoch_row_and_purpose_alone() -> None:
    seen = set()
    for seed in (0, 1, 2**64 - 1):
        for epoch in (0, 1):
            for row in (0, 1, 2**64 - 1):
                for what in (ROW, BATCH):
                    draws = Draws(seed, keeps=False)
                    draws.begin(epoch, row, what)
                    first = (*draws.rng.integers(2**63, size=3), random.random(), np.random.rand())
                    draws.rng.normal(size=7)
                    draws.rng.integers(100, dtype=np.uint32)
                    draws.begin(epoch, row, what)
                    again = (*draws.rng.integers(2**63, size=3), random.random(), np.random.rand())
                    assert first == again
                    seen.add(first)
    assert len(seen) == 3 * 2 * 3 * 2


# ---- what is cached behind a transform -----------------------------------------------------------

KEPT: dict[str, Any] = {
    "transform": [functions.jitter, functions.mean, per_batch(functions.one_hot)],
    "cache_transformed": True, "transform_version": "1",
}  # fmt: skip


def test_a_cache_keeps_what_the_functions_of_rows_make(small: str, tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    def counted(row: dict[str, Any], rng: np.random.Generator) -> None:
        functions.jitter(row, rng)
        with open(calls, "ab") as out:
            out.write(b".")

    def count() -> int:
        return len(calls.read_bytes())

    options = {**KEPT, "transform": [counted, functions.mean, per_batch(functions.one_hot)]}
    where = str(tmp_path / "cache")
    with FastLoader(small, **{**OPTIONS, **options}, workers=2, cache=where) as loader:
        tried = count()  # on some rows, when the loader was made
        first, second = digests(loader), digests(loader)
        made = count()  # some rows of the second epoch were asked for before they were kept
        assert made - tried >= 100
        digests(loader)
        assert count() == made
    # What is kept does not depend on who made it, or in which epoch.
    assert epochs(small, workers=0, cache="ram", **KEPT) == [first, second]
    with FastLoader(small, **{**OPTIONS, **options}, workers=1, cache=where) as loader:
        assert digests(loader) == first
        assert count() == made + tried
    options["transform_version"] = "2"
    with FastLoader(small, **{**OPTIONS, **options}, workers=1, cache=where) as loader:
        assert digests(loader) == first
        assert count() >= made + 2 * tried + 100
    with FastLoader(small, **{**OPTIONS, **options}, seed=1, workers=1, cache=where) as loader:
        assert digests(loader) != first

"""An epoch of one's choice, and a look at the next batch that uses nothing up."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastloader
from fastloader import FastLoader

from .conftest import Either
from .support import parts_of, simple_rows, table, wait_until, worker_processes
from .tiers import few

pytestmark = few(2)

Batch = tuple[bytes, list[int], list[int]]
Make = Callable[..., FastLoader]

BATCHES = 5
OPTIONS: dict[str, Any] = {
    "size": (16, 16), "batch_size": 8, "shuffle": True, "seed": 5, "fit": "random_crop",
    "flip": True, "with_keys": True, "slots": 2,
}  # fmt: skip


def as_batch(batch: Any) -> Batch:
    images, labels, keys = parts_of(batch)
    return images.tobytes(), labels.tolist(), keys.tolist()


def taken(batches: Any) -> list[Batch]:
    return [as_batch(batch) for batch in batches]


@pytest.fixture(params=[0, 2], ids=lambda workers: f"workers={workers}")
def make(request: pytest.FixtureRequest, either: Either) -> Iterator[Make]:
    """Yield a function that makes loaders of a table with 36 rows; close them in the end."""
    url = either.table(simple_rows(36))
    loaders = []

    def made(**options: Any) -> FastLoader:
        loaders.append(FastLoader(**{"url": url, **OPTIONS, "workers": request.param, **options}))
        return loaders[-1]

    yield made
    for loader in loaders:
        loader.close()


@pytest.fixture
def epochs(make: Make) -> list[list[Batch]]:
    """Return the batches of six epochs without interruption."""
    with make() as loader:
        found = [taken(loader) for _ in range(6)]
    assert len({json.dumps([keys for *_, keys in epoch]) for epoch in found}) == 6
    return found


# ---- epoch ---------------------------------------------------------------------------------------


def test_an_epoch_may_be_chosen_and_the_loader_goes_on_from_there(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    for number in (3, 0, 0, 5, 1):
        assert taken(loader.epoch(number)) == epochs[number]
    assert taken(loader) == epochs[2]
    assert taken(loader) == epochs[3]
    assert loader.stats().epochs == 7


def test_epochs_in_their_order_are_one_run_of_the_workers(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    for number in range(3):
        assert taken(loader.epoch(number)) == epochs[number]
    assert loader.delivery.progress.iteration.turn == (1, 2, 0)
    places = [loader.state_dict(consumed=n) for n in (0, 7, 15)]
    assert [(place["epoch"], place["batch"]) for place in places] == [(0, 0), (1, 2), (3, 0)]


def test_an_epoch_begins_when_it_is_iterated_and_anew_each_time(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    fourth = loader.epoch(np.int64(4))
    assert (len(fourth), fourth.number) == (BATCHES, 4)
    assert repr(fourth).startswith("epoch 4 of <FastLoader ")
    assert taken(loader) == epochs[0]
    iterator = iter(fourth)
    assert as_batch(next(iterator)) == epochs[4][0]
    assert taken(fourth) == epochs[4]
    with pytest.raises(fastloader.SupersededError):
        next(iterator)


def test_a_state_within_a_chosen_epoch_resumes_there(make: Make, epochs: list[list[Batch]]) -> None:
    loader = make()
    iterator = iter(loader.epoch(3))
    assert taken(itertools.islice(iterator, 2)) == epochs[3][:2]
    state = json.loads(json.dumps(loader.state_dict()))
    assert (state["epoch"], state["batch"]) == (3, 2)
    other = make()
    other.load_state_dict(state)
    assert taken(other) == epochs[3][2:]
    assert taken(other) == epochs[4]


def test_the_loop_over_epochs_that_resumes_delivers_the_rest_of_the_first(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    loader.load_state_dict({**loader.state_dict(), "epoch": 3, "batch": 2})
    assert taken(loader.epoch(3)) == epochs[3][2:]
    assert taken(loader.epoch(4)) == epochs[4]
    assert taken(loader.epoch(3)) == epochs[3], "the state was used up"
    loader.load_state_dict({**loader.state_dict(), "epoch": 3, "batch": 2})
    assert taken(loader.epoch(1)) == epochs[1]
    assert taken(loader) == epochs[2], "and here it was given up"


def test_an_epoch_without_an_order_has_all_of_its_rows(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make(deterministic=False)
    assert sorted(taken(loader.epoch(2))) == sorted(epochs[2])
    assert sorted(taken(loader)) == sorted(epochs[3])


@pytest.mark.parametrize("number", [-1, 2**62, 1.0, "1", True, None])
def test_a_number_that_no_epoch_has_is_refused(make: Make, number: Any) -> None:
    with pytest.raises(fastloader.ConfigError, match=r"^epoch .* must be "):
        make().epoch(number)


# ---- peek ----------------------------------------------------------------------------------------


def test_a_look_at_the_next_batch_changes_nothing(make: Make, epochs: list[list[Batch]]) -> None:
    loader = make()
    state, stats = loader.state_dict(), loader.stats()
    for _ in range(3):
        assert as_batch(loader.peek()) == epochs[0][0]
    assert loader.state_dict() == state
    assert loader.stats() == stats
    assert taken(loader) == epochs[0]
    assert loader.stats().rows == 36
    assert as_batch(loader.peek()) == epochs[1][0]
    assert taken(loader) == epochs[1]
    assert loader.stats().epochs == 2


def test_a_look_shows_the_next_batch_of_an_iteration_under_way(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    found = []
    for i, batch in enumerate(loader):
        found.append(as_batch(batch))
        state = loader.state_dict()
        following = epochs[0][i + 1] if i + 1 < BATCHES else epochs[1][0]
        assert as_batch(loader.peek()) == following
        assert loader.state_dict() == state
    assert found == epochs[0]
    assert taken(loader) == epochs[1]


def test_what_a_look_returns_may_be_changed_and_kept(make: Make, epochs: list[list[Batch]]) -> None:
    loader = make()
    kept = []
    for _ in range(4):
        images, labels = loader.peek()
        images["image_data"][:] = 0
        labels[:] = -1
        kept.append((images, labels))
    assert loader.stats().leased == 0
    assert taken(loader) == epochs[0]
    assert not any(images["image_data"].any() for images, _ in kept)


def test_a_look_after_an_iteration_that_was_left_shows_the_next_epoch(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    next(iter(loader))
    assert as_batch(loader.peek()) == epochs[1][0]
    assert loader.state_dict()["batch"] == 1, "of epoch 0, where training is"
    assert taken(loader) == epochs[1]


def test_a_look_does_not_keep_the_loader_from_going_elsewhere(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    assert as_batch(loader.peek()) == epochs[0][0]
    assert taken(loader.epoch(3)) == epochs[3]
    assert as_batch(loader.peek()) == epochs[4][0]
    loader.load_state_dict({**loader.state_dict(), "epoch": 2, "batch": 3})
    assert as_batch(loader.peek()) == epochs[2][3]
    loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 3})
    assert as_batch(loader.peek()) == epochs[1][3]
    assert taken(loader) == epochs[1][3:]
    assert as_batch(loader.peek()) == epochs[2][0]
    loader.delivery.count_anew()
    assert taken(loader) == epochs[2]


def test_a_look_works_while_the_consumer_keeps_all_that_it_can(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    kept = list(loader)
    assert as_batch(loader.peek()) == epochs[1][0]
    more = list(loader)
    assert taken(kept) + taken(more) == epochs[0] + epochs[1]


def test_a_look_into_an_iteration_without_an_order(make: Make, epochs: list[list[Batch]]) -> None:
    loader = make(deterministic=False)
    found = []
    for batch in loader:
        found.append(as_batch(batch))
        if len(found) < BATCHES:
            seen = as_batch(loader.peek())
            assert seen in epochs[0]
            assert seen not in found
    assert sorted(found) == sorted(epochs[0])


def test_a_look_into_an_iteration_that_is_pulled_ahead(
    make: Make, epochs: list[list[Batch]]
) -> None:
    loader = make()
    batches = loader()
    assert as_batch(next(batches)) == epochs[0][0]
    assert as_batch(loader.peek()) == epochs[0][1]
    assert taken(batches) == epochs[0][1:]


def test_a_look_and_an_iteration_in_two_threads(make: Make, epochs: list[list[Batch]]) -> None:
    import threading

    loader = make(slots=3)
    done = threading.Event()
    seen: list[Batch] = []

    def look() -> None:
        while not done.is_set():
            seen.append(as_batch(loader.peek()))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        assert [taken(loader) for _ in range(6)] == epochs
    finally:
        done.set()
        thread.join()
    assert {keys[0] for *_, keys in seen} <= set(range(1, 37))


def test_a_look_at_a_bad_row_raises_and_so_does_the_iteration(make: Make, tmp_path: Path) -> None:
    path = table(tmp_path / "bad.db", [(i, b"" if i == 3 else b, n) for i, b, n in simple_rows(36)])
    for ahead in (False, True):
        loader = make(url=path, shuffle=False)
        for _ in range(2):
            with pytest.raises(fastloader.RowError, match="row with key 3"):
                loader.peek()
        for _ in range(2):
            with pytest.raises(fastloader.RowError, match="row with key 3"):
                list(loader() if ahead else loader)
            with pytest.raises(fastloader.RowError, match="row with key 3"):
                loader.peek()


def test_a_look_passes_over_batches_that_an_iteration_leaves_out(
    make: Make, tmp_path: Path
) -> None:
    def rows(bad: int) -> list[Any]:
        return [(i, b"" if i <= bad else blob, n) for i, blob, n in simple_rows(36)]

    options = {"shuffle": False, "on_error": "skip"}
    one = make(url=table(tmp_path / "one.db", rows(8)), **options)
    _, labels, keys = parts_of(one.peek())
    assert keys.tolist() == [*range(9, 17)]
    assert as_batch(one.peek()) == as_batch(next(iter(one)))
    all_of_them = make(url=table(tmp_path / "all.db", rows(36)), **options)
    images, labels, keys = parts_of(all_of_them.peek())
    assert (images.shape, len(labels), len(keys)) == ((0, 16, 16, 3), 0, 0)
    assert list(all_of_them) == []


def test_a_look_survives_the_death_of_a_worker(make: Make, epochs: list[list[Batch]]) -> None:
    loader = make()
    if not loader.config.workers:
        pytest.skip("there is none")
    for worker in worker_processes():
        worker.kill()
    wait_until(lambda: not worker_processes())
    assert as_batch(loader.peek()) == epochs[0][0]
    assert taken(loader) == epochs[0]


def test_a_closed_loader_has_nothing_to_look_at(make: Make) -> None:
    loader = make()
    epoch = loader.epoch(1)
    loader.peek()
    loader.close()
    for use in (loader.peek, lambda: loader.epoch(1), lambda: iter(epoch)):
        with pytest.raises(fastloader.ClosedError, match="is closed: make a new FastLoader"):
            use()

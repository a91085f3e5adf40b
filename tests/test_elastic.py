"""The rest of an epoch with other batches, shards and workers: every row once, in its order."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest

from fastloader import FastLoader, StateError

from .support import rows_of, simple_rows, table, worker_processes
from .tiers import full

OPTIONS: dict[str, Any] = {
    "size": (8, 8), "shuffle": True, "seed": 5, "fit": "random_crop", "flip": True,
    "with_keys": True, "slots": 2,
}  # fmt: skip

Row = tuple[int, bytes]


@pytest.fixture
def two_epochs(small: str) -> list[list[Row]]:
    with FastLoader(small, workers=0, batch_size=100, **OPTIONS) as loader:
        return [rows_of(batch) for _ in range(2) for batch in loader]


def steps(shards: Sequence[Sequence[Any]]) -> list[Row]:
    """Return the rows of all shards in the order of the epoch."""
    return [row for step in zip(*shards, strict=True) for batch in step for row in rows_of(batch)]


def taken(small: str, count: int, state: Any, taking: int | None, **options: Any) -> Any:
    """Return the rows that some shards deliver from a state on, and their states afterwards."""
    shards, states = [], []
    for index in range(count):
        with FastLoader(small, shard=(index, count), **OPTIONS, **options) as loader:
            if state is not None:
                loader.load_state_dict(state, elastic=True)
            shards.append([copied(batch) for batch in itertools.islice(iter(loader), taking)])
            states.append(json.loads(json.dumps(loader.state_dict())))
    assert len({(s["epoch"], s["batch"], s["rows"]) for s in states}) == 1
    return steps(shards), states


def copied(batch: Any) -> Any:
    x, y = batch
    return {name: values.copy() for name, values in x.items()}, y.copy()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("was", "then"), [((2, 8), (3, 5)), ((1, 16), (4, 16)), ((4, 3), (1, 64)), ((3, 7), (2, 1))]
)
def test_the_rest_comes_once_with_other_shards_and_batches(
    small: str, two_epochs: list[list[Row]], was: Any, then: Any, workers: int
) -> None:
    whole, following = two_epochs
    rows, states = taken(small, was[0], None, 3, batch_size=was[1], workers=workers)
    assert rows == whole[: len(rows)]
    assert states[0]["rows"] == len(rows) == 3 * was[0] * was[1]
    # The state of any shard is as good as that of another.
    rest, after = taken(small, then[0], states[-1], None, batch_size=then[1], workers=workers)
    dropped = 1 if then[1] == 1 else 0  # as many shards as rows in a batch leave rows over
    assert rows + rest == whole[: len(whole) - dropped * ((len(whole) - len(rows)) % then[0])]
    assert (after[0]["epoch"], after[0]["rows"]) == (1, 0)
    more, _ = taken(small, then[0], after[0], 1, batch_size=then[1], workers=0)
    assert more == following[: len(more)]


def test_a_rest_is_resumed_like_a_whole_epoch_also_by_yet_others(
    small: str, two_epochs: list[list[Row]]
) -> None:
    """Twice elastically, and in between with the same batches."""
    whole, _ = two_epochs
    first, states = taken(small, 2, None, 2, batch_size=8, workers=2)
    second, states = taken(small, 3, states[0], 2, batch_size=5, workers=2)
    assert states[0]["first_row"] == 32
    assert states[0]["rows"] == 32 + 2 * 15
    third = []
    for index in range(3):
        with FastLoader(small, shard=(index, 3), batch_size=5, workers=1, **OPTIONS) as loader:
            loader.load_state_dict(states[index])
            third.append([copied(next(iter(loader)))])
            state = loader.state_dict()
            assert state["rows"] == 32 + 3 * 15
    last, _ = taken(small, 1, state, None, batch_size=9, workers=0)
    assert first + second + steps(third) + last == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_epochs_are_whole(small: str, two_epochs: list[list[Row]], workers: int) -> None:
    _, states = taken(small, 2, None, 2, batch_size=8, workers=2)
    with FastLoader(small, batch_size=16, workers=workers, **OPTIONS) as loader:
        loader.load_state_dict(states[1], elastic=True)
        assert rows_of(loader.peek()) == two_epochs[0][32:48]
        epochs = [[row for batch in loader for row in rows_of(batch)] for _ in range(2)]
        assert epochs == [two_epochs[0][32:], two_epochs[1]]
        places = [loader.state_dict(consumed=taken) for taken in range(13)]
    found = [(place["epoch"], place["batch"], place["rows"]) for place in places]
    assert found == [
        *((0, batch, 32 + 16 * batch) for batch in range(5)),
        *((1, batch, 16 * batch) for batch in range(7)),
        (2, 0, 0),
    ]


def test_a_worker_that_dies_in_a_rest_is_replaced_at_the_right_batch(
    small: str, two_epochs: list[list[Row]]
) -> None:
    _, states = taken(small, 1, None, 3, batch_size=7, workers=2)
    # A death may be noticed in the next epoch, so one of them may have more than three.
    with FastLoader(small, batch_size=5, workers=2, max_restarts=10, **OPTIONS) as loader:
        loader.load_state_dict(states[0], elastic=True)
        found = []
        for epoch in range(2):
            for number, batch in enumerate(loader):
                found += rows_of(batch)
                if number in (2, 9) or (epoch, number) == (1, 1):
                    worker_processes()[number % 2].kill()
        assert loader.stats().restarts >= 2
    assert found == two_epochs[0][21:] + two_epochs[1]


@pytest.mark.parametrize("cache", ["ram", "folder"])
def test_a_cache_serves_a_rest(small: str, tmp_path: Any, cache: str) -> None:
    options = {**OPTIONS, "cache": cache if cache == "ram" else str(tmp_path), "workers": 2}
    with FastLoader(small, batch_size=100, **options) as loader:
        (whole,) = (rows_of(batch) for batch in loader)
    with FastLoader(small, batch_size=8, **options) as loader:
        iterator = iter(loader)
        begun = [row for _ in range(3) for row in rows_of(next(iterator))]
        state = loader.state_dict()
        assert len([*iterator]) == 10
        loader.load_state_dict(state, elastic=True)  # from batch 3 on, as a rest of 0 to 9
        assert begun + [row for batch in loader for row in rows_of(batch)] == whole
    with FastLoader(small, batch_size=6, **options) as loader:
        loader.load_state_dict(state, elastic=True)
        assert begun + [row for batch in loader for row in rows_of(batch)] == whole


@full
def test_tensorflow_pytorch_and_jax_resume_a_rest(small: str, two_epochs: list[list[Row]]) -> None:
    pytest.importorskip("tensorflow")
    options = {**OPTIONS, "batch_size": 6, "workers": 2}
    _, states = taken(small, 2, None, 2, batch_size=8, workers=0)
    expected = [key for key, _ in two_epochs[0][32:] + two_epochs[1]]
    with FastLoader(small, **options) as loader:
        loader.load_state_dict(states[0], elastic=True)
        dataset = loader.as_dataset()
        assert [k for _ in range(2) for x, _ in dataset for k in x["id"].numpy()] == expected
    for name in ("torch", "jax"):
        pytest.importorskip(name)
        with FastLoader(small, **options) as loader:
            batches: Any = getattr(loader, f"as_{name}")()
            batches.load_state_dict(states[0], elastic=True)
            assert [k for _ in range(2) for x, _ in batches for k in x["id"].tolist()] == expected


def test_rows_that_are_fewer_than_the_shards_are_left_out_with_a_warning(
    small: str, caplog: pytest.LogCaptureFixture
) -> None:
    _, states = taken(small, 1, None, 14, batch_size=7, workers=0)
    with FastLoader(small, shard=(0, 4), batch_size=7, workers=0, **OPTIONS) as loader:
        loader.load_state_dict(states[0], elastic=True)
        assert "the last 2 rows do not make a batch for each shard" in caplog.text
        assert loader.state_dict()["epoch"] == 1


def test_only_batches_may_differ(small: str, tmp_path: Any) -> None:
    options = {**OPTIONS, "workers": 0}
    with FastLoader(small, batch_size=8, **options) as loader:
        next(iter(loader))
        state = loader.state_dict()
    with FastLoader(small, batch_size=4, **options) as loader:
        with pytest.raises(StateError, match="batch_size=8.* pass elastic=True to resume with"):
            loader.load_state_dict(state)
        for damage in ({"batch_size": "x"}, {"shard": 3}, {"batch_size": 0}):
            broken = {**state, "plan": {**state["plan"], **damage}}
            with pytest.raises(StateError, match="the state is damaged"):
                loader.load_state_dict(broken, elastic=True)
        with pytest.raises(StateError, match="the state is damaged: first_row -1"):
            loader.load_state_dict({**state, "first_row": -1}, elastic=True)
        with pytest.raises(StateError, match="the state is damaged: batch 13"):
            loader.load_state_dict({**state, "batch": 13}, elastic=True)
        old = {name: value for name, value in state.items() if name != "rows"}
        loader.load_state_dict({**old, "format": 1}, elastic=True)
        assert loader.state_dict()["rows"] == 8
    with (
        FastLoader(small, batch_size=8, **{**options, "seed": 6}) as loader,
        pytest.raises(StateError, match="seed=5"),
    ):
        loader.load_state_dict(state, elastic=True)
    other = table(tmp_path / "small2.db", simple_rows(99, gap=3))
    with (
        FastLoader(other, batch_size=8, **options) as loader,
        pytest.raises(StateError, match="database=|had 100 rows"),
    ):
        loader.load_state_dict(state, elastic=True)

"""A loader resumes where another one was, with the same batches."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import ConfigError, FastLoader
from fastloader.consumer.feeder import Feeder
from fastloader.transport.messages import Turn

from .servers.postgres import Database
from .support import (
    jpeg,
    parts_of,
    simple_rows,
    table,
    unpacked,
    wait_until,
    worker_processes,
)

OPTIONS: dict[str, Any] = {
    "size": (16, 16), "batch_size": 8, "workers": 2, "shuffle": True, "shuffle_block": 3, "seed": 5,
    "fit": "random_crop", "flip": True, "with_keys": True,
}  # fmt: skip
BATCHES = 13

Batch = tuple[bytes, list[int], list[int]]


def batches_of(loader: FastLoader, epochs: int = 1) -> list[Batch]:
    return [as_batch(batch) for _ in range(epochs) for batch in loader]


def as_batch(batch: Any) -> Batch:
    images, labels, keys = parts_of(batch)
    return images.tobytes(), labels.tolist(), keys.tolist()


@pytest.fixture
def three_epochs(small: str) -> list[Batch]:
    """Return the batches of three epochs without interruption."""
    with FastLoader(small, **OPTIONS) as loader:
        batches = batches_of(loader, 3)
    assert len(batches) == 3 * BATCHES
    return batches


# ---- the same batches ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 3, 7])
@pytest.mark.parametrize("deterministic", [True, False])
def test_batches_are_the_same_whatever_the_number_of_workers(
    small: str, three_epochs: list[Batch], workers: int, deterministic: bool
) -> None:
    options = {**OPTIONS, "workers": workers, "deterministic": deterministic, "slots": 3}
    with FastLoader(small, **options) as loader:
        for epoch in range(3):
            expected = three_epochs[epoch * BATCHES : (epoch + 1) * BATCHES]
            found = batches_of(loader)
            assert (found if deterministic else sorted(found)) == (
                expected if deterministic else sorted(expected)
            )


def test_batches_come_as_they_are_ready_with_deterministic_false(small: str) -> None:
    options = {**OPTIONS, "shuffle": False, "deterministic": False, "slots": 2}
    with FastLoader(small, **options) as loader:
        iterator = iter(loader)
        slow = worker_processes()[0]
        slow.suspend()  # with no more than two batches announced
        first = [as_batch(next(iterator))[2][0] for _ in range(6)]
        slow.resume()
        rest = [as_batch(batch)[2][0] for batch in iterator]
    of_worker = Counter((key // 3 - 1) // 8 % 2 for key in first)
    assert max(of_worker.values()) >= 4, "nobody waits for the other"
    assert sorted(first + rest) == list(range(3, 301, 24))


def has_announced(feeder: Feeder, turn: Turn) -> bool:
    """Return whether a batch of the worker has come that nobody has taken."""
    return any(feeder.poll(turn, batch) for batch in range(BATCHES))


def test_batches_that_came_and_were_not_taken_give_their_slots_back(small: str) -> None:
    """So do those that the workers had announced of an epoch that was left early."""
    with FastLoader(small, **{**OPTIONS, "deterministic": False, "slots": 2}) as loader:
        feeders = loader.delivery.feeders
        for _ in range(4):
            iterator = iter(loader)
            next(iterator)
            turn = loader.delivery.progress.iteration.turn
            wait_until(lambda turn=turn: all(has_announced(f, turn) for f in feeders))
        assert len(batches_of(loader)) == BATCHES


def test_a_process_with_many_descriptors_may_take_batches_as_they_come(small: str) -> None:
    script = f"""
import os, resource
from fastloader import FastLoader
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
with FastLoader({small!r}, size=(8, 8), batch_size=8, workers=2, deterministic=False) as loader:
    print(sum(len(labels) for _, labels in loader))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=200, check=False
    )
    assert run.stdout == "100\n", run.stderr


def test_a_loader_without_an_order_has_no_state(small: str) -> None:
    with (
        FastLoader(small, **{**OPTIONS, "deterministic": False}) as loader,
        pytest.raises(ConfigError, match="deterministic=False batches come in an order that"),
    ):
        loader.state_dict()


# ---- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("taken", [0, 7, 12, 13, 30])
def test_another_loader_resumes_with_exactly_the_rest(
    small: str, three_epochs: list[Batch], taken: int, workers: int
) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        stream = itertools.chain.from_iterable(iter(loader) for _ in range(3))
        assert [as_batch(batch) for batch in itertools.islice(stream, taken)] == three_epochs[
            :taken
        ]
        state = json.loads(json.dumps(loader.state_dict()))
        assert loader.state_dict(consumed=taken) == state
    with FastLoader(small, **{**OPTIONS, "workers": workers}) as loader:
        loader.load_state_dict({**state, "batch": np.int64(state["batch"])})
        epochs = 3 - taken // BATCHES
        assert batches_of(loader, epochs) == three_epochs[taken:]


def test_the_state_after_any_number_of_consumed_batches_can_be_asked_for(small: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        batches_of(loader, 2)
        places = [loader.state_dict(consumed=taken) for taken in range(27)]
        assert [place["epoch"] * BATCHES + place["batch"] for place in places] == [*range(27)]
        assert all(0 <= place["batch"] < BATCHES for place in places)
        with pytest.raises(ConfigError, match="consumed=27 must be from 0 to 26"):
            loader.state_dict(consumed=27)


def test_a_generator_for_tf_data_has_to_be_told_how_much_was_consumed(small: str) -> None:
    """tf.data pulls it before its consumer wants anything."""
    with FastLoader(small, **OPTIONS) as loader:
        batches = loader()
        assert loader.state_dict()["batch"] == 0
        next(batches)
        next(batches)
        with pytest.raises(ConfigError, match=r"pass state_dict\(consumed=\.\.\.\), the number"):
            loader.state_dict()
        assert loader.state_dict(consumed=1)["batch"] == 1


def test_an_iteration_that_was_left_early_begins_the_count_anew(small: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        next(iter(loader))
        iterator = iter(loader)
        next(iterator)
        next(iterator)
        place = loader.state_dict()
        assert (place["epoch"], place["batch"]) == (1, 2)
        place = loader.state_dict(consumed=1)
        assert (place["epoch"], place["batch"]) == (1, 1)


def test_going_back_and_forth_in_one_loader(small: str, three_epochs: list[Batch]) -> None:
    with FastLoader(small, **{**OPTIONS, "slots": 2}) as loader:
        states = []
        for _ in range(3):
            states.append(loader.state_dict())
            batches_of(loader)
        for epoch in (2, 0, 1, 1, 0):
            loader.load_state_dict({**states[epoch], "batch": 4})
            iterator = iter(loader)
            first = epoch * BATCHES + 4
            assert as_batch(next(iterator)) == three_epochs[first]
            loader.load_state_dict(states[epoch])  # takes effect with the next iteration
            rest = [as_batch(batch) for batch in iterator]
            assert rest == three_epochs[first + 1 : (epoch + 1) * BATCHES]


def test_a_worker_that_dies_after_resuming_is_replaced_at_the_right_batch(
    small: str, three_epochs: list[Batch]
) -> None:
    with FastLoader(small, **{**OPTIONS, "slots": 2}) as loader:
        loader.load_state_dict({**loader.state_dict(), "epoch": 1, "batch": 5})
        found = []
        for batch in itertools.chain.from_iterable(iter(loader) for _ in range(2)):
            found.append(as_batch(batch))
            if len(found) in (2, 10):
                worker_processes()[0].kill()
        assert found == three_epochs[BATCHES + 5 :]
        assert loader.stats().restarts >= 1


def test_batches_without_rows_count_for_the_loader_and_not_for_its_consumer(
    tmp_path: Path,
) -> None:
    rows = [(k, b"" if 9 <= k <= 24 else image, n) for k, image, n in simple_rows(40)]
    path = table(tmp_path / "t.db", rows)
    options = {"size": (8, 8), "batch_size": 8, "workers": 2, "with_keys": True}
    with FastLoader(path, on_error="skip", **options) as loader:
        assert len([*loader]) == 3
        batches = [loader.state_dict(consumed=taken)["batch"] for taken in range(4)]
        assert batches == [0, 3, 4, 0]
        loader.load_state_dict(loader.state_dict(consumed=1))
        assert [keys.tolist() for *_, keys in unpacked(loader)] == [
            [*range(25, 33)],
            [*range(33, 41)],
        ]


def test_a_program_that_is_killed_resumes_with_the_batches_that_it_would_have_seen(
    small: str, tmp_path: Path
) -> None:
    """A real process saves its state after each batch and is killed at random moments.

    It takes a batch for each line that it reads, and all that are left once there are no more
    lines.
    """
    script = f"""
import json, os, sys
from fastloader import FastLoader
with FastLoader({small!r}, **{OPTIONS!r}) as loader:
    try:
        loader.load_state_dict(json.load(open("state")))
    except FileNotFoundError:
        pass
    while loader.state_dict()["epoch"] < 3:
        for images, labels in loader:
            keys = images["id"]
            sys.stdin.readline()
            with open("new", "w") as file:
                json.dump({{**loader.state_dict(), "keys": keys.tolist()}}, file)
            os.replace("new", "state")
            print(json.dumps(keys.tolist()), flush=True)
            if loader.state_dict()["epoch"] == 3:
                break
"""
    rng = np.random.default_rng(0)
    seen: list[list[int]] = []
    for kills in (*[True] * 6, False):
        process = subprocess.Popen(
            [sys.executable, "-c", script], cwd=tmp_path, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with process:
            if kills:
                for _ in range(int(rng.integers(1, 6))):
                    process.stdin.write("\n")
                    seen.append(json.loads(process.stdout.readline()))
                process.stdin.write("\n")
                time.sleep(float(rng.uniform(0, 0.003)))  # somewhere in the next one
                process.kill()
            process.stdin.close()
            seen += [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.returncode == (-signal.SIGKILL if kills else 0)
        # It may have saved a batch that it could no longer print.
        last = json.loads((tmp_path / "state").read_text())["keys"]
        seen += [last] if last != seen[-1] else []
    with FastLoader(small, **OPTIONS) as loader:
        assert seen == [keys for _, _, keys in batches_of(loader, 3)]


# ---- PostgreSQL ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["int8", "uuid", "text"])
@pytest.mark.parametrize("block", [1, 8])
def test_postgres_shuffles_and_resumes_keys_of_every_type(
    database: Database, key: str, block: int
) -> None:
    import uuid

    def key_of(i: int) -> Any:
        return {"int8": i * 3, "uuid": str(uuid.UUID(int=i << 100)), "text": f"Ä {i:03} '"}[key]

    rows = [(key_of(i), jpeg(seed=i % 8), i) for i in range(100)]
    url = database.table(rows, columns=f"id {key} PRIMARY KEY, image_data bytea, label int8")
    options = {**OPTIONS, "shuffle_block": block}
    with FastLoader(url, **{**options, "workers": 0}) as loader:
        expected = [*batches_of(loader, 2)]
    assert sorted(label for _, labels, _ in expected[:BATCHES] for label in labels) == [*range(100)]
    with FastLoader(url, **options) as loader:
        iterator = iter(loader)
        found = [as_batch(next(iterator)) for _ in range(5)]
        state = loader.state_dict()
    with FastLoader(url, **options) as loader:
        loader.load_state_dict(state)
        assert found + batches_of(loader, 2) == expected


# ---- from epoch to epoch -------------------------------------------------------------------------


def test_workers_begin_the_next_epoch_by_themselves(small: str) -> None:
    with FastLoader(small, **{**OPTIONS, "slots": 4}) as loader:
        batches_of(loader)
        turn = loader.delivery.progress.iteration.turn
        following = turn._replace(epoch=turn.epoch + 1)
        feeders = loader.delivery.feeders
        for feeder in feeders:
            feeder.begin(following, 0)  # as the next iteration will; nothing is sent for this run
        wait_until(lambda: all(feeders[i].poll(following, i) for i in (0, 1)))


def test_an_epoch_that_was_left_early_is_not_resumed(small: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        for taken in (0, 1, 12):
            iterator = iter(loader)
            for _ in range(taken):
                next(iterator)
        batches_of(loader)
        assert loader.delivery.progress.iteration.turn == (4, 3, 0)
        batches_of(loader)
        assert loader.delivery.progress.iteration.turn == (4, 4, 0), (
            "but from a whole one to the next"
        )

"""``model.fit`` is killed, or stops, and resumes where it was saved."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import ConfigError, FastLoader, StateError

from .support import ROOT, simple_rows, table, wait_until

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed: Resume is untested")

import keras

from fastloader.adapters.keras import Resume

from . import fit_and_resume
from .small_models import BATCHES, OPTIONS, Steps, fit, model_of, scaled
from .tiers import full

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def steps_of(folder: Path) -> list[tuple[int, str]]:
    path = folder / "steps"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(line.split(" ")[0]), line.partition(" ")[2]) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return (database, labels by step, weights) of a training without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    url = table(folder / "t.db", [(k, i, n / 1000) for k, i, n in simple_rows(100)],
        columns="id INTEGER PRIMARY KEY, image_data BLOB, label REAL")  # fmt: skip
    weights = fit_and_resume.train(url, folder)
    steps = steps_of(folder)
    assert [step for step, _ in steps] == [*range(fit_and_resume.EPOCHS * BATCHES)]
    assert not (folder / "backup").exists(), "nothing is left when training is done"
    return url, dict(steps), weights


@full
@pytest.mark.timeout(600)  # TensorFlow is imported three times
def test_a_killed_fit_resumes_with_the_batches_of_an_uninterrupted_one(
    uninterrupted: Any, tmp_path: Path
) -> None:
    """A real training process is killed at random steps twice, and then ends."""
    url, expected, weights = uninterrupted
    rng = np.random.default_rng(1)
    for kills in (True, True, False):
        begun = len(steps_of(tmp_path))
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.fit_and_resume", url, str(tmp_path)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdin is not None
        with process:
            if kills:
                more = int(rng.integers(6, 12))
                process.stdin.write(b"\n" * more)
                process.stdin.flush()
                wait_until(lambda: len(steps_of(tmp_path)) == begun + more, timeout_s=240)  # noqa: B023
                time.sleep(float(rng.uniform(0, 0.01)))  # in the step, or while it is saved
                process.kill()
        assert (process.returncode != 0) == kills
        if kills:
            done = {step for step, _ in steps_of(tmp_path)}
            assert done < set(expected), "it was in the middle of things"
    steps = steps_of(tmp_path)
    assert all(labels == expected[step] for step, labels in steps), "each step sees its own batch"
    assert {step for step, _ in steps} == set(expected)
    began = [0, *(i for i in range(1, len(steps)) if steps[i][0] != steps[i - 1][0] + 1)]
    assert all(steps[i][0] % BATCHES for i in began[1:]), "and in the middle of epochs"
    found = json.loads((tmp_path / "weights.json").read_text())
    for ours, theirs in zip(found, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


class Crash(keras.callbacks.Callback):
    """Raises KeyboardInterrupt at a step of an epoch, after all other callbacks."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self._at, self._epoch = (epoch, batch), 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        if (self._epoch, batch) == self._at:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("execution", "batch"), [(1, 3), (1, 7), (1, 12), (4, 3), (4, 7), (4, 15)])
def test_every_step_is_taken_once_wherever_the_last_one_was_saved(
    small: str, tmp_path: Path, execution: int, batch: int
) -> None:
    """Keras may take four steps at once, and fewer at the end of an epoch."""
    options = {**OPTIONS, "shuffle": True}

    def train(*crash: Any) -> tuple[Any, int]:
        model = model_of(steps_per_execution=execution)
        with FastLoader(small, **options) as loader:
            callbacks = [Resume(loader, tmp_path / "r", save_freq=4), *crash]
            fit(model, scaled(loader.as_dataset()), epochs=3, callbacks=callbacks)
        return model.get_weights(), int(model.optimizer.iterations)

    expected, steps = train()
    assert steps == 3 * BATCHES
    with pytest.raises(KeyboardInterrupt):
        train(Crash(1, batch))
    found, steps = train()
    assert steps == 3 * BATCHES
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@full
def test_saving_at_the_end_of_epochs_needs_no_epochs_of_the_loader(
    small: str, tmp_path: Path
) -> None:
    def train(*crash: Any) -> tuple[Any, dict[str, Any]]:
        model = model_of()
        with FastLoader(small, **OPTIONS, shuffle=True) as loader:
            resume = Resume(loader, tmp_path / "r", delete_checkpoint=False)
            dataset = scaled(loader.as_dataset().repeat())
            fit(model, dataset, epochs=5, steps_per_epoch=6, callbacks=[resume, *crash])
        return model.get_weights(), json.loads((tmp_path / "r" / "state.json").read_text())

    expected, state = train()
    assert (state["epoch"], state["loader"]["epoch"], state["loader"]["batch"]) == (5, 2, 4)
    for path in (tmp_path / "r").iterdir():
        path.unlink()
    with pytest.raises(KeyboardInterrupt):
        train(Crash(3, 4))
    found, again = train()
    assert {**again, "weights": ""} == {**state, "weights": ""}
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    assert len([*(tmp_path / "r").iterdir()]) == 2, "the weights and where they belong"


@full
@pytest.mark.parametrize("steps", [None, BATCHES, 5])
def test_the_epochs_after_the_one_that_was_resumed_are_whole(
    small: str, tmp_path: Path, steps: int | None
) -> None:
    """With repeat(), an epoch of Keras need not be an epoch of the loader."""

    def train(*crash: Any) -> tuple[Any, dict[int, int], int]:
        model, counted = model_of(), Steps()
        with FastLoader(small, **OPTIONS, shuffle=True) as loader:
            dataset = scaled(loader.as_dataset() if steps is None else loader.as_dataset().repeat())
            callbacks = [counted, Resume(loader, tmp_path / "r", save_freq=4), *crash]
            fit(model, dataset, epochs=5, steps_per_epoch=steps, callbacks=callbacks)
        return model.get_weights(), counted.of_epoch, int(model.optimizer.iterations)

    each = steps or BATCHES
    expected, counts, iterations = train()
    assert counts == dict.fromkeys(range(5), each)
    with pytest.raises(KeyboardInterrupt):
        train(Crash(2, 4 if steps == 5 else 8))
    found, counts, again = train()
    assert again == iterations == 5 * each
    assert {epoch: counts[epoch] for epoch in (3, 4)} == {3: each, 4: each}
    assert 0 < counts[2] < each, "of the epoch that was resumed the rest"
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@full
def test_another_fit_after_a_resumed_one_begins_with_its_first_epoch(
    small: str, tmp_path: Path
) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        dataset = scaled(loader.as_dataset())
        with pytest.raises(KeyboardInterrupt):
            callbacks = [Resume(loader, tmp_path / "r"), Crash(3, 2)]
            fit(model_of(), dataset, epochs=5, callbacks=callbacks)
    with FastLoader(small, **OPTIONS) as loader:
        model, dataset = model_of(), scaled(loader.as_dataset())
        history = fit(model, dataset, epochs=5, callbacks=[Resume(loader, tmp_path / "r")])
        assert len(history["loss"]) == 2
        assert len(fit(model, dataset, epochs=3)["loss"]) == 3


@full
def test_stopping_early_still_stops_a_resumed_epoch(small: str, tmp_path: Path) -> None:
    class Enough(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.model.stop_training = True

    for order in (0, 1):
        folder = tmp_path / str(order)
        with FastLoader(small, **OPTIONS) as loader, pytest.raises(KeyboardInterrupt):
            callbacks = [Resume(loader, folder, save_freq=4), Crash(1, 8)]
            fit(model_of(), scaled(loader.as_dataset()), epochs=5, callbacks=callbacks)
        with FastLoader(small, **OPTIONS) as loader:
            callbacks = [Resume(loader, folder, save_freq=4)]
            callbacks.insert(order, Enough())
            history = fit(model_of(), scaled(loader.as_dataset()), epochs=5, callbacks=callbacks)
            assert len(history["loss"]) == 1


def test_take_is_an_error_with_advice(small: str, tmp_path: Path) -> None:
    with FastLoader(small, **OPTIONS, slots=2) as loader:
        dataset = scaled(loader.as_dataset().take(2))
        with pytest.raises(ConfigError, match=r"use repeat\(\) and steps_per_epoch"):
            fit(model_of(), dataset, epochs=4, callbacks=[Resume(loader, tmp_path / "r")])


def test_what_cannot_be_resumed_is_an_error_before_training(small: str, tmp_path: Path) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        with pytest.raises(ConfigError, match='save_freq=0 must be "epoch" or a number'):
            Resume(loader, tmp_path, save_freq=0)
        (tmp_path / "state.json").write_text("{}")
        with pytest.raises(StateError, match=r"state\.json was not written by Resume"):
            fit(model_of(), scaled(loader.as_dataset()), callbacks=[Resume(loader, tmp_path)])
    with (
        FastLoader(small, **OPTIONS, deterministic=False) as loader,
        pytest.raises(ConfigError, match="cannot be resumed: pass deterministic=True"),
    ):
        Resume(loader, tmp_path)
    with FastLoader(small, **OPTIONS, on_error="skip") as loader:
        Resume(loader, tmp_path)
        with pytest.raises(ConfigError, match='pass save_freq="epoch", or leave'):
            Resume(loader, tmp_path, save_freq=4)
    with FastLoader(small, **OPTIONS, on_error="skip", shard=(0, 2)) as loader:
        Resume(loader, tmp_path, save_freq=4)  # all shards have the same number of steps


def test_the_state_of_another_training_is_refused(small: str, tmp_path: Path) -> None:
    for seed in (1, 2):
        with FastLoader(small, **OPTIONS, shuffle=True, seed=seed) as loader:
            resume = Resume(loader, tmp_path / "r", delete_checkpoint=False)
            dataset = scaled(loader.as_dataset())
            if seed == 1:
                fit(model_of(), dataset, callbacks=[resume])
                continue
            with pytest.raises(StateError, match="saved with seed=1, and this loader has seed=2"):
                fit(model_of(), dataset, callbacks=[resume])

"""``model.fit`` over a loader: what it takes, where it goes on after a kill, what it logs."""

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

from .support import ROOT, jpeg, simple_rows, table, wait_until

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip(
    "tensorflow", reason="TensorFlow is not installed: its adapter is untested"
)

import keras  # noqa: E402

from fastloader.adapters.keras import Resume, Throughput  # noqa: E402

from . import fit_and_resume  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "workers": 2}
BATCHES = 13


def model_of(**compiled: Any) -> Any:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.layers.Input((8, 8, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(1),
        ]
    )
    model.compile(**{"optimizer": "sgd", "loss": "mse", **compiled})
    return model


def fit(model: Any, dataset: Any, **options: Any) -> Any:
    # fit() says shuffle=True by itself, of which Keras then warns that it means nothing here.
    return model.fit(dataset, verbose=0, shuffle=False, **options).history


def scaled(dataset: Any) -> Any:
    """Labels from 0 to 1."""
    return dataset.map(lambda x, y, *rest: (x, tf.cast(y, tf.float32) / 1000, *rest))


# ---- what fit() takes ----------------------------------------------------------------------------


def test_fit_with_validation_data_of_another_loader(small: str) -> None:
    with FastLoader(small, **OPTIONS, shuffle=True) as train, FastLoader(small, **OPTIONS) as val:
        history = fit(
            model_of(), scaled(train.as_dataset()), epochs=3,
            validation_data=scaled(val.as_dataset()),
        )  # fmt: skip
        assert len(history["loss"]) == len(history["val_loss"]) == 3
        assert history["val_loss"][2] < history["val_loss"][0]
        for loader in (train, val):
            assert loader.stats().rows == 300, "every row once an epoch, and no epoch too many"


def test_fit_with_repeat_and_steps_per_epoch_goes_through_the_epochs_of_the_loader(
    small: str,
) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        fit(model_of(), scaled(loader.as_dataset().repeat()), epochs=4, steps_per_epoch=5)
        assert loader.delivery.progress.iteration.turn.epoch == 1
        assert loader.state_dict(consumed=20)["batch"] == 7


def test_sample_weights_come_from_their_column_and_class_weights_from_fit(tmp_path: Path) -> None:
    """A row of weight 0 counts for nothing, whether its weight is its own or that of its class."""
    rows = [(i, jpeg(seed=i), i % 2, float(i % 2)) for i in range(40)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER, weight REAL"
    path = table(tmp_path / "t.db", rows, columns=columns)
    only = "SELECT * FROM images WHERE label = 1"

    def weights(batches: int, fit_options: dict[str, Any], **options: Any) -> np.ndarray:
        with FastLoader(path, **{**OPTIONS, "batch_size": batches}, **options) as loader:
            model = model_of(loss=keras.losses.MeanSquaredError(reduction="sum"))
            fit(model, loader.as_dataset(), epochs=2, **fit_options)
        return np.array(model.get_weights()[0])

    alone = weights(20, {}, query=only, label="label:float32")
    by_row = weights(40, {}, sample_weight="weight:float32", label="label:float32")
    by_class = weights(40, {"class_weight": {0: 0.0, 1: 1.0}})
    everything = weights(40, {}, label="label:float32")
    np.testing.assert_allclose(by_row, alone, rtol=1e-4)
    np.testing.assert_allclose(by_class, alone, rtol=1e-4)
    assert np.abs(everything - alone).max() > 1e-3


def test_sample_weights_stand_behind_the_labels_and_keys_beside_the_images(tmp_path: Path) -> None:
    rows = [(i, jpeg(), i, i + 0.5, i / 4) for i in range(8)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, a INTEGER, b REAL, w REAL"
    path = table(tmp_path / "t.db", rows, columns=columns)
    options = {**OPTIONS, "label": ["a", "b"], "sample_weight": "w", "with_keys": True}
    with FastLoader(path, **options) as loader:
        (batch,) = loader
        images, labels, weights = batch
        assert list(labels) == ["a", "b"]
        assert weights.tolist() == [i / 4 for i in range(8)]
        assert images["id"].tolist() == [*range(8)]
        assert tf.nest.map_structure(lambda spec: spec.dtype, loader.output_signature) == (
            {"image_data": tf.uint8, "id": tf.int64}, {"a": tf.int64, "b": tf.float64}, tf.float64,
        )  # fmt: skip


def test_epochs_of_as_many_steps_also_where_bad_rows_leave_batches_out(tmp_path: Path) -> None:
    """Where ``on_error="skip"`` has nothing left of two batches of five."""
    rows = [(k, b"" if 9 <= k <= 24 else i, k) for k, i, _ in simple_rows(40)]
    path = table(tmp_path / "t.db", rows)
    counted, model = Steps(), model_of()
    with FastLoader(path, **OPTIONS, on_error="skip") as loader:
        dataset = scaled(loader.as_dataset().repeat())
        history = fit(model, dataset, epochs=3, steps_per_epoch=len(loader), callbacks=[counted])
    assert counted.of_epoch == dict.fromkeys(range(3), 5)
    assert int(model.optimizer.iterations) == 15
    assert np.isfinite(history["loss"]).all()


FORMS: dict[str, Any] = {
    "as_dataset": lambda loader: loader.as_dataset(),
    "from_generator": lambda loader: tf.data.Dataset.from_generator(
        loader, output_signature=loader.output_signature
    ),
    "the loader itself": iter,
    "DataLoader": lambda loader: torch_data().DataLoader(loader.as_torch(), batch_size=None),
}
"""All that Keras takes batches from."""


def torch_data() -> Any:
    return pytest.importorskip("torch.utils.data", reason="no PyTorch: its form is untested")


@pytest.mark.filterwarnings("ignore:The structure of `inputs` doesn't match:UserWarning")
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")  # length unknown
@pytest.mark.parametrize(
    ("form", "label"), [*((form, "label") for form in FORMS), ("as_dataset", None)]
)
def test_keys_are_never_taken_for_weights_or_targets(
    small: str, form: str, label: str | None
) -> None:
    """A model whose input is named after the column of the images finds them; any other is told
    that it got a dict."""
    layout = {"layout": "NCHW"} if form == "DataLoader" else {}
    options = {**OPTIONS, **layout, "dtype": "float32", "label": label}

    def model(name: str | None) -> Any:
        keras.utils.set_random_seed(1)
        shape = (3, 8, 8) if layout else (8, 8, 3)
        layers = [keras.layers.Input(shape, name=name), keras.layers.Flatten()]
        made = keras.Sequential([*layers, keras.layers.Dense(1)])
        made.compile("sgd", "mse")
        return made

    def run(name: str | None, with_keys: bool) -> Any:
        with FastLoader(small, **options, with_keys=with_keys) as loader:
            batches = FORMS[form](loader)
            if label is None:
                return model(name).predict(batches, verbose=0)
            return model(name).evaluate(batches, verbose=0)

    np.testing.assert_allclose(run("image_data", True), run(None, False), rtol=1e-5)
    with pytest.raises(ValueError, match="image_data"):
        run(None, True)
    if label is None:
        with (
            FastLoader(small, **options, with_keys=True) as loader,
            pytest.raises(ValueError, match="None values not supported"),
        ):
            model("image_data").fit(FORMS[form](loader), verbose=0, shuffle=False)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_takes_images_of_its_own_type(small: str, policy: str) -> None:
    keras.mixed_precision.set_global_policy(policy)
    try:
        with FastLoader(small, **OPTIONS, dtype=policy.removeprefix("mixed_")) as loader:
            history = fit(model_of(), scaled(loader.as_dataset()), epochs=2)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert np.isfinite(history["loss"]).all()


def test_mirrored_strategies_split_every_batch(small: str) -> None:
    """On two logical CPUs, in a process of its own, since they are made before all else."""
    script = f"""
import json
import numpy as np, tensorflow as tf, keras
from fastloader import FastLoader
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
strategy = tf.distribute.MirroredStrategy(["/CPU:0", "/CPU:1"])
with FastLoader({small!r}, size=(8, 8), batch_size=8, workers=2) as loader, strategy.scope():
    dataset = strategy.experimental_distribute_dataset(loader.as_dataset())
    local = strategy.experimental_local_results
    print(json.dumps([[part.numpy().tolist() for part in local(y)] for _, y in dataset]))
    layers = [keras.layers.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("sgd", "mse")
    model.fit(loader.as_dataset(), epochs=2, verbose=0)
    print(loader.stats().rows)
    made = strategy.distribute_datasets_from_function(lambda c: loader_of(c).as_dataset())
    print(sum(len(part) for _, y in made for part in local(y)))
""".replace(
        "with FastLoader",
        f"""
def loader_of(context):
    assert context.num_input_pipelines == 1
    return FastLoader({small!r}, size=(8, 8), batch_size=4, workers=1, shard=context)
with FastLoader""",
        1,
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=110,
        check=False, cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    parts, rows, of_function = run.stdout.splitlines()
    assert [len(replica) for replica in json.loads(parts)[0]] == [4, 4]
    assert sorted(x for step in json.loads(parts) for part in step for x in part) == [
        *range(0, 1000, 10)
    ]
    assert int(rows) >= 300
    assert int(of_function) == 100


def test_a_device_that_is_not_there_is_an_error_that_lists_those_that_are(small: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        with pytest.raises(ConfigError, match="sees no device '/GPU:7'; it sees .*CPU:0"):
            loader.as_dataset(device="/GPU:7")
        labels = [int(y) for _, ys in loader.as_dataset(device="/CPU:0") for y in ys]
        assert labels == [*range(0, 1000, 10)]


# ---- going on ------------------------------------------------------------------------------------


def steps_of(folder: Path) -> list[tuple[int, str]]:
    path = folder / "steps"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(line.split(" ")[0]), line.partition(" ")[2]) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(database, labels by step, weights) of a training that nobody disturbs."""
    folder = tmp_path_factory.mktemp("whole")
    url = table(folder / "t.db", [(k, i, n / 1000) for k, i, n in simple_rows(100)],
        columns="id INTEGER PRIMARY KEY, image_data BLOB, label REAL")  # fmt: skip
    weights = fit_and_resume.train(url, folder)
    steps = steps_of(folder)
    assert [step for step, _ in steps] == [*range(fit_and_resume.EPOCHS * BATCHES)]
    assert not (folder / "backup").exists(), "nothing is left when training is done"
    return url, dict(steps), weights


@pytest.mark.timeout(300)  # TensorFlow is imported four times
def test_a_killed_fit_goes_on_with_the_batches_of_an_uninterrupted_one(
    uninterrupted: Any, tmp_path: Path
) -> None:
    """kill -9 at random steps of a real training process, three times; then it may end."""
    url, expected, weights = uninterrupted
    rng = np.random.default_rng(1)
    for kills in (True, True, True, False):
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
                wait_until(lambda: len(steps_of(tmp_path)) == begun + more, timeout_s=100)  # noqa: B023
                time.sleep(float(rng.uniform(0, 0.01)))  # in the step, or while it is saved
                process.kill()
        assert (process.returncode != 0) == kills
    steps = steps_of(tmp_path)
    assert all(labels == expected[step] for step, labels in steps), "each step sees its own batch"
    assert {step for step, _ in steps} == set(expected)
    began = [0, *(i for i in range(1, len(steps)) if steps[i][0] != steps[i - 1][0] + 1)]
    assert len(began) >= 3, "it was in the middle of things"
    assert all(steps[i][0] % BATCHES for i in began[1:]), "and in the middle of epochs"
    found = json.loads((tmp_path / "weights.json").read_text())
    for ours, theirs in zip(found, weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


class Crash(keras.callbacks.Callback):
    """Raises at a step of an epoch, behind all other callbacks."""

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
    """Also where Keras takes four steps at once, and the last of an epoch is a fraction of that."""
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


class Steps(keras.callbacks.Callback):
    """How many steps each epoch had."""

    def __init__(self) -> None:
        super().__init__()
        self.of_epoch: dict[int, int] = {}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._epoch = epoch
        self.of_epoch[epoch] = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self.of_epoch[self._epoch] += 1


@pytest.mark.parametrize("steps", [None, BATCHES, 5])
def test_the_epochs_after_the_one_that_was_resumed_are_whole(
    small: str, tmp_path: Path, steps: int | None
) -> None:
    """Also with repeat(), where an epoch of Keras need not be one of the loader."""

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


def test_an_epoch_that_leaves_the_loaders_early_is_an_error_with_advice(
    small: str, tmp_path: Path
) -> None:
    with FastLoader(small, **OPTIONS, slots=2) as loader:
        dataset = scaled(loader.as_dataset().take(2))
        with pytest.raises(ConfigError, match=r"use repeat\(\) and steps_per_epoch"):
            fit(model_of(), dataset, epochs=4, callbacks=[Resume(loader, tmp_path / "r")])


def test_what_cannot_be_resumed_is_said_before_training(small: str, tmp_path: Path) -> None:
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
        with pytest.raises(ConfigError, match='pass save_freq="epoch" or on_error="fill"'):
            Resume(loader, tmp_path, save_freq=4)
    with FastLoader(small, **OPTIONS, on_error="skip", shard=(0, 2)) as loader:
        Resume(loader, tmp_path, save_freq=4)  # all shards have as many steps


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


# ---- what it logs --------------------------------------------------------------------------------


class Slow(keras.callbacks.Callback):
    """A model that takes its time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        time.sleep(self._seconds)


def test_images_per_second_and_the_share_of_waiting_stand_beside_the_loss(
    small: str, tmp_path: Path
) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        callbacks = [
            Slow(0.1), Throughput(loader), keras.callbacks.TensorBoard(tmp_path),
            keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
        ]  # fmt: skip
        history = fit(model_of(), scaled(loader.as_dataset()), epochs=3, callbacks=callbacks)
    assert list(history) == ["loss", "images_per_s", "data_wait"]
    # 8 images take at least 100 ms; the first epoch has to compile the model.
    assert 0 < history["images_per_s"][2] <= 80
    assert history["data_wait"][2] < 0.5
    assert (tmp_path / "log.csv").read_text().startswith("epoch,data_wait,images_per_s,loss")
    logged = b"".join(path.read_bytes() for path in tmp_path.glob("train/events*"))
    assert b"epoch_images_per_s" in logged
    assert b"epoch_data_wait" in logged


def test_a_slow_loader_shows_as_waiting(tmp_path: Path) -> None:
    big = jpeg(2000, 1500)
    path = table(tmp_path / "t.db", [(i, big, i) for i in range(40)])
    with FastLoader(path, size=(8, 8), batch_size=4, workers=1, slots=2) as loader:
        callbacks = [Throughput(loader)]
        history = fit(model_of(), scaled(loader.as_dataset()), epochs=3, callbacks=callbacks)
    assert history["data_wait"][2] > 0.5

"""``model.fit`` over a loader: what it takes, and what it logs."""

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

from fastloader import ConfigError, FastLoader

from .support import ROOT, jpeg, simple_rows, table
from .tiers import full

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip(
    "tensorflow", reason="TensorFlow is not installed: its adapter is untested"
)

import keras  # noqa: E402

from fastloader.adapters.keras import Throughput  # noqa: E402

from .small_models import OPTIONS, Steps, fit, model_of, scaled  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

# ---- what fit() takes ----------------------------------------------------------------------------


@full
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


@full
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


def test_sample_weights_come_after_the_labels_and_keys_alongside_the_images(tmp_path: Path) -> None:
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


def test_epochs_have_the_same_number_of_steps_even_if_batches_are_left_out(tmp_path: Path) -> None:
    """Here ``on_error="skip"`` leaves nothing of two batches in five."""
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
"""Everything that Keras takes batches from."""


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
    """A model finds the images if its input has the name of their column.

    Any other model raises an error that says it got a dict.
    """
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


@full
def test_mirrored_strategies_split_every_batch(small: str) -> None:
    """The two logical CPUs have to be made first of all, so this runs in its own process."""
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
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=200,
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


def test_a_missing_device_is_an_error_that_lists_the_available_ones(small: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        with pytest.raises(ConfigError, match="sees no device '/GPU:7'; it sees .*CPU:0"):
            loader.as_dataset(device="/GPU:7")
        labels = [int(y) for _, ys in loader.as_dataset(device="/CPU:0") for y in ys]
        assert labels == [*range(0, 1000, 10)]


# ---- what it logs --------------------------------------------------------------------------------


class Slow(keras.callbacks.Callback):
    """Stands in for a slow model."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        time.sleep(self._seconds)


def test_images_per_second_and_the_share_of_waiting_are_logged_alongside_the_loss(
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


@full
def test_a_slow_loader_shows_as_waiting(tmp_path: Path) -> None:
    big = jpeg(2000, 1500)
    path = table(tmp_path / "t.db", [(i, big, i) for i in range(40)])
    with FastLoader(path, size=(8, 8), batch_size=4, workers=1, slots=2) as loader:
        callbacks = [Throughput(loader)]
        history = fit(model_of(), scaled(loader.as_dataset()), epochs=3, callbacks=callbacks)
    assert history["data_wait"][2] > 0.5

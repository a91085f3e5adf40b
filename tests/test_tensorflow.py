"""Batches through tf.data: aliased, in order, kept or not, and errors with their text."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import FastLoader

from .support import (
    jpeg,
    needs_data,
    photos,
    simple_rows,
    table,
    unpacked,
    worker_processes,
)

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
tf = pytest.importorskip("tensorflow")

OPTIONS = {"size": (16, 16), "batch_size": 8, "workers": 2}
LABELS = list(range(0, 1000, 10))

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=[2, None], ids=["slots=2", "slots=default"])
def loader(request: pytest.FixtureRequest, small: str) -> Iterator[FastLoader]:
    with FastLoader(small, slots=request.param, **OPTIONS) as loader:
        yield loader
        gc.collect()


def from_generator(loader: FastLoader) -> Any:
    return tf.data.Dataset.from_generator(loader, output_signature=loader.output_signature)


def labels_of(batches: Any) -> list[int]:
    return [label for _, labels in batches for label in np.ravel(labels).tolist()]


def address(tensor: Any) -> int:
    """Return the address of the values of a tensor; ``tensor.numpy()`` would be a copy."""
    if tensor.dtype == tf.bfloat16:  # no type of Python's buffers; this shares the memory
        tensor = tf.bitcast(tensor, tf.uint16)
    return int(np.asarray(memoryview(tensor)).ctypes.data)


def in_ring(loader: FastLoader, tensor: Any) -> bool:
    return loader.delivery.aliases(address(tensor))


# ---- aliasing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
@pytest.mark.parametrize("form", ["from_generator", "older from_generator", "as_dataset"])
def test_every_batch_that_reaches_tf_data_lies_in_the_ring(
    small: str, workers: int, form: str
) -> None:
    with FastLoader(small, **{**OPTIONS, "workers": workers, "with_keys": True}) as loader:
        if form == "as_dataset":
            dataset = loader.as_dataset()
        elif form == "from_generator":
            dataset = from_generator(loader)
        else:
            dataset = tf.data.Dataset.from_generator(
                loader, output_types=loader.output_types, output_shapes=loader.output_shapes
            )
        for _ in range(2):
            count = 0
            for images, labels, keys in unpacked(dataset):
                assert in_ring(loader, images)
                assert not in_ring(loader, labels), "which are small, and copied"
                assert not in_ring(loader, keys)
                count += 1
            assert count == 13
        assert loader.stats().copies == 0


@needs_data
def test_photographs_at_full_size_lie_in_the_ring_with_the_default_options(tmp_path: Path) -> None:
    rows = [(i, path.read_bytes(), i) for i, path in enumerate(photos(400))]
    with FastLoader(table(tmp_path / "t.db", rows), workers=2) as loader:
        for dataset in (from_generator(loader), loader.as_dataset()):
            assert [in_ring(loader, images) for images, _ in dataset] == [True] * 7
        assert loader.stats().copies == 0


# ---- no hang, and the right data -----------------------------------------------------------------


def test_a_list_of_all_batches(loader: FastLoader) -> None:
    batches = list(loader.as_dataset())
    assert labels_of(batches) == LABELS
    assert labels_of(batches) == LABELS, "and they keep their values"
    stats = loader.stats()
    assert stats.leases + stats.copies == 13
    assert stats.copies == 13 - min(13, 2 * (loader.config.slots - 1))


def test_a_list_of_all_batches_from_the_plain_generator(loader: FastLoader) -> None:
    assert labels_of(list(from_generator(loader))) == LABELS


def test_shuffle_that_holds_everything(loader: FastLoader) -> None:
    shuffled = labels_of(loader.as_dataset().shuffle(1000, seed=1))
    assert shuffled != LABELS
    assert sorted(shuffled) == LABELS


def test_cache_in_memory(loader: FastLoader) -> None:
    dataset = loader.as_dataset().cache()
    assert labels_of(dataset) == LABELS
    assert labels_of(dataset) == LABELS
    assert loader.stats().epochs == 1


def test_prefetch_with_autotune(loader: FastLoader) -> None:
    assert labels_of(loader.as_dataset().prefetch(tf.data.AUTOTUNE)) == LABELS


def test_batches_of_batches(loader: FastLoader) -> None:
    dataset = loader.as_dataset().take(12).batch(5)
    assert labels_of(dataset) == LABELS[:96]


def test_map_filter_and_repeat(loader: FastLoader) -> None:
    dataset = loader.as_dataset().map(lambda x, y: (tf.cast(x, tf.float32) / 255, y)).repeat(3)
    assert labels_of(dataset) == LABELS * 3
    assert loader.stats().epochs == 3


def test_keeping_every_batch_of_three_epochs(loader: FastLoader) -> None:
    dataset = loader.as_dataset()
    assert labels_of([batch for _ in range(3) for batch in dataset]) == LABELS * 3


def losses(dataset: Any) -> list[float]:
    """Return the losses of three epochs of the same small model over a dataset."""
    tf.keras.utils.set_random_seed(1)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((16, 16, 3)),
            tf.keras.layers.Rescaling(1 / 255),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(1),
        ]
    )
    model.compile("sgd", "mse", steps_per_execution=8)
    dataset = dataset.map(lambda x, y: (x, tf.cast(y, tf.float32) / 1000))
    history = model.fit(dataset, epochs=3, verbose=0, shuffle=False)
    return list(history.history["loss"])


# Keras warns of every dataset of unknown length, as one from from_generator is.
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("form", ["from_generator", "as_dataset"])
def test_model_fit_with_steps_per_execution(loader: FastLoader, form: str) -> None:
    images, labels = (np.concatenate(part) for part in zip(*loader, strict=True))
    expected = losses(tf.data.Dataset.from_tensor_slices((images, labels)).batch(8))
    dataset = from_generator(loader) if form == "from_generator" else loader.as_dataset()
    np.testing.assert_allclose(losses(dataset), expected, rtol=1e-5)


def test_the_labels_go_with_their_images(tmp_path: Path) -> None:
    """Every image has one color, and its label names it."""
    import io

    from PIL import Image

    def flat(level: int) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (20, 20), (level, level, level)).save(out, "JPEG", quality=95)
        return out.getvalue()

    path = table(tmp_path / "t.db", [(i, flat(2 * i), 2 * i) for i in range(120)])
    with FastLoader(path, slots=2, **OPTIONS) as loader:
        for images, labels in list(loader.as_dataset()):
            np.testing.assert_allclose(images.numpy().mean((1, 2, 3)), labels.numpy(), atol=1.5)


# ---- iterations ----------------------------------------------------------------------------------


def test_the_order_is_that_of_the_plan_and_the_cardinality_is_known(loader: FastLoader) -> None:
    dataset = loader.as_dataset()
    assert dataset.cardinality().numpy() == len(dataset) == len(loader) == 13
    for _ in range(3):
        assert labels_of(dataset) == LABELS


def test_an_iteration_begins_a_new_epoch_whatever_became_of_the_last(loader: FastLoader) -> None:
    dataset = loader.as_dataset()
    assert labels_of(dataset.take(5)) == LABELS[:40]
    assert labels_of(dataset) == LABELS
    abandoned = iter(dataset)
    next(abandoned)
    del abandoned
    assert labels_of(dataset) == LABELS
    unused = iter(dataset)
    assert labels_of(dataset) == LABELS
    del unused
    for _ in dataset:
        break
    assert labels_of(dataset) == LABELS


def test_of_two_iterators_the_older_ends_with_an_error_that_keeps_its_text(small: str) -> None:
    with FastLoader(small, **{**OPTIONS, "batch_size": 1}) as loader:
        dataset = loader.as_dataset()
        older = iter(dataset)
        next(older)
        newer = iter(dataset)
        next(newer)
        with pytest.raises(tf.errors.OpError, match="SupersededError.*has ended because a newer"):
            for _ in older:
                pass
        assert len(labels_of(newer)) == 99


def test_autotuning_is_off_until_somebody_wants_it(loader: FastLoader) -> None:
    dataset = loader.as_dataset()
    assert dataset.options().autotune.enabled is False
    options = tf.data.Options()
    options.autotune.enabled = True
    assert dataset.with_options(options).options().autotune.enabled is True


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_any_prefetch_will_do(small: str, prefetch: int) -> None:
    with FastLoader(small, prefetch=prefetch, **OPTIONS) as loader:
        assert labels_of(loader.as_dataset()) == LABELS


def test_signatures(small: str) -> None:
    def spec(**options: Any) -> Any:
        with FastLoader(small, **{**OPTIONS, **options}) as loader:
            return loader.output_signature

    images = tf.TensorSpec((None, 16, 16, 3), tf.uint8, "images")
    assert spec(label=None) == images
    assert spec() == (images, tf.TensorSpec((None,), tf.int64))
    assert spec(drop_remainder=True)[0].shape == (8, 16, 16, 3)
    assert spec(drop_remainder=True, on_error="skip")[0].shape == (None, 16, 16, 3)
    labels = spec(label=["label:float32"], with_keys=True)[1]
    assert labels == {"label": tf.TensorSpec((None,), tf.float32)}


def test_text_and_vectors_reach_tensorflow(tmp_path: Path) -> None:
    vector = np.arange(3, dtype=np.float32)
    rows = [(i, jpeg(), f"näme {i}", (vector * i).tobytes()) for i in range(20)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, t TEXT, v BLOB"
    path = table(tmp_path / "t.db", rows, columns=columns)
    with FastLoader(path, label=["t", "v:float32"], **OPTIONS) as loader:
        batches = [labels for _, labels in loader.as_dataset()]
        names = [name.decode() for labels in batches for name in labels["t"].numpy()]
        assert names == [f"näme {i}" for i in range(20)]
        vectors = np.concatenate([labels["v"].numpy() for labels in batches])
        np.testing.assert_array_equal(vectors, np.arange(20)[:, None] * vector)


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("form", ["from_generator", "as_dataset"])
def test_the_text_of_an_error_survives(tmp_path: Path, form: str, workers: int) -> None:
    rows = simple_rows(40)
    rows[20] = (21, b"GIF89a", 0)
    with FastLoader(table(tmp_path / "t.db", rows), **{**OPTIONS, "workers": workers}) as loader:
        dataset = from_generator(loader) if form == "from_generator" else loader.as_dataset()
        with pytest.raises(tf.errors.OpError, match="RowError: row with key 21: unknown image"):
            list(dataset)


def test_a_dead_worker_is_an_error_with_its_text(small: str) -> None:
    with FastLoader(small, max_restarts=0, slots=2, **OPTIONS) as loader:
        iterator = iter(loader.as_dataset())
        next(iterator)
        for process in worker_processes():
            process.kill()
        with pytest.raises(tf.errors.OpError, match="WorkerDied: worker . was killed by SIGKILL"):
            list(iterator)


def test_skipping_leaves_no_empty_batch_and_no_cardinality(tmp_path: Path) -> None:
    rows = [(k, b"" if 9 <= k <= 24 else i, n) for k, i, n in simple_rows(40)]
    path = table(tmp_path / "t.db", rows)
    with FastLoader(path, on_error="skip", **OPTIONS) as loader:
        dataset = loader.as_dataset()
        assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
        assert [len(labels) for _, labels in dataset] == [8, 8, 8]


@pytest.mark.parametrize("form", ["from_generator", "as_dataset"])
def test_skipping_in_a_shard_leaves_every_step_and_the_cardinality(
    tmp_path: Path, form: str
) -> None:
    """Empty batches are delivered, so that no host has fewer steps than another."""
    rows = [(k, b"" if 25 <= k <= 32 else i, n) for k, i, n in simple_rows(36)]
    path = table(tmp_path / "t.db", rows)
    with FastLoader(path, on_error="skip", shard=(1, 2), **OPTIONS) as loader:
        dataset = loader.as_dataset() if form == "as_dataset" else from_generator(loader)
        if form == "as_dataset":
            assert dataset.cardinality() == 3
        for _ in range(2):
            assert [len(labels) for _, labels in dataset] == [8, 0, 2]
            assert [images.shape[0] for images, _ in dataset] == [8, 0, 2]


# ---- images of other types and several columns ---------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_images_of_every_type_arrive_without_a_copy(small: str, dtype: str, layout: str) -> None:
    options = {**OPTIONS, "workers": 2, "dtype": dtype, "layout": layout, "size": (8, 16)}
    shape = (8, 16, 3) if layout == "NHWC" else (3, 8, 16)
    with FastLoader(small, **options) as loader:
        expected = [images.astype(np.float32) for images, _ in loader]
        dataset = loader.as_dataset()
        assert dataset.element_spec[0] == tf.TensorSpec((None, *shape), dtype, name="images")
        for (images, _), numbers in zip(dataset, expected, strict=True):
            assert in_ring(loader, images)
            np.testing.assert_array_equal(tf.cast(images, tf.float32), numbers)
        assert loader.stats().copies == 0


def test_several_image_columns_arrive_as_a_dict(tmp_path: Path) -> None:
    rows = [(i, jpeg(seed=i), jpeg(seed=50 + i), i) for i in range(10)]
    columns = "id INTEGER PRIMARY KEY, left BLOB, right BLOB, label INTEGER"
    url = table(tmp_path / "two.db", rows, columns=columns)
    options = {"image": ["left", "right"], "size": {"right": (8, 8)}, "batch_size": 5, "workers": 2}
    with FastLoader(url, **options) as loader:
        for dataset in (loader.as_dataset(), from_generator(loader)):
            for images, _ in dataset:
                assert images["left"].shape == (5, 224, 224, 3)
                assert images["right"].shape == (5, 8, 8, 3)
                assert in_ring(loader, images["left"])
                assert in_ring(loader, images["right"])
        assert loader.stats().copies == 0


def test_a_look_at_the_next_batch_does_not_disturb_a_dataset(small: str) -> None:
    options = {"size": (16, 16), "batch_size": 8, "workers": 2, "slots": 3}
    with FastLoader(small, **options) as loader:
        dataset = loader.as_dataset()
        loader.peek()
        for _ in range(2):
            labels = []
            for _, some in dataset:
                labels += some.numpy().tolist()
                loader.peek()
            assert labels == list(range(0, 1000, 10))
        assert loader.stats().rows == 200

"""One contract for all consumers: each delivers what iterating the loader delivers."""

from __future__ import annotations

import functools
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastloader import FastLoader, per_batch, per_row

from . import small_transforms as functions
from .support import jpeg, simple_rows, table, unpacked
from .tiers import few

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# protobuf and NumPy warn of how TensorFlow uses them.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Images = dict[str, bytes]
Batch = tuple[Images, list[int], list[int]]
"""Bytes of the images as they lie in memory, by column; labels; keys."""

OPTIONS: dict[str, Any] = {"size": (16, 12), "batch_size": 8, "with_keys": True, "slots": 3}

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "shuffle": {"shuffle": True, "seed": 5},
    "shuffle in blocks of 8": {"shuffle": True, "shuffle_block": 8},
    "shard 0 of 2": {"shuffle": True, "shard": (0, 2)},
    "shard 1 of 2": {"shard": (1, 2)},
    "float32, channels first": {"dtype": "float32", "layout": "NCHW"},
    "bfloat16": {"dtype": "bfloat16"},
    "crops and flips": {"fit": "random_crop", "flip": True, "seed": 3},
    "skip": {"on_error": "skip"},
    "transform": {"transform": functions.jitter, "shuffle": True},
    "transform that drops": {"transform": per_row(functions.drop_thirds, drops=True)},
    "transform to float32": {"transform": per_batch(functions.halved)},
    "several image columns": {"image": ["image_data", "other"], "layout": {"other": "NCHW"}},
}


# ---- consumers -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Consumer:
    """A way to take batches from a loader.

    Attributes
    ----------
    batches
        Makes an iterable from a loader; each iteration of it is an epoch.
    as_numpy
        Turns an array of a batch into one that lies in memory as the loader's does. It is given the
        loader, the array, and the name of its image column.
    runs_ahead
        Whether ``state_dict()`` has to be told how many batches were consumed.
    """

    batches: Callable[[FastLoader], Any]
    as_numpy: Callable[[FastLoader, Any, str | None], Any]
    runs_ahead: bool = False

    def epoch(self, loader: FastLoader, batches: Any) -> Iterator[Batch]:
        for images, labels, keys in unpacked(batches):
            if not isinstance(images, dict):
                images = {loader.config.image: images}  # noqa: PLW2901
            yield (
                {n: self.as_numpy(loader, image, n).tobytes() for n, image in images.items()},
                self.as_numpy(loader, labels, None).tolist(),
                self.as_numpy(loader, keys, None).tolist(),
            )

    @staticmethod
    def stateful(loader: FastLoader, batches: Any) -> Any:
        """Return the object whose state_dict() and load_state_dict() users call."""
        dataset = getattr(batches, "dataset", batches)  # PyTorch's DataLoader has it
        return dataset if hasattr(dataset, "state_dict") else loader


def numpy_itself() -> Consumer:
    return Consumer(lambda loader: loader, lambda _loader, array, _image: array)


def from_generator() -> Consumer:
    tf = pytest.importorskip("tensorflow", reason="no TensorFlow: from_generator is not tested")
    return Consumer(
        lambda loader: tf.data.Dataset.from_generator(
            loader, output_signature=loader.output_signature
        ),
        lambda _loader, tensor, _image: tensor.numpy(),
        runs_ahead=True,  # tf.data puts a prefetch behind any dataset
    )


def as_dataset() -> Consumer:
    pytest.importorskip("tensorflow", reason="no TensorFlow: as_dataset is not tested")
    return Consumer(
        lambda loader: loader.as_dataset(),
        lambda _loader, tensor, _image: tensor.numpy(),
        runs_ahead=True,
    )


def as_torch() -> Consumer:
    torch = pytest.importorskip("torch", reason="no PyTorch: as_torch is not tested")
    from fastloader.adapters.torch import as_torch

    def as_numpy(loader: FastLoader, tensor: Any, image: str | None) -> Any:
        if image is not None and loader.config.inputs[image].layout == "NHWC":
            tensor = tensor.permute(0, 2, 3, 1)
        return (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()

    return Consumer(
        lambda loader: torch.utils.data.DataLoader(as_torch(loader), batch_size=None), as_numpy
    )


def as_jax() -> Consumer:
    pytest.importorskip("jax", reason="no JAX: as_jax is not tested")
    from fastloader.adapters.jax import as_jax

    return Consumer(as_jax, lambda _loader, array, _image: np.asarray(array))


@pytest.fixture(params=[numpy_itself, from_generator, as_dataset, as_torch, as_jax])
def consumer(request: pytest.FixtureRequest) -> Consumer:
    return request.param()  # type: ignore[no-any-return]


# ---- the contract --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a table of 60 rows with two images each."""
    rows = [(key, image, jpeg(seed=key), n) for key, image, n in simple_rows(60, gap=3)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, other BLOB, label INTEGER"
    return table(tmp_path_factory.mktemp("conformance") / "t.db", rows, columns=columns)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a table of 60 rows, in which single rows, a whole batch and the last rows are bad."""
    broken = {3, 4, *range(16, 24), 59}
    rows = [(k, b"" if i in broken else image, n)
            for i, (k, image, n) in enumerate(simple_rows(60))]  # fmt: skip
    return table(tmp_path_factory.mktemp("conformance") / "bad.db", rows)


@dataclass(frozen=True)
class Case:
    """Options, and the three epochs that the loader delivers with them."""

    options: dict[str, Any]
    epochs: list[list[Batch]]

    @classmethod
    def of(cls, **options: Any) -> Case:
        with FastLoader(**options, workers=0) as loader:
            epochs = [list(numpy_itself().epoch(loader, loader)) for _ in range(3)]
        return cls(options, epochs)


@pytest.fixture(scope="module")
def cases(url: str, bad: str) -> Callable[[str], Case]:
    """Return a function that makes a case by its name, once."""

    def made(name: str) -> Case:
        options = {**OPTIONS, **CASES[name]}
        return Case.of(url=bad if "on_error" in options else url, **options)

    return functools.cache(made)


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest, cases: Callable[[str], Case]) -> Case:
    return cases(request.param)


@few(4)
def test_every_epoch_has_the_same_keys_labels_and_pixels_in_the_same_order(
    consumer: Consumer, case: Case
) -> None:
    with FastLoader(**case.options, workers=2) as loader:
        batches = consumer.batches(loader)
        for expected in case.epochs:
            assert list(consumer.epoch(loader, batches)) == expected
        assert loader.stats().epochs == 3


@few(6)
def test_another_loader_resumes_in_the_middle_of_an_epoch(consumer: Consumer, case: Case) -> None:
    first, second, third = case.epochs
    taken = 2
    with FastLoader(**case.options, workers=0) as loader:
        batches = consumer.batches(loader)
        assert list(consumer.epoch(loader, batches)) == first
        begun = consumer.epoch(loader, batches)
        assert list(itertools.islice(begun, taken)) == second[:taken]
        consumed = {"consumed": len(first) + taken} if consumer.runs_ahead else {}
        state = consumer.stateful(loader, batches).state_dict(**consumed)
    with FastLoader(**case.options, workers=2) as loader:
        batches = consumer.batches(loader)
        consumer.stateful(loader, batches).load_state_dict(json.loads(json.dumps(state)))
        assert list(consumer.epoch(loader, batches)) == second[taken:]
        assert list(consumer.epoch(loader, batches)) == third


def test_batches_that_are_kept_keep_their_values(
    consumer: Consumer, cases: Callable[[str], Case]
) -> None:
    case = cases("crops and flips")
    with FastLoader(**{**case.options, "slots": 2}, workers=2) as loader:
        batches = consumer.batches(loader)
        kept = [[*batches] for _ in range(3)]
        assert [list(consumer.epoch(loader, epoch)) for epoch in kept] == case.epochs


def test_leaving_an_epoch_early_begins_the_next(
    consumer: Consumer, cases: Callable[[str], Case]
) -> None:
    case = cases("shuffle")
    with FastLoader(**case.options, workers=2) as loader:
        batches = consumer.batches(loader)
        begun = list(itertools.islice(consumer.epoch(loader, batches), 3))
        assert begun == case.epochs[0][:3]
        assert list(consumer.epoch(loader, batches)) == case.epochs[1]

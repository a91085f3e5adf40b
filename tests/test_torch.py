"""Batches through PyTorch: aliased, channels first, through DataLoader, and pinned."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import ConfigError, CopyError, FastLoader

from .support import jpeg, parts_of, table, unpacked
from .tiers import full

torch = pytest.importorskip("torch", reason="no PyTorch: fastloader.adapters.torch is not tested")

from fastloader.adapters.torch import as_torch  # noqa: E402  # which is an error without PyTorch

OPTIONS: dict[str, Any] = {"size": (16, 24), "batch_size": 8, "workers": 2}
LABELS = list(range(0, 1000, 10))


def through_data_loader(dataset: Any, **options: Any) -> Any:
    return torch.utils.data.DataLoader(dataset, **{"batch_size": None, "num_workers": 0, **options})


def labels_of(batches: Any) -> list[int]:
    return [label for _, labels in batches for label in labels.tolist()]


def in_ring(loader: FastLoader, tensor: Any) -> bool:
    return loader.delivery.aliases(tensor.data_ptr())


# ---- tensors over the ring -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_images_are_channels_first_in_the_ring_and_hold_the_loaders_values(
    small: str, layout: str, dtype: str
) -> None:
    options = {**OPTIONS, "layout": layout, "dtype": dtype, "with_keys": True}
    with FastLoader(small, **options) as loader:
        expected = [images.astype(np.float64) for images, _, _ in unpacked(loader)]
        for (images, labels, keys), numbers in zip(
            unpacked(as_torch(loader)), expected, strict=True
        ):
            assert images.dtype == getattr(torch, dtype)
            assert images.shape == (len(labels), 3, 16, 24)
            if layout == "NHWC":
                assert images.is_contiguous(memory_format=torch.channels_last)
                in_order = images.permute(0, 2, 3, 1)
            else:
                assert images.is_contiguous()
                in_order = images
            np.testing.assert_array_equal(in_order.double().numpy(), numbers)
            assert labels.dtype == keys.dtype == torch.int64
            assert in_ring(loader, images)
            assert not in_ring(loader, labels), "which are small, and copied"
            assert not in_ring(loader, keys)
        assert loader.stats().copies == 0


def test_a_batch_has_the_loaders_structure(tmp_path: Path) -> None:
    vector = np.arange(3, dtype=np.float32)
    rows = [(i, jpeg(seed=i), jpeg(seed=50 + i), f"näme {i}", vector.tobytes(), i / 2)
            for i in range(10)]  # fmt: skip
    columns = "id INTEGER PRIMARY KEY, left BLOB, right BLOB, t TEXT, v BLOB, w REAL"
    url = table(tmp_path / "t.db", rows, columns=columns)
    options = {
        "image": ["left", "right"], "size": {"left": (16, 24), "right": (8, 8)},
        "layout": {"right": "NCHW"}, "label": ["t", "v:float32"], "sample_weight": "w",
        "with_keys": True, "batch_size": 5, "workers": 0,
    }  # fmt: skip
    with FastLoader(url, **options) as loader:
        for batches, kind in [(as_torch(loader), tuple),
                              (through_data_loader(as_torch(loader)), list)]:  # fmt: skip
            batch = next(iter(batches))
            assert type(batch) is kind
            images, labels, weights, keys = parts_of(batch)
            assert images["left"].shape == (5, 3, 16, 24)
            assert images["left"].is_contiguous(memory_format=torch.channels_last)
            assert images["right"].shape == (5, 3, 8, 8)
            assert images["right"].is_contiguous()
            assert labels["t"] == [f"näme {i}" for i in range(5)]
            assert labels["v"].dtype == torch.float32
            assert labels["v"].tolist() == [[0, 1, 2]] * 5
            assert weights.tolist() == [0, 0.5, 1, 1.5, 2]
            assert keys.tolist() == [0, 1, 2, 3, 4]


def test_images_come_alone_without_labels(small: str) -> None:
    with FastLoader(small, label=None, **OPTIONS) as loader:
        assert [len(images) for images in as_torch(loader)] == [8] * 12 + [4]


@pytest.mark.parametrize("slots", [2, None])
def test_every_batch_can_be_kept_and_keeps_its_values(small: str, slots: int | None) -> None:
    with FastLoader(small, slots=slots, **OPTIONS) as loader:
        expected = [images.copy() for images, _ in loader] * 2
        dataset = as_torch(loader)
        batches = [batch for _ in range(2) for batch in dataset]
        assert labels_of(batches) == LABELS * 2
        for (images, _), numbers in zip(batches, expected, strict=True):
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).numpy(), numbers)


def test_a_lease_ends_with_the_last_tensor_or_view(small: str) -> None:
    with FastLoader(small, **{**OPTIONS, "workers": 0}) as loader:
        ring = loader.delivery.feeders[0].ring
        images, labels = next(iter(as_torch(loader)))
        part = images[3, 1].numpy()
        del images, labels
        gc.collect()
        assert ring.take_back() == []
        del part
        gc.collect()
        assert ring.take_back() == [0]


# ---- DataLoader ----------------------------------------------------------------------------------


def test_data_loader_knows_the_length_and_begins_the_next_epoch_each_time(small: str) -> None:
    with FastLoader(small, shuffle=True, **OPTIONS) as loader:
        expected = [labels_of(loader) for _ in range(3)]
        loader.load_state_dict({**loader.state_dict(), "epoch": 0})
        batches = through_data_loader(as_torch(loader))
        assert len(batches) == len(loader) == 13
        assert [labels_of(batches) for _ in range(3)] == expected
        assert loader.stats().epochs == 6


def test_data_loader_resumes_from_a_state(small: str) -> None:
    with FastLoader(small, shuffle=True, **OPTIONS) as loader:
        dataset = as_torch(loader)
        batches = through_data_loader(dataset)
        first = labels_of(itertools.islice(batches, 5))
        state = dataset.state_dict()
    with FastLoader(small, shuffle=True, **OPTIONS) as loader:
        whole = labels_of(loader)
    with FastLoader(small, shuffle=True, **OPTIONS) as loader:
        dataset = as_torch(loader)
        dataset.load_state_dict(state)
        assert first + labels_of(through_data_loader(dataset)) == whole


def test_an_iterator_that_is_thrown_away_before_its_first_batch_is_no_epoch(small: str) -> None:
    """Torchdata's StatefulDataLoader makes one when it resumes after the end of an epoch."""
    with FastLoader(small, **OPTIONS) as loader:
        dataset = as_torch(loader)
        iter(dataset)
        assert loader.stats().epochs == 0
        assert labels_of(dataset) == LABELS


# torchdata 0.11 calls a function that PyTorch 2.13 has deprecated.
@full
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_stateful_data_loader_resumes_in_the_middle_and_at_the_end_of_an_epoch(small: str) -> None:
    reason = "no torchdata: StatefulDataLoader is not tested"
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason=reason)
    options = {**OPTIONS, "shuffle": True}
    with FastLoader(small, **options) as loader:
        whole = [labels.tolist() for _ in range(3) for _, labels in loader]
    for stop in (0, 5, 13, 16):
        with FastLoader(small, **options) as loader:
            batches = stateful.StatefulDataLoader(as_torch(loader), batch_size=None)
            first: list[list[int]] = []
            while len(first) < stop:
                for _, labels in batches:
                    first.append(labels.tolist())
                    if len(first) == stop != 13:  # 13 ends the epoch instead of leaving it
                        break
            assert first == whole[:stop]
            state = batches.state_dict()
        with FastLoader(small, **options) as loader:
            batches = stateful.StatefulDataLoader(as_torch(loader), batch_size=None)
            batches.load_state_dict(state)
            rest = [labels.tolist() for _ in range(2) for _, labels in batches]
            assert rest == whole[stop : stop + len(rest)]
            assert len(rest) > 13


# Python warns of the fork, because this process has threads.
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Got pickle error")  # torch announces the error
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_data_loader_are_refused_with_advice(small: str, context: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        batches = through_data_loader(
            as_torch(loader), num_workers=1, multiprocessing_context=context
        )
        error = ConfigError if context == "fork" else CopyError
        with pytest.raises(error, match=r"batch_size=None, num_workers=0"):
            next(iter(batches))


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_dataset_cannot_be_copied(small: str, how: Any) -> None:
    with (
        FastLoader(small, **OPTIONS) as loader,
        pytest.raises(CopyError, match=r"worker processes of its own.*num_workers=0"),
    ):
        how(as_torch(loader))


@full
def test_a_model_learns_from_it(small: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Tanh())
    model = model.append(torch.nn.Linear(4 * 14 * 22, 1)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    # The same eight images come again and again, each with a number of its own.
    options = {**OPTIONS, "dtype": "float32", "shuffle": True}
    with FastLoader(small, **options) as loader:
        epochs = []
        for _ in range(3):
            losses = []
            for images, labels in through_data_loader(as_torch(loader)):
                optimizer.zero_grad()
                loss = (model(images)[:, 0] - labels // 10 % 8).square().mean()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            epochs.append(sum(losses))
        assert epochs[2] < epochs[0] / 2


# ---- pinned memory -------------------------------------------------------------------------------


class FakeCuda:
    """Stands in for torch.cuda. Its stream is a list of events that the test lets pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuses: int | None = None) -> None:
        self.registered: dict[int, int] = {}
        self.calls: list[str] = []
        self.events: list[Any] = []
        self.refuses = refuses  # the registration that fails
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "cudart", lambda: self)
        monkeypatch.setattr(torch.cuda, "Event", lambda: FakeEvent(self))

    def cudaHostRegister(self, address: int, size: int, flags: int) -> int:
        assert flags == 1
        assert address not in self.registered
        if len(self.registered) == self.refuses:
            return 2
        self.registered[address] = size
        return 0

    def cudaHostUnregister(self, address: int) -> int:
        self.calls.append("unregister")
        del self.registered[address]
        return 0

    def cudaGetErrorString(self, code: int) -> str:
        return f"error {code}"


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.passed = cuda, False

    def record(self) -> None:
        self.cuda.events.append(self)

    def query(self) -> bool:
        return self.passed

    def synchronize(self) -> None:
        self.cuda.calls.append("synchronize")
        self.passed = True


def test_the_rings_are_registered_once_and_until_the_loader_is_closed(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(monkeypatch)
    with FastLoader(small, **OPTIONS) as loader:
        batches = through_data_loader(as_torch(loader, pin_memory=True))
        as_torch(loader, pin_memory=True)  # registers nothing again
        assert cuda.registered == dict(feeder.ring.memory for feeder in loader.delivery.feeders)
        assert len(cuda.registered) == 2
        images, labels = next(iter(batches))
        start = images.data_ptr()
        assert any(at <= start < at + size for at, size in cuda.registered.items())
    assert cuda.registered == {}
    assert cuda.calls == ["synchronize", "unregister", "unregister"]
    assert labels.tolist() == LABELS[:8], "and what was handed out stays valid"


@pytest.mark.parametrize("dtype", ["uint8", "bfloat16"])
def test_a_slot_is_not_freed_before_the_stream_has_done_with_its_tensors(
    small: str, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    cuda = FakeCuda(monkeypatch)
    with FastLoader(small, dtype=dtype, **{**OPTIONS, "workers": 0}) as loader:
        ring = loader.delivery.feeders[0].ring
        batches = iter(as_torch(loader, pin_memory=True))

        def next_images() -> Any:
            gc.collect()
            images, _ = next(batches)
            return images

        def slot(images: Any) -> int:
            return int(images.data_ptr() - ring.memory[0]) // ring.layout.slot_bytes

        images = next_images()
        assert slot(images) == 0
        part = images[0]
        del images
        assert slot(next_images()) == 1
        assert cuda.events == [], "while there is a tensor a copy may still begin"
        del part
        assert slot(next_images()) == 2
        assert len(cuda.events) == 2
        assert slot(next_images()) == 3
        assert len(cuda.events) == 3
        cuda.events[1].passed = True
        assert slot(next_images()) == 1, "the first that is free"
        assert slot(next_images()) == 4
        cuda.events[0].passed = True
        assert slot(next_images()) == 0
        assert loader.stats().copies == 0


def test_the_last_batches_of_an_epoch_are_kept_too(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(monkeypatch)
    with FastLoader(small, slots=16, **{**OPTIONS, "workers": 0}) as loader:
        for batch in as_torch(loader, pin_memory=True):
            del batch
        gc.collect()
        assert len(loader.delivery.feeders[0].ring.take_back()) == 0
        for event in cuda.events:
            event.passed = True
        dataset = as_torch(loader, pin_memory=True)
        assert labels_of(dataset) == LABELS
        assert loader.stats().copies == 0


def test_memory_that_cannot_be_pinned_is_an_error_and_leaves_nothing_registered(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(monkeypatch, refuses=1)
    with FastLoader(small, **OPTIONS) as loader:
        with pytest.raises(ConfigError, match=r"cannot pin the . MiB .*error 2.*lower slots"):
            as_torch(loader, pin_memory=True)
        assert cuda.registered == {}


def test_pinning_needs_cuda(small: str) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    with FastLoader(small, **OPTIONS) as loader:
        with pytest.raises(ConfigError, match="pin_memory=True is for copies to a GPU"):
            as_torch(loader, pin_memory=True)
        assert labels_of(as_torch(loader)) == LABELS


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: real pinning is not tested")
def test_copies_to_a_gpu_that_outlive_their_tensors_hold_the_right_values(small: str) -> None:
    options = {**OPTIONS, "size": (224, 224), "dtype": "float32", "slots": 3, "shuffle": True}
    with FastLoader(small, **options) as loader:
        expected = [images.copy() for _ in range(3) for images, _ in loader]
    with FastLoader(small, **options) as loader:
        dataset = as_torch(loader, pin_memory=True)
        busy = torch.ones((4096, 4096), device="cuda")
        found = []
        for _ in range(3):
            for images, _ in dataset:
                assert images.is_pinned() or not in_ring(loader, images)
                for _ in range(20):  # so that the copies wait in the stream
                    busy = busy @ busy * 0
                found.append(images.to("cuda", non_blocking=True))
        for images, numbers in zip(found, expected, strict=True):
            np.testing.assert_array_equal(images.permute(0, 2, 3, 1).cpu().numpy(), numbers)

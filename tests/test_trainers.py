"""Trainers that wrap PyTorch's DataLoader.

Nothing is batched twice, no shard loses rows, and a state is that of the batches that training has
taken.
"""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastloader import ConfigError, FastLoader

from .programs import on_hosts
from .servers.cluster import free_ports
from .support import simple_rows, table
from .tiers import full

torch = pytest.importorskip("torch", reason="no PyTorch: its trainers are not tested")

from torch.utils.data import DataLoader, IterableDataset  # noqa: E402

try:  # as Lightning and transformers do
    import torchvision  # noqa: F401
except ImportError:
    pass
except RuntimeError:  # operator torchvision::nms does not exist
    from . import torchvision_names  # noqa: F401

from fastloader.adapters.torch import as_torch  # noqa: E402

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "workers": 1, "seed": 3}
LABELS = list(range(0, 1000, 10))

# torchdata 0.11 calls a function that PyTorch 2.13 has deprecated; the others are Lightning's.
pytestmark = [
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def stateful_data_loader() -> Any:
    reason = "no torchdata: StatefulDataLoader is not tested"
    return pytest.importorskip("torchdata.stateful_dataloader", reason=reason).StatefulDataLoader


def labels_of(batches: Any) -> list[list[int]]:
    return [labels.tolist() for _, labels in batches]


# ---- batched twice -------------------------------------------------------------------------------


class Rows(IterableDataset[Any]):
    """A dataset that a user wrote, which takes batches apart."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        for images, labels in self.batches:
            yield from zip(images, labels, strict=True)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("collate", [None, list])
@pytest.mark.parametrize("label", ["label", None])
def test_batches_are_never_stacked(
    small: str, batch_size: int, collate: Any, label: str | None
) -> None:
    options = {"batch_size": batch_size, "collate_fn": collate}
    with FastLoader(small, **OPTIONS, label=label) as loader:
        with pytest.raises(ConfigError, match=r"whole batches.*batch_size=None, num_workers=0"):
            next(iter(DataLoader(as_torch(loader), **options)))
        assert loader.stats().batches == 0
        assert len(list(DataLoader(as_torch(loader), batch_size=None))) == 13


def test_batches_are_never_stacked_by_a_stateful_data_loader(small: str) -> None:
    with (
        FastLoader(small, **OPTIONS) as loader,
        pytest.raises(ConfigError, match="batch_size=None"),
    ):
        next(iter(stateful_data_loader()(as_torch(loader), batch_size=4)))


def test_rows_may_be_batched_anew(small: str) -> None:
    with FastLoader(small, **OPTIONS) as loader:
        batches = DataLoader(Rows(as_torch(loader)), batch_size=30)
        assert [len(labels) for labels in labels_of(batches)] == [30, 30, 30, 10]


def test_looking_at_callers_keeps_nothing_of_theirs(small: str) -> None:
    """For example a batch of the last epoch, in a local variable, when the next epoch begins."""
    with FastLoader(small, **OPTIONS) as loader:
        for _ in range(2):
            for images, labels in DataLoader(as_torch(loader), batch_size=None):
                assert len(images) == len(labels)
            first = next(iter(DataLoader(as_torch(loader), batch_size=None)))
            kept = weakref.ref(images)
            del images, first
            gc.collect()
            assert kept() is None


def trainer_of(folder: Path, dataset: Any, own: Any = None, **arguments: Any) -> Any:
    """Return a trainer of Hugging Face.

    Parameters
    ----------
    own
        Its DataLoader, instead of the one that the trainer makes.
    """
    transformers = pytest.importorskip(
        "transformers", reason="no transformers: Hugging Face's Trainer is not tested"
    )

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8 * 8 * 3, 1)
            self.seen: list[list[int]] = []

        def forward(self, pixel_values: Any, labels: Any) -> Any:
            self.seen.append(labels.tolist())
            found = self.layer(pixel_values.flatten(1))[:, 0]
            return {"loss": (found - labels / 1000).square().mean(), "logits": found}

    class Trainer(transformers.Trainer):  # type: ignore[misc, name-defined]
        def get_train_dataloader(self) -> Any:
            return super().get_train_dataloader() if own is None else own

    settings = transformers.TrainingArguments(
        str(folder), max_steps=26, report_to=[], use_cpu=True, disable_tqdm=True,
        save_strategy="no", logging_strategy="no", **arguments,
    )  # fmt: skip
    return Trainer(Model(), settings, train_dataset=dataset)


def test_the_data_loader_that_hugging_faces_trainer_makes_is_refused(
    small: str, tmp_path: Path
) -> None:
    with FastLoader(small, **OPTIONS, dtype="float32") as loader:
        trainer = trainer_of(tmp_path, as_torch(loader))
        with pytest.raises(ConfigError, match=r"whole batches.*override get_train_dataloader\(\)"):
            trainer.train()


def test_hugging_faces_trainer_takes_a_data_loader_from_get_train_dataloader(
    small: str, tmp_path: Path
) -> None:
    with FastLoader(small, **OPTIONS, dtype="float32") as loader:
        expected = labels_of(loader) * 2
    with FastLoader(small, **OPTIONS, dtype="float32") as loader:
        batches = DataLoader(
            as_torch(loader),
            batch_size=None,
            collate_fn=lambda batch: {"pixel_values": batch[0], "labels": batch[1]},
        )
        trainer = trainer_of(tmp_path, as_torch(loader), batches)
        trainer.train()
        assert trainer.model.seen == expected


# ---- a shard's batch without rows ----------------------------------------------------------------


def test_a_batch_without_rows_adds_nothing_to_a_sum_of_losses(tmp_path: Path) -> None:
    """See docs/guides/several-hosts.md."""
    rows = [(key, b"" if 25 <= key <= 32 else image, 1) for key, image, _ in simple_rows(36)]
    url = table(tmp_path / "t.db", rows)
    options = {**OPTIONS, "dtype": "float32", "on_error": "skip", "shard": (1, 2)}
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    model.append(torch.nn.Linear(4 * 6 * 6, 2))
    with FastLoader(url, **options) as loader:
        gradients = []
        for images, labels in DataLoader(as_torch(loader), batch_size=None):
            model.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels, reduction="sum").backward()
            gradients.append([p.grad.abs().sum().item() for p in model.parameters()])
    assert gradients[1] == [0] * 4
    assert all(sum(gradients[step]) > 0 for step in (0, 2))


# ---- Accelerate ----------------------------------------------------------------------------------


def accelerator(**options: Any) -> Any:
    accelerate = pytest.importorskip("accelerate", reason="no Accelerate: it is not tested")
    configuration = accelerate.DataLoaderConfiguration(**options)
    return accelerate.Accelerator(cpu=True, dataloader_config=configuration)


@full
def test_accelerate_looks_ahead_so_a_state_needs_to_be_told_what_was_consumed(small: str) -> None:
    with FastLoader(small, **OPTIONS, shuffle=True) as loader:
        whole = labels_of(loader)
    for stop in (1, 5, 12, 13):
        with FastLoader(small, **OPTIONS, shuffle=True) as loader:
            dataset = as_torch(loader)
            batches = iter(accelerator().prepare(DataLoader(dataset, batch_size=None)))
            begun = [next(batches)[1].tolist() for _ in range(stop)]
            for what in (loader, dataset):
                with pytest.raises(ConfigError, match="Accelerate.*state_dict.consumed=...."):
                    what.state_dict()
            state = dataset.state_dict(consumed=stop)
        with FastLoader(small, **OPTIONS, shuffle=True) as loader:
            loader.load_state_dict(state)
            rest = labels_of(accelerator().prepare(DataLoader(as_torch(loader), batch_size=None)))
            assert begun + rest == whole if stop < 13 else begun == whole


def test_a_state_of_accelerates_stateful_data_loader_is_what_was_consumed(small: str) -> None:
    stateful_data_loader()

    def prepared(loader: FastLoader) -> Any:
        options = {"use_stateful_dataloader": True}
        return accelerator(**options).prepare(DataLoader(as_torch(loader), batch_size=None))

    with FastLoader(small, **OPTIONS, shuffle=True) as loader:
        whole = labels_of(loader)
    for stop in (1, 5, 12):
        with FastLoader(small, **OPTIONS, shuffle=True) as loader:
            batches = prepared(loader)
            iterator = iter(batches)
            begun = [next(iterator)[1].tolist() for _ in range(stop)]
            with pytest.raises(ConfigError, match="Accelerate"):
                loader.state_dict()
            state = batches.state_dict()
        with FastLoader(small, **OPTIONS, shuffle=True) as loader:
            batches = prepared(loader)
            batches.load_state_dict(state)
            assert begun + labels_of(batches) == whole


ACCELERATE = """
import json, sys
from accelerate import Accelerator
from torch.utils.data import DataLoader
from fastloader import FastLoader
url, options, prepares = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3] == "prepare"
accelerator = Accelerator(cpu=True)
shard = (accelerator.process_index, accelerator.num_processes)
with FastLoader(url, **options, shard=shard) as loader:
    batches = DataLoader(loader.as_torch(), batch_size=None)
    batches = accelerator.prepare(batches) if prepares else batches
    try:
        print(json.dumps([labels.tolist() for _, labels in batches]))
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
accelerator.end_training()
"""


@full
@pytest.mark.parametrize("how", ["prepare", "as it is"])
def test_two_processes_of_accelerate_see_every_row_or_are_told(small: str, how: str) -> None:
    pytest.importorskip("accelerate", reason="no Accelerate: it is not tested")
    (port,) = free_ports(1)
    group = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2",
        "GLOO_SOCKET_IFNAME": "lo", "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    command = ["-W", "ignore", "-c", ACCELERATE, small, json.dumps(OPTIONS), how]
    ranks = [{**group, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    found = on_hosts([command] * 2, ranks)
    if how == "prepare":
        assert all("ConfigError: a DataLoader from Accelerate's prepare()" in it for it in found)
    else:
        assert [len(batches) for batches in found] == [7, 7]
        assert sorted(n for batches in found for labels in batches for n in labels) == LABELS


# ---- Lightning -----------------------------------------------------------------------------------


def lightning_run(
    folder: Path, batches: Any, *, stop: int | None = None, ckpt_path: str | None = None
) -> tuple[list[list[int]], str]:
    """Train for two epochs, or until some steps were taken and a checkpoint was saved.

    Returns
    -------
    tuple
        The labels that training has seen, and the path of the checkpoint.
    """
    lightning = pytest.importorskip("lightning", reason="no Lightning: it is not tested")
    path = str(folder / "saved.ckpt")

    class Model(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8 * 8 * 3, 1)
            self.seen: list[list[int]] = []

        def training_step(self, batch: Any, _number: int) -> Any:
            images, labels = batch
            self.seen.append(labels.tolist())
            return (self.layer(images.flatten(1))[:, 0] - labels / 1000).square().mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 1e-3)

    class Stop(lightning.Callback):  # type: ignore[misc, name-defined]
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == stop:
                trainer.save_checkpoint(path)
                trainer.should_stop = True
                raise KeyboardInterrupt

    model = Model()
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[Stop()],
        default_root_dir=folder,
    )  # fmt: skip
    try:
        trainer.fit(model, batches, ckpt_path=ckpt_path, weights_only=False)
    except (KeyboardInterrupt, SystemExit):
        assert stop is not None
    return model.seen, path


@pytest.mark.filterwarnings("ignore::UserWarning")  # about workers and checkpoints
@pytest.mark.parametrize("stop", [5, 13, 18])
def test_lightning_resumes_where_it_was_with_a_stateful_data_loader(
    small: str, tmp_path: Path, stop: int
) -> None:
    options = {**OPTIONS, "dtype": "float32", "shuffle": True}
    with FastLoader(small, **options) as loader:
        whole = labels_of(loader) + labels_of(loader)
    with FastLoader(small, **options) as loader:
        batches = stateful_data_loader()(as_torch(loader), batch_size=None)
        begun, path = lightning_run(tmp_path, batches, stop=stop)
    assert begun == whole[:stop]
    with FastLoader(small, **options) as loader:
        batches = stateful_data_loader()(as_torch(loader), batch_size=None)
        rest, _ = lightning_run(tmp_path, batches, ckpt_path=path)
    assert begun + rest == whole

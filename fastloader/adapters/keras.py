"""Callbacks for ``model.fit`` over ``loader.as_dataset()``: to go on after a crash, and to see
whether training waits for data.

This module imports Keras, because its classes are Keras's; nothing of ours imports it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import keras
except ImportError as error:
    raise ImportError(
        f"fastloader.adapters.keras needs Keras ({error}). Run: pip install "
        f"'fastloader[tensorflow]'"
    ) from error

from ..errors import ConfigError, StateError
from ..fields.batch import leaves_out_empty

if TYPE_CHECKING:
    from ..loader import FastLoader

_END_OF_EPOCH = object()
"""What ``model.stop_training`` is set to, in place of True, where only the epoch is to end."""


class _Counting(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Counts the batches that training has taken of the loader since it began."""

    def __init__(self, loader: FastLoader) -> None:
        super().__init__()
        self._loader = loader
        self._before = 0  # the epoch that is under way
        self._taken = 0
        self._run: int | None = None  # of the loader's epochs, which the count belongs to

    @property
    def taken(self) -> int:
        # Keras counts in steps_per_execution, and the last of them may have found less than that.
        return min(self._taken, self._loader._progress.handed)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        self._before = self._taken = 0
        self._run = None
        with self._loader._delivery.lock:
            self._loader._progress.count_anew()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._before = self._taken = self.taken

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        run = self._loader._progress.run
        if self._run not in (None, run):
            self._before = 0
            self.epoch_was_left_early()
        self._run = run
        self._taken = self._before + batch + 1

    def epoch_was_left_early(self) -> None:
        """The loader's, before the one that has now begun; so its count begins anew."""


class Resume(_Counting):
    """Saves the model, its optimizer and the loader's place, and goes on from there when the same
    program is started again, with the batches that an uninterrupted one would have seen. What
    Dropout and its like draw goes on, too.

    Let it be the last of the callbacks, so that it saves what the others have changed. What they
    remember themselves, EarlyStopping say, is not saved. Validation needs a loader of its own.

    It takes the place of ``keras.callbacks.BackupAndRestore``. Beside that the loader's place would
    be saved a moment before or after the weights, and be wrong for a program that is killed in
    between; here both are replaced at once, when ``state.json`` in the folder is.

    loader: whose ``as_dataset()`` the model is fitted to. folder: of this training alone.
        Where epochs are to be shorter than the loader's, use ``repeat()`` and ``steps_per_epoch``;
        ``take()`` would leave each of its epochs early, at no certain place.
    save_freq: "epoch", or a number of batches; not with ``on_error="skip"``, where nobody knows how
        many an epoch has.
    delete_checkpoint: when training is done.

    The metrics that Keras shows for the epoch that is resumed are those of its rest.

    Raises ConfigError for what cannot be resumed, and StateError where the folder holds the state
    of another table, order or batch size.
    """

    def __init__(
        self,
        loader: FastLoader,
        folder: str | os.PathLike[str],
        *,
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise ConfigError(f'save_freq={save_freq!r} must be "epoch" or a number of batches')
        if save_freq != "epoch" and leaves_out_empty(loader.config):
            raise ConfigError(
                f"save_freq={save_freq} cannot go on in the middle of an epoch of which nobody "
                f'knows how many batches on_error="skip" leaves: take save_freq="epoch", or '
                f'on_error="fill"'
            )
        loader.state_dict(consumed=0)  # ConfigError where there is no going on
        super().__init__(loader)
        self._folder = Path(folder)
        self._file = self._folder / "state.json"
        self._new = self._folder / "state.json.new"
        self._save_freq = save_freq
        self._delete = delete_checkpoint
        self._saved = 0  # batches taken by then
        self._epoch = 0
        self._skipped = 0  # steps of the epoch under way that an earlier process has taken

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._saved = self._skipped = 0
        if self._file.exists():
            self._restore()

    def _restore(self) -> None:
        try:
            state = json.loads(self._file.read_text(encoding="utf-8"))
            weights, epoch, place = state["weights"], state["epoch"], state["loader"]
            step, seeds = state["step"], state["seeds"]
        except (ValueError, KeyError, TypeError):
            raise StateError(
                f"{self._file} was not written by Resume; give it a folder of its own"
            ) from None
        self._loader.load_state_dict(place)
        if not self.model.built:
            raise ConfigError(
                "the model has no weights to restore yet: give it a keras.layers.Input, or call it "
                "once, before fit()"
            )
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(self._folder / weights)
        if len(seeds) != len(self._seeds()):
            raise StateError(
                f"{self._file} was saved by a model with {len(seeds)} generators of random "
                f"numbers, and this one has {len(self._seeds())}: make it as it was made then"
            )
        for variable, value in zip(self._seeds(), seeds, strict=True):
            variable.assign(value)
        self.model._initial_epoch = epoch  # how a callback tells fit(), as in BackupAndRestore
        self._skipped = step

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self.model._initial_epoch = None  # it has been told; another fit() shall not be
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        step, steps = self._skipped + batch + 1, self.params.get("steps")
        if steps is None or step < steps:
            if self._is_due():
                self._save(self._epoch, step, self._loader.state_dict(consumed=self.taken))
        elif self._skipped and not self.model.stop_training:
            # An epoch that is resumed is shorter than Keras thinks. Were it to find that out for
            # itself, the step without a batch would still count as one for the optimizer, and all
            # epochs that follow might become as short (Keras 3.15).
            self.model.stop_training = _END_OF_EPOCH

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        if self.model.stop_training is _END_OF_EPOCH:
            self.model.stop_training = False
        self._skipped = 0
        if self._save_freq == "epoch" or self._is_due():
            self._save(epoch + 1, 0, self._loader.state_dict(consumed=self.taken))

    def epoch_was_left_early(self) -> None:
        raise ConfigError(
            "an epoch of Keras has left one of the loader before its end, so Resume cannot know "
            "where training is: in place of take(), use repeat() and steps_per_epoch"
        )

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        self.model._initial_epoch = None  # there may have been no epoch left to begin
        if self._delete:
            self._new.unlink(missing_ok=True)
            self._file.unlink(missing_ok=True)
            self._clear(but=None)
            with contextlib.suppress(OSError):  # somebody else keeps something there
                self._folder.rmdir()

    def _is_due(self) -> bool:
        return self._save_freq != "epoch" and self.taken - self._saved >= int(self._save_freq)

    def _save(self, epoch: int, step: int, place: dict[str, Any]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        weights = f"resume-{time.time_ns()}.weights.h5"
        self.model.save_weights(self._folder / weights)
        seeds = [variable.numpy().tolist() for variable in self._seeds()]
        state = {"weights": weights, "epoch": epoch, "step": step, "seeds": seeds, "loader": place}
        self._new.write_text(json.dumps(state), encoding="utf-8")
        for path in (self._folder / weights, self._new):
            _flush(path)
        self._new.replace(self._file)
        _flush(self._folder)
        self._clear(but=weights)
        self._saved = self.taken

    def _seeds(self) -> list[Any]:
        """Where the random numbers of Dropout and its like are: what save_weights leaves out."""
        weights = {id(variable) for variable in self.model.weights}
        return [variable for variable in self.model.variables if id(variable) not in weights]

    def _clear(self, but: str | None) -> None:
        for path in self._folder.glob("resume-*.weights.h5"):
            if path.name != but:
                path.unlink()


def _flush(path: Path) -> None:
    """To the disk, so that what comes later does not get there earlier."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Throughput(_Counting):
    """Adds two numbers to the logs of an epoch, beside the loss. So History, the progress bar and,
    if they stand behind this in the list, TensorBoard and CSVLogger show them.

    ``images_per_s``: that training has taken, validation not counted.
    ``data_wait``: the share of that time, from 0 to 1, in which a step was to begin and its batch
        was not there yet. Near 0 the model is what takes the time; else more workers, or cores,
        would help. With ``steps_per_execution`` the time of all but the last step of an execution
        counts as waiting if their batches come in the meantime: it is an upper bound then.
    """

    def __init__(self, loader: FastLoader) -> None:
        super().__init__(loader)
        self._arrivals: dict[int, tuple[float, int]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self._arrivals.clear()
        self._loader._tally.arrivals.clear()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._seen = self._taken
        self._began = self._now = time.perf_counter()
        self._waited_s, self._images = 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        self._now = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        super().on_train_batch_end(batch, logs)
        arrivals = self._loader._tally.arrivals
        while arrivals:
            number, arrived, rows = arrivals.popleft()
            self._arrivals[number] = (arrived, rows)
        for number in range(self._seen, self.taken):
            arrived, rows = self._arrivals.pop(number, (self._now, 0))
            self._waited_s += max(0.0, arrived - self._now)
            self._now = max(self._now, arrived)
            self._images += rows
        self._seen = self.taken
        self._now = time.perf_counter()

    def epoch_was_left_early(self) -> None:
        self._seen = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        if logs is not None and self._now > self._began:
            logs["images_per_s"] = self._images / (self._now - self._began)
            logs["data_wait"] = self._waited_s / (self._now - self._began)

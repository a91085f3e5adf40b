"""Callbacks for ``model.fit`` over ``loader.as_dataset()``.

:class:`Resume` saves training and resumes it after a crash. :class:`Throughput` shows whether
training waits for data.

This module imports Keras, because its classes are Keras's. No other module of the package imports
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

try:
    import keras
except ImportError as error:
    raise ImportError(
        f"fastloader.adapters.keras needs Keras ({error}). Run: pip install "
        f"'fastloader[tensorflow]'"
    ) from error

from ..batches.schema import has_known_length
from ..consumer.batch_source import BatchSource
from ..errors import ConfigError, StateError

_END_OF_EPOCH = object()
"""The value of ``model.stop_training``, instead of True, that ends only the current epoch."""


class _Counting(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Counts the batches of the loader that training has taken since it began."""

    def __init__(self, loader: BatchSource) -> None:
        super().__init__()
        self._loader = loader
        self._before = 0  # batches taken before the epoch that is under way
        self._taken = 0
        self._run: int | None = None  # the loader's count of batches that ours belongs to

    @property
    def taken(self) -> int:
        """The number of batches that training has taken."""
        # Keras counts in steps_per_execution, and the last execution may have found fewer batches.
        return min(self._taken, self._loader.delivery.progress.handed)

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        """Have the loader begin its count anew, as this one does."""
        self._before = self._taken = 0
        self._run = None
        self._loader.delivery.count_anew()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Begin to count an epoch."""
        self._before = self._taken = self.taken

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Count the batches of a step."""
        run = self._loader.delivery.progress.run
        if self._run not in (None, run):
            self._before = 0
            self.epoch_was_left_early()
        self._run = run
        self._taken = self._before + batch + 1

    def epoch_was_left_early(self) -> None:
        """Do what the count needs when Keras has left an epoch of the loader before its end.

        The loader then begins its count anew, with the epoch that has now begun.
        """


class Resume(_Counting):
    """Saves training and the loader's place, and resumes both.

    Start the same program again after a crash, and training resumes where it was saved, with the
    batches that an uninterrupted program would have seen. Saved are the model, its optimizer, and
    the random state of Dropout and similar layers.

    Make it the last of the callbacks, so that it saves what the others have changed. Their own
    memory, for example that of EarlyStopping, is not saved. Validation needs a loader of its own.

    Use it instead of ``keras.callbacks.BackupAndRestore``, not alongside it. There the loader's
    place would be saved a moment before or after the weights, and be wrong for a program that is
    killed in between. Here both are replaced at once, when ``state.json`` in the folder is.

    If epochs are to be shorter than the loader's, use ``repeat()`` and ``steps_per_epoch``.
    ``take()`` is not supported: after it, the loader cannot tell where to resume.

    The metrics that Keras shows for a resumed epoch are those of the rest of it.

    Parameters
    ----------
    loader
        The loader to whose ``as_dataset()`` the model is fitted.
    folder
        A folder for this training alone.
    save_freq
        "epoch", or a number of batches. A number is refused with ``on_error="skip"`` and
        ``follow="epoch"``, where the number of batches in an epoch is not known.
    delete_checkpoint
        Whether to delete what was saved when training is done.

    Raises
    ------
    ConfigError
        The loader cannot be resumed, or ``save_freq`` cannot be used with it.
    StateError
        When training begins: the folder holds the state of another table, order or batch size.

    Examples
    --------
    >>> from fastloader.adapters.keras import Resume
    >>> callbacks = [Resume(loader, "backup")]
    >>> history = model.fit(loader.as_dataset(), epochs=2, callbacks=callbacks, verbose=0)
    """

    def __init__(
        self,
        loader: BatchSource,
        folder: str | os.PathLike[str],
        *,
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        if save_freq != "epoch" and not (isinstance(save_freq, int) and save_freq > 0):
            raise ConfigError(f'save_freq={save_freq!r} must be "epoch" or a number of batches')
        if save_freq != "epoch" and not has_known_length(loader.config):
            raise ConfigError(
                f"save_freq={save_freq} cannot resume in the middle of an epoch, because "
                f'on_error="skip", a transform with drops=True or follow="epoch" makes an unknown '
                f'number of batches: pass save_freq="epoch", or leave them out'
            )
        loader.state_dict(consumed=0)  # raises ConfigError if the loader cannot be resumed
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
        """Restore what an earlier process has saved, if there is anything."""
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
                f"{self._file} was not written by Resume: give it a folder of its own"
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
                f"numbers, and this one has {len(self._seeds())}: build the model as it was then"
            )
        for variable, value in zip(self._seeds(), seeds, strict=True):
            variable.assign(value)
        self.model._initial_epoch = epoch  # how BackupAndRestore, too, tells fit()
        self._skipped = step

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin an epoch."""
        super().on_epoch_begin(epoch, logs)
        self.model._initial_epoch = None  # fit() knows it now; another fit() must not see it
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save after a number of batches, and end an epoch that was resumed."""
        super().on_train_batch_end(batch, logs)
        step, steps = self._skipped + batch + 1, self.params.get("steps")
        if steps is None or step < steps:
            if self._is_due():
                self._save(self._epoch, step, self._loader.state_dict(consumed=self.taken))
        elif self._skipped and not self.model.stop_training:
            # An epoch that is resumed is shorter than Keras thinks. If Keras found that out by
            # itself, the step without a batch would still count as one for the optimizer, and all
            # later epochs might become as short (Keras 3.15).
            self.model.stop_training = _END_OF_EPOCH

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Save after an epoch, if it is time."""
        if self.model.stop_training is _END_OF_EPOCH:
            self.model.stop_training = False
        self._skipped = 0
        if self._save_freq == "epoch" or self._is_due():
            self._save(epoch + 1, 0, self._loader.state_dict(consumed=self.taken))

    def epoch_was_left_early(self) -> None:
        """Raise ConfigError."""
        raise ConfigError(
            "an epoch of Keras has left one of the loader before its end, so Resume cannot know "
            "where training is: instead of take(), use repeat() and steps_per_epoch"
        )

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Delete what was saved, unless it is to stay."""
        self.model._initial_epoch = None  # perhaps there was no epoch left to begin
        if self._delete:
            self._new.unlink(missing_ok=True)
            self._file.unlink(missing_ok=True)
            self._clear(but=None)
            with contextlib.suppress(OSError):  # the folder has other files
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
        """Return the random states of Dropout and similar layers, which save_weights leaves out."""
        weights = {id(variable) for variable in self.model.weights}
        return [variable for variable in self.model.variables if id(variable) not in weights]

    def _clear(self, but: str | None) -> None:
        for path in self._folder.glob("resume-*.weights.h5"):
            if path.name != but:
                path.unlink()


def _flush(path: Path) -> None:
    """Write a file or folder to the disk before anything that is written later."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Throughput(_Counting):
    """Adds two numbers to the logs of an epoch, alongside the loss.

    History and the progress bar show them, and so do TensorBoard and CSVLogger if they come after
    this callback in the list.

    ``images_per_s`` is the number of images per second that training has taken, without validation.

    ``data_wait`` is the share of that time, from 0 to 1, in which a step was due and its batch was
    not there yet. Near 0, the model is the bottleneck; otherwise more workers, or cores, would
    help. With ``steps_per_execution`` it is an upper bound: the time of all but the last step of an
    execution counts as waiting if their batches arrive in the meantime.

    Parameters
    ----------
    loader
        The loader to whose ``as_dataset()`` the model is fitted.

    Examples
    --------
    >>> from fastloader.adapters.keras import Throughput
    >>> callbacks = [Throughput(loader)]
    >>> history = model.fit(loader.as_dataset(), callbacks=callbacks, verbose=0)
    >>> sorted(history.history)
    ['data_wait', 'images_per_s', 'loss']
    """

    def __init__(self, loader: BatchSource) -> None:
        super().__init__(loader)
        self._arrivals: dict[int, tuple[float, int]] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget what arrived before training."""
        super().on_train_begin(logs)
        self._arrivals.clear()
        self._loader.delivery.tally.arrivals.clear()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Begin to measure an epoch."""
        super().on_epoch_begin(epoch, logs)
        self._seen = self._taken
        self._began = self._now = time.perf_counter()
        self._waited_s, self._images = 0.0, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Note when a step was due."""
        self._now = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Add up the wait for the batches of a step."""
        super().on_train_batch_end(batch, logs)
        arrivals = self._loader.delivery.tally.arrivals
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
        """Count from 0, as the loader does."""
        self._seen = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Add the two numbers to the logs."""
        if logs is not None and self._now > self._began:
            logs["images_per_s"] = self._images / (self._now - self._began)
            logs["data_wait"] = self._waited_s / (self._now - self._began)

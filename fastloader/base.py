"""What every loader can do, whatever its batches are made of.

It runs in the training process. What it does is in :mod:`fastloader.consumer`; here are the names
and the promises that users rely on.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar

from .batches.schema import is_key
from .consumer.delivery import Delivery
from .consumer.epoch import Epoch
from .consumer.foreign import Foreign
from .errors import CopyError
from .fields.columns import Column
from .fields.image import Image
from .frameworks import Frameworks
from .observe.stats import Stats
from .options.config import Config
from .plan.keys import Key

Self = TypeVar("Self", bound="Loader")


class Loader(Frameworks, Foreign):
    """Base class of :class:`fastloader.FastLoader` and :class:`fastloader.Mixture`.

    Parameters
    ----------
    delivery
        The engine behind the loader.
    """

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery

    # ---- iteration -----------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._delivery.plan)

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch.

        An older iterator that is still under way ends with SupersededError at its next pull.
        """
        return self._delivery.iterate(ahead=False, keep=self)

    def __call__(self) -> Iterator[Any]:
        """Begin the next epoch for a consumer that pulls batches before it wants them.

        ``tf.data.Dataset.from_generator(loader, ...)`` is one.
        """
        return self._delivery.iterate(ahead=True, keep=self)

    def epoch(self, number: int) -> Epoch:
        """Return the batches of an epoch of your choice, as an iterable.

        The epoch begins when you iterate over it. From then on the loader is there: it resumes
        there, and the next iteration of the loader is the epoch after it. An older iterator ends as
        it does when the loader itself is iterated. With shards, every shard must go to the same
        epoch.

        If you have loaded a state that lies within this epoch, the first iteration delivers the
        rest of the epoch.

        Parameters
        ----------
        number
            The number of the epoch, from 0. Its order, random crops and flips are those that the
            same epoch has in a loader that has come to it by itself.

        Raises
        ------
        ConfigError
            The number is not an integer from 0 on.
        ClosedError
            The loader is closed.

        Examples
        --------
        >>> for epoch in range(2):
        ...     for images, labels in loader.epoch(epoch):
        ...         pass  # train
        >>> [len(labels) for images, labels in loader.epoch(0)]
        [64, 6]
        """
        self._delivery.check_usable()
        return Epoch(self._delivery, number, self)

    def peek(self) -> Any:
        """Return a copy of the batch that comes next, and use nothing up.

        It is the first batch of the next iteration or, while an iteration is under way, the batch
        that this iteration delivers next. The batch still comes in its turn, :meth:`state_dict`
        stays the same, and :meth:`stats` counts nothing. Workers make the batch once: they begin
        with the next epoch a moment earlier than they would otherwise. With
        ``deterministic=False`` it is one of the batches that come next.

        With ``on_error="skip"`` a batch that has lost all of its rows is passed over, as an
        iteration does. If those after it are empty as well, so is the batch that you get.

        Raises
        ------
        RowError
            The batch has a bad row, and ``on_error`` is "raise".
        ClosedError
            The loader is closed.

        Examples
        --------
        >>> images, labels = loader.peek()
        >>> images.shape, images.dtype
        ((64, 224, 224, 3), dtype('uint8'))
        >>> loader.stats().batches
        0
        """
        return self._delivery.peek()

    # ---- resuming --------------------------------------------------------------------------------

    def state_dict(self, *, consumed: int | None = None) -> dict[str, Any]:
        """Return what :meth:`load_state_dict` needs to resume from here.

        A signal handler may call it.

        Parameters
        ----------
        consumed
            The number of batches that training has taken. None means all that were handed out;
            this is refused with :meth:`as_dataset` and under a DataLoader that Accelerate has
            prepared, since these run ahead of training. The count begins with the first batch
            after the loader was made, after a state was loaded, after an iteration was left early,
            or after :meth:`epoch` left the order of the epochs. It may span any number of epochs.

        Returns
        -------
        dict
            Numbers and strings, ready for JSON.

        Raises
        ------
        ConfigError
            ``consumed`` is more than were handed out, or the loader has ``deterministic=False`` or
            is part of a mixture.

        Examples
        --------
        >>> for images, labels in loader:
        ...     state = loader.state_dict()
        ...     break
        >>> state["epoch"], state["batch"]
        (0, 1)
        >>> loader.load_state_dict(state)
        >>> for images, labels in loader:  # the rest of the epoch
        ...     print(len(labels))
        6
        """
        return self._delivery.state(consumed)

    def load_state_dict(self, state: Mapping[str, Any], *, elastic: bool = False) -> None:
        """Have the next iteration resume where :meth:`state_dict` was called.

        Parameters
        ----------
        state
            What :meth:`state_dict` returned, of this loader or of one with the same batches.
        elastic
            Also take the state of a loader with another `batch_size`, number of shards, or
            `drop_remainder`. The rest of the epoch, those rows that no shard had delivered, comes
            once, in the same order; it has its own number of batches, which the epochs after it do
            not have. Give each shard the state of any shard that had come as far as the others.

        Raises
        ------
        StateError
            The state is damaged, or belongs to a loader with other batches: other keys, seed,
            batch size, order, shard, or another table. The message says what is different.
        """
        self._delivery.load(state, elastic=elastic)

    # ---- options, columns, counts ----------------------------------------------------------------

    @property
    def config(self) -> Config:
        """The options in force, with the defaults and what depends on the table filled in.

        Examples
        --------
        >>> loader.config.batch_size, loader.config.image
        (64, 'image_data')
        """
        return self._delivery.config

    @property
    def columns(self) -> tuple[Column, ...]:
        """What a batch holds of numbers, text and arrays: inputs, labels, then sample weights.

        Examples
        --------
        >>> loader.columns
        (Column(name='label', dtype='int64', shape=()),)
        """
        schema = self._delivery.crew.schema
        return tuple(
            e.column for e in schema.entries if not (isinstance(e.field, Image) or is_key(e.slot))
        )

    @property
    def classes(self) -> dict[str, tuple[str | int, ...]]:
        """The classes of each :class:`Category`, by the name of the field, in their order.

        A class that a batch holds as number ``i`` is ``loader.classes[name][i]``.
        """
        columns = (entry.column for entry in self._delivery.crew.schema.entries)
        return {column.name: column.classes for column in columns if column.classes}

    @property
    def key_columns(self) -> tuple[Column, ...]:
        """The columns of keys in a batch. They are int64, or text for UUIDs and text keys."""
        return self._delivery.crew.schema.key_columns

    @property
    def delivery(self) -> Delivery:
        """The engine behind the loader. Internal: for the adapters of this package.

        It may change in any release; see :mod:`fastloader.consumer.batch_source`.
        """
        return self._delivery

    @property
    def bad_rows(self) -> list[tuple[Key, str]]:
        """The rows that were dropped or filled so far, each once, as (key, reason).

        Examples
        --------
        >>> with FastLoader("damaged.db", on_error="skip") as loader:
        ...     rows = sum(len(labels) for images, labels in loader)
        ...     print(rows, loader.bad_rows)
        69 [(3, 'empty image (the blob is empty)')]
        """
        self._delivery.check_ours()
        return list(self._delivery.tally.bad.copy().items())

    @property
    def partial_rows(self) -> list[tuple[Key, str]]:
        """The rows whose images end early or are damaged, each once, as (key, reason).

        They were delivered, with gray in place of the missing pixels.
        """
        self._delivery.check_ours()
        return list(self._delivery.tally.partial.copy().items())

    def stats(self) -> Stats:
        """Return counts and times of what the loader has done so far.

        A signal handler may call it.

        Examples
        --------
        >>> for images, labels in loader:
        ...     pass
        >>> stats = loader.stats()
        >>> stats.batches, stats.rows, stats.bad_rows
        (2, 70, 0)
        >>> stats.pictures["JPEG"].decoded
        70
        """
        return self._delivery.stats()

    # ---- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        """End the workers and release all memory. Batches that were handed out stay valid.

        It may be called twice, from any thread, and from a signal handler. A second call finishes
        what an interrupted first call has left. Busy workers have one second to end, all of them
        together, before they are killed. Processes that have not ended five seconds after that,
        because they wait for a dead disk, are left alone, and the log says so.
        """
        self._delivery.close()

    @property
    def closed(self) -> bool:
        """Whether the loader is closed."""
        return self._delivery.closed

    def __enter__(self: Self) -> Self:
        self._delivery.check_usable()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        delivery = getattr(self, "_delivery", None)  # None if there is nothing to close
        if delivery is None or delivery.is_part:  # a mixture warns for all of its loaders
            return
        if not delivery.closed and delivery.is_ours:
            # Without source=self: whoever records warnings would keep the loader alive with it.
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2)

    def __reduce__(self) -> NoReturn:
        raise CopyError(
            f"a {type(self).__name__} cannot be copied or pickled: its worker processes belong to "
            f"it alone. "
            "Make another loader with the same options, in the process that will use it"
        )

    def __repr__(self) -> str:
        iteration = self._delivery.progress.iteration
        state = "not begun" if iteration is None else f"epoch {iteration.turn.epoch}"
        state = "closed" if self.closed else state
        return (
            f"<{type(self).__name__} {self._what()}: {self._delivery.plan.rows} rows in "
            f"{len(self)} batches, {self.config.workers} workers, {state}>"
        )

    def _what(self) -> str:
        """Return what the rows are of, for :meth:`__repr__`."""
        raise NotImplementedError

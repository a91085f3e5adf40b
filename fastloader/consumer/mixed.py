"""A mixture: its batches are those of several loaders, or are put together from theirs.

It runs in the training process. Each loader keeps its own workers, rings and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ..batches.schema import OFFSETS, Arrays, Schema, described
from ..errors import ConfigError
from ..observe.clock import Clock, Lap
from ..observe.stats import together
from ..options.config import Config
from ..plan.mixture import Portion, taken
from ..plan.order import Uniform
from ..plan.plan import Plan
from ..transport.messages import Filled, Times, Turn
from ..transport.process import Process
from ..transport.ring import Ring, aligned
from .delivery import Delivery
from .feeder import Feeder, Taken
from .fingerprint import OF_BATCHES
from .gate import NO_TURN, superseded
from .place import At, Iteration


class Mixed:
    """Gives out the batches of a mixture. See :class:`fastloader.consumer.feeder.Feeder`.

    Parameters
    ----------
    deliveries
        The loaders of the mixture, which have joined it.
    portions
        What each of them delivers.
    slots
        The names of each loader's columns in a slot, in the same order for all.
    """

    process: Process | None = None

    def __init__(
        self,
        deliveries: Sequence[Delivery],
        portions: Sequence[Portion],
        slots: Sequence[Sequence[str]],
    ) -> None:
        self._deliveries = deliveries
        self._shares, self._within = portions[0].shares, portions[0].within
        self._slots = slots
        self._clocks = [Clock() for _ in deliveries]  # of the waits for each loader
        self._laps = [Lap(clock) for clock in self._clocks]
        # Replaced as a whole, so that takers need no lock.
        self._begun: tuple[Turn, int, list[Iteration]] = (NO_TURN, 0, [])

    def begin(self, turn: Turn, first_batch: int) -> None:
        """See :meth:`fastloader.consumer.feeder.Feeder.begin`."""
        if self._begun[:2] == (turn, first_batch):  # peek() has begun it
            return
        firsts = [first_batch] * len(self._deliveries)
        if self._within == "batches":
            firsts = taken(self._shares, first_batch)
        iterations = [
            delivery.begin_part(At(turn.epoch, first, turn.first_row))
            for delivery, first in zip(self._deliveries, firsts, strict=True)
        ]
        self._begun = turn, first_batch, iterations

    def take(self, turn: Turn, batch: int) -> Taken:
        """See :meth:`fastloader.consumer.feeder.Feeder.take`."""

        def take(loader: int, iteration: Iteration, number: int) -> Taken:
            self._clocks[loader].enter("wait")
            try:
                return self._deliveries[loader].take(iteration, number, self._laps[loader])
            finally:
                self._clocks[loader].enter(None)

        found = self._together(turn, batch, take)
        assert found is not None
        return found

    def peek(self, turn: Turn, batch: int) -> Taken | None:
        """See :meth:`fastloader.consumer.feeder.Feeder.peek`."""

        def peek(loader: int, iteration: Iteration, number: int) -> Taken | None:
            feeders = self._deliveries[loader].feeders
            return feeders[number % len(feeders)].peek(iteration.turn, number)

        return self._together(turn, batch, peek)

    def _together(
        self, turn: Turn, batch: int, get: Callable[[int, Iteration, int], Taken | None]
    ) -> Taken | None:
        """Return a batch of the mixture, of what ``get`` returns for loaders and batches."""
        current, _, iterations = self._begun
        if turn != current:
            raise superseded(turn, current)
        if self._within == "batches":
            before, after = (taken(self._shares, number) for number in (batch, batch + 1))
            loader = next(i for i, number in enumerate(before) if after[i] > number)
            its = get(loader, iterations[loader], before[loader])
            if its is None:
                return None
            slots = zip(self._slots[0], self._slots[loader], strict=True)
            return Taken({name: its.arrays[own] for name, own in slots}, its.filled)
        parts = []
        for loader, iteration in enumerate(iterations):
            its = get(loader, iteration, batch)
            if its is None:
                return None
            parts.append(its)
        return _concatenated(parts, self._slots)

    def poll(self, turn: Turn, batch: int) -> bool:  # noqa: ARG002 # mixtures keep their order
        """See :meth:`fastloader.consumer.feeder.Feeder.poll`."""
        return True

    def fileno(self) -> int:
        """Return -1: there is nothing to wait for."""
        return -1

    def stop(self) -> None:
        """Do nothing: the loaders are told to end by :meth:`Mixers.close`."""

    def close(self, *, patient: bool = True) -> None:
        """Do nothing."""


def _concatenated(parts: Sequence[Taken], slots: Sequence[Sequence[str]]) -> Taken:
    """Return one batch with the rows of several, one after the other, in memory of its own."""
    arrays: Arrays = {}
    for i, name in enumerate(slots[0]):
        own = [its.arrays[names[i]] for its, names in zip(parts, slots, strict=True)]
        if name.endswith(OFFSETS):
            lengths = np.concatenate([np.diff(offsets) for offsets in own])
            arrays[name] = np.concatenate(([0], np.cumsum(lengths)))
            continue
        shape = (sum(map(len, own)), *own[0].shape[1:])
        arrays[name] = np.concatenate(own, out=aligned(shape, own[0].dtype))
    return Taken(arrays, _summed([its.filled for its in parts]))


def _summed(these: Sequence[Filled]) -> Filled:
    """Return what belongs to a batch that is made of several."""
    total = Filled(0)
    for its in these:
        for field in fields(Filled):
            name = field.name
            mine, value = getattr(total, name), getattr(its, name)
            if isinstance(value, int | list):
                setattr(total, name, mine + value)
        total.images = together(total.images, its.images)
        total.times = Times(*map(sum, zip(total.times, its.times, strict=True)))
    return total


class _Restarts:
    """The restarts of all loaders of a mixture, each of which has a budget of its own."""

    def __init__(self, deliveries: Sequence[Delivery]) -> None:
        self._deliveries = deliveries

    @property
    def total(self) -> int:
        """Workers that were replaced so far."""
        return sum(delivery.crew.budget.total for delivery in self._deliveries)

    def begin(self) -> None:
        """Do nothing: the loaders begin, too."""


class Mixers:
    """The crew of a mixture: see :class:`fastloader.consumer.feeder.Staff`.

    Parameters
    ----------
    config
        What :func:`common` has returned for them.
    deliveries
        The loaders of the mixture.
    portions
        What each of them delivers.
    epoch_rows
        The number of rows in an epoch of the mixture, of all shards together.

    Raises
    ------
    ConfigError
        The loaders deliver batches that differ in more than their rows, or one of them is part of a
        mixture already.
    """

    is_mixture = True

    def __init__(
        self,
        config: Config,
        deliveries: Sequence[Delivery],
        portions: Sequence[Portion],
        epoch_rows: int,
    ) -> None:
        self._deliveries = deliveries
        slots = _slots(deliveries)
        self.config = config
        self.schema: Schema = deliveries[0].crew.schema
        self.plan = Plan(
            Uniform(epoch_rows), self.config.batch_size, drop_remainder=True,
            shard=self.config.shard,
        )  # fmt: skip
        self.plan.check("the mixture")
        for delivery in deliveries:
            delivery.check_alone()
        for delivery, portion in zip(deliveries, portions, strict=True):
            delivery.join(portion)
        self.feeders: list[Feeder] = [Mixed(deliveries, portions, slots)]
        self.budget = _Restarts(deliveries)
        self._shares, self._within = portions[0].shares, portions[0].within

    @property
    def rows(self) -> int:
        """The number of rows in an epoch."""
        return self.plan.rows

    @property
    def rings(self) -> list[Ring]:
        """The rings that batches lie in: none if they are put together elsewhere."""
        if self._within == "batch":
            return []
        return [ring for delivery in self._deliveries for ring in delivery.crew.rings]

    def about(self) -> dict[str, Any]:
        """Return everything that decides about the batches of an epoch, ready for JSON."""
        loaders = []
        for delivery in self._deliveries:
            its = delivery.crew.about()
            loaders.append({name: its[name] for name in its if name not in OF_BATCHES})
        return {
            "within": self._within,
            "shares": list(self._shares),
            "loaders": loaders,
            "batch_size": self.plan.batch_size,
            "drop_remainder": self.plan.drop_remainder,
            "shard": list(self.plan.shard),
        }

    def before_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called on closing, while the rings still exist. It may run twice."""
        self._deliveries[0].crew.before_close(callback)

    def close(self, *, patient: bool = True) -> None:  # noqa: ARG002 # each knows it itself
        """Close the loaders."""
        for delivery in self._deliveries:
            delivery.close()


ALIKE = ("batch_size", "shard", "on_error", "deterministic")
"""Options that the loaders of a mixture must have in common."""


def common(deliveries: Sequence[Delivery]) -> Config:
    """Return the options of a mixture.

    Raises
    ------
    ConfigError
        Options that they must have in common are different.
    """
    configs = [delivery.config for delivery in deliveries]
    for number, config in enumerate(configs[1:], 2):
        for name in ALIKE:
            one, other = getattr(configs[0], name), getattr(config, name)
            if one != other:
                raise ConfigError(
                    f"loader 1 of the mixture has {name}={one!r}, and loader {number} has "
                    f"{name}={other!r}: give them the same"
                )
    if any(config.follow for config in configs):
        raise ConfigError(
            "the shares of a mixture are those of the rows that its loaders have: make them "
            'without follow="epoch"'
        )
    if not configs[0].deterministic:
        raise ConfigError(
            "a mixture has its batches in a fixed order: make its loaders with deterministic=True"
        )
    # One whose functions may drop rows stands for all, since batches may lack rows then.
    config = next((config for config in configs if config.may_lack_rows), configs[0])
    workers = sum(config.workers for config in configs)
    return replace(config, drop_remainder=True, workers=workers, trace=None)


def _slots(deliveries: Sequence[Delivery]) -> list[list[str]]:
    """Return the names of each loader's arrays in a slot, in the same order for all.

    Raises
    ------
    ConfigError
        The loaders deliver batches that differ in more than their rows.
    """
    schemas = [delivery.crew.schema for delivery in deliveries]
    shown = [schema.arranged(described) for schema in schemas]
    for number, its in enumerate(shown[1:], 2):
        if its != shown[0]:
            raise ConfigError(
                f"loader 1 of the mixture delivers {shown[0]}, and loader {number} delivers {its}: "
                f"give them the same entries, of the same types and shapes"
            )
    found = []
    for schema in schemas:
        entries = _in_order(schema.arranged(lambda entry: entry), shown[0])
        names = [(e.slot, e.slot + OFFSETS) if e.column.is_ragged else (e.slot,) for e in entries]
        found.append([name for both in names for name in both])
    return found


def _in_order(structure: Any, like: Any) -> list[Any]:
    """Return the leaves of a structure, in the order that they have in another one."""
    if isinstance(like, dict):
        return [leaf for name in like for leaf in _in_order(structure[name], like[name])]
    if isinstance(like, tuple):
        pairs = zip(structure, like, strict=True)
        return [leaf for its, one in pairs for leaf in _in_order(its, one)]
    return [structure]

"""Orders of epochs in which some rows come more often than others.

Like the order of :class:`~.order.Uniform`, each is a pure function, of the labels or weights, the
seed and the epoch, which is evaluated where it is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError
from ..options.sampling import ClassBatch, Sampling, Weighted
from .keys import digest
from .order import Order, Positions, Rows, mixed, permuted, shuffled

MOST = 2**62
"""Rows of all epochs together, after which the order begins again. No training gets there."""


@dataclass(frozen=True, eq=False)
class OfClasses:
    """Units of ``classes`` classes with ``each`` rows; one of one row is balanced sampling.

    Units are numbered over all epochs. A round is as many units as have different classes, in a
    random order of the classes. In each round that a class comes in, ``each`` other rows of it
    come, until there are not so many left; then its rows come in another random order.

    Attributes
    ----------
    members
        The positions of all rows, class by class, (table rows,).
    ends
        Where each class ends in ``members``, (number of classes,).
    seed
        The seed of the order.
    rows
        The number of rows in an epoch.
    sampling
        What the user has asked for.
    """

    members: Positions
    ends: Positions
    seed: int
    rows: int
    sampling: Sampling

    @property
    def _unit(self) -> tuple[int, int]:
        """The number of classes in a unit, and of rows of each."""
        its = self.sampling
        return (its.classes, its.each) if isinstance(its, ClassBatch) else (1, 1)

    def __call__(self, epoch: int, numbers: Positions) -> Rows:
        """Return the rows with these numbers, (n,), in the order of delivery."""
        some, each = self._unit
        units_in_round = len(self.ends) // some
        number = numbers + epoch % (MOST // self.rows) * self.rows
        unit, at = np.divmod(number, some * each)
        turn, unit_in_turn = np.divmod(unit, units_in_round)
        place, row = np.divmod(at, each)
        count = np.full(len(number), len(self.ends))
        of_class = permuted(
            unit_in_turn * some + place, count, self._keys(turn, np.zeros_like(turn))
        )
        sizes = np.diff(self.ends, prepend=0)[of_class]
        # As many times as a class has other rows, its rows come in the same order.
        cycle, time = np.divmod(turn, np.maximum(1, sizes // each))
        copy, index = np.divmod(time * each + row, sizes)
        chosen = permuted(index, sizes, self._keys(cycle, of_class + 1))
        positions = self.members[self.ends[of_class] - sizes + chosen]
        return Rows(positions, (cycle * each + copy).view(np.uint64))

    def _keys(self, turn: Positions, what: Positions) -> NDArray[np.uint64]:
        """Return a key for each random order: of the classes, 0, or of the rows of a class."""
        with np.errstate(over="ignore"):
            return mixed(mixed(_seeded(self.seed) ^ turn.view(np.uint64)) + what.view(np.uint64))

    def with_rows(self, rows: int) -> OfClasses:
        """Return the order with this number of rows in an epoch."""
        return replace(self, rows=rows)

    def about(self) -> Mapping[str, Any]:
        """Return what the order is a function of, apart from the keys, ready for JSON."""
        return {
            "sampling": repr(self.sampling),
            "classes": digest(self.members) + digest(self.ends),
            "epoch_rows": self.rows,
            "seed": self.seed,
        }


@dataclass(frozen=True, eq=False)
class OfWeights:
    """Rows in proportion to their weights.

    With replacement, each row of an epoch is drawn independently of the others. Without, an epoch
    is a systematic sample (Madow, "On the theory of systematic sampling, II", 1949), in random
    order: the rows lie on a line, each as long as its weight, and points at equal distances, the
    first at random, choose the rows that they fall on.

    Attributes
    ----------
    ends
        Where each row ends on the line: the cumulative sum of the weights, float64 (table rows,).
    seed
        The seed of the order.
    rows
        The number of rows in an epoch.
    sampling
        What the user has asked for.
    """

    ends: NDArray[np.float64]
    seed: int
    rows: int
    sampling: Weighted

    def __call__(self, epoch: int, numbers: Positions) -> Rows:
        """Return the rows with these numbers, (n,), in the order of delivery."""
        key = mixed(_seeded(self.seed) ^ np.uint64(epoch + 1))
        length = float(self.ends[-1])
        if self.sampling.replacement:
            places = _fractions(key, numbers) * length
        else:
            # Odd multiples of 2^-21, so that the points do not fall on the ends of equal weights.
            first = (np.floor(_fractions(key, np.array([-1])) * 2**20) + 0.5) / 2**20
            order = shuffled(self.rows, 1, self.seed, epoch)
            places = (order(numbers) + first) * (length / self.rows)
        places = np.minimum(places, np.nextafter(length, 0))
        return Rows(np.searchsorted(self.ends, places, "right"), numbers.view(np.uint64))

    def with_rows(self, rows: int) -> OfWeights:
        """Return the order with this number of rows in an epoch."""
        return replace(self, rows=rows)

    def about(self) -> Mapping[str, Any]:
        """Return what the order is a function of, apart from the keys, ready for JSON."""
        return {
            "sampling": repr(self.sampling),
            "weights": digest(self.ends),
            "epoch_rows": self.rows,
            "seed": self.seed,
        }


GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _seeded(seed: int) -> NDArray[np.uint64]:
    """Return a key, (1,). It is not 0 for the default seed, whose hash is 0."""
    return mixed(np.array([seed], np.uint64) ^ GOLDEN)


def _fractions(key: NDArray[np.uint64], numbers: Positions) -> NDArray[np.float64]:
    """Return a random number from 0 to 1, exclusive, for each number.

    It is the generator of Steele, Lea and Flood, "Fast splittable pseudorandom number generators"
    (2014), whose numbers need not be made in their order.
    """
    with np.errstate(over="ignore"):
        raw = mixed(key + (numbers + 1).view(np.uint64) * GOLDEN)
    return (raw >> np.uint64(11)) * np.float64(2.0**-53)


# ---- what an order is made of --------------------------------------------------------------------


def grouped(classes: NDArray[np.int64]) -> tuple[Positions, Positions]:
    """Return the positions of all rows class by class, and where each class ends among them.

    Parameters
    ----------
    classes
        The number of each row's class, (n,). Numbers that no row has are no classes.
    """
    members = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    return members, np.cumsum(counts[counts > 0])


def first_of_classes(members: Positions, ends: Positions, rows: int) -> tuple[Positions, Positions]:
    """Return what :func:`grouped` returns for the first rows of the table alone."""
    stays = members < rows
    counts = np.concatenate(([0], np.cumsum(stays)))
    return members[stays], np.unique(counts[ends][counts[ends] > 0])


def cumulative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the cumulative sum of weights, (n,). Raises PlanError if nothing can be drawn."""
    with np.errstate(over="ignore"):
        ends = np.cumsum(weights)
    if not np.isfinite(ends[-1]):
        raise PlanError("the sum of the weights is too large for a float64: make them smaller")
    if ends[-1] <= 0:
        raise PlanError("all weights are 0, so no row can be drawn")
    return ends


def order_of_classes(
    sampling: Sampling, members: Positions, ends: Positions, *, seed: int, rows: int, where: str
) -> Order:
    """Return the order for classes.

    Parameters
    ----------
    rows
        The number of rows in an epoch. Those that do not fill a unit are left out.
    where
        The name of the table, for messages.

    Raises
    ------
    PlanError
        There are fewer classes than a batch has.
    """
    if isinstance(sampling, ClassBatch):
        if len(ends) < sampling.classes:
            raise PlanError(
                f"{where}: sampling={sampling!r} needs {sampling.classes} classes, and the column "
                f"has {len(ends)}"
            )
        rows -= rows % sampling.batch_size
    return OfClasses(members, ends, seed, rows, sampling)

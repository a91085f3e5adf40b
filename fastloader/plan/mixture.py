"""Which part of a mixture each of its loaders delivers: pure functions of the shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from .plan import Plan

Within = Literal["batch", "batches"]
"""Whether each batch holds rows of all loaders, or those of one."""


def divided(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """Return integers in proportion to the weights, whose sum is ``total``.

    It is the method of the largest remainder (Alexander Hamilton, 1792), so each is less than 1
    away from its exact share.
    """
    exact = [total * Fraction(weight) / sum(map(Fraction, weights)) for weight in weights]
    found = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: found[i] - exact[i])
    for i in by_remainder[: total - sum(found)]:
        found[i] += 1
    return tuple(found)


def taken(shares: Sequence[int], number: int) -> list[int]:
    """Return how many of the first ``number`` items of an epoch come from each loader.

    Their sum is ``number``. All are spread evenly over the epoch: with two loaders, each number is
    at most half an item away from its exact share.

    Parameters
    ----------
    shares
        The items of an epoch that come from each loader.
    number
        From 0 to the sum of the shares.
    """
    found, total = [], sum(shares)
    for share in shares:  # between this loader and all that follow
        its = (2 * number * share + total) // (2 * total) if total else 0
        found.append(its)
        number, total = number - its, total - share
    return found


@dataclass(frozen=True)
class Portion:
    """What a loader delivers of each epoch of a mixture, as plain data.

    Attributes
    ----------
    shares
        The rows of an epoch that come from each loader, of all shards together; with ``within``
        "batches", the batches of each shard.
    index
        Which of the loaders this is.
    within
        "batch" or "batches".
    """

    shares: tuple[int, ...]
    index: int
    within: Within

    def plan(self, plan: Plan) -> Plan:
        """Return the plan of the loader in the mixture, given its own plan."""
        share = self.shares[self.index]
        if self.within == "batches":
            order = plan.order.with_rows(share * plan.batch_size * plan.shard[1])
            return replace(plan, order=order, drop_remainder=True)
        order = plan.order.with_rows(share)
        return PartPlan(order, plan.batch_size, True, plan.shard, portion=self)


@dataclass(frozen=True)
class PartPlan(Plan):
    """The parts of batches that come from one loader.

    Rows of the mixture are numbered from 0 in each epoch. Batches are divided among shards as those
    of any plan.

    Attributes
    ----------
    portion
        The part of the mixture.
    """

    portion: Portion = Portion((), 0, "batch")

    @property
    def rows(self) -> int:
        """The rows of the mixture, of all loaders and shards."""
        return sum(self.portion.shares) - self.first_row

    def numbers(self, batch: int) -> slice:
        """Return which rows of the loader, by their numbers in its order, are in a batch."""
        index, shards = self.shard
        begin = self.first_row + (batch * shards + index) * self.batch_size
        first, end = (
            taken(self.portion.shares, number)[self.portion.index]
            for number in (begin, begin + self.batch_size)
        )
        return slice(first, end)

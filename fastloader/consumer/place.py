"""A place in the epochs of a loader: plain data, which :class:`.progress.Progress` replaces.

It runs in the training process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..plan.plan import Plan
from ..transport.messages import Turn


class Iteration(NamedTuple):
    """One pass over an epoch, or over the rest of one.

    Attributes
    ----------
    turn
        Its epoch, and the run of iterations that it is part of.
    first
        Its first batch.
    plan
        The plan of its epoch.
    ahead
        Whether something pulls batches before the consumer wants them, as tf.data and Accelerate
        do.
    """

    turn: Turn
    first: int
    plan: Plan
    ahead: bool = False


class At(NamedTuple):
    """A batch of the loader, by its epoch and the number of rows that batch 0 begins after."""

    epoch: int = 0
    batch: int = 0
    first_row: int = 0


class Past(NamedTuple):
    """Epochs of a count that had another plan than those that followed.

    Attributes
    ----------
    until
        The number in the count of the first batch that is not among them.
    origin, start
        The first batch: its number in the count, and which one it is.
    plan, about
        Their plan, and its :func:`.fingerprint.fingerprint`.
    """

    until: int
    origin: int
    start: At
    plan: Plan
    about: Mapping[str, Any]


MOST_PAST = 8
"""The number of older plans that a state can be asked for: more than any pipeline is ahead."""


class Place(NamedTuple):
    """Where a loader is.

    Batches are counted over a run of iterations that each went to its end.

    Attributes
    ----------
    plan
        The plan of the next epochs.
    about
        Returns its :func:`.fingerprint.fingerprint`.
    run
        The number of the run, and so of the count, that is under way.
    start
        The batch that the count begins with.
    next
        The batch that the next iteration begins with.
    is_fresh
        Whether the next iteration begins a new count.
    before
        Batches of this count that earlier iterations have handed out.
    empty
        Numbers in this count of the batches that were left out. Only the first ``empties`` of them
        are valid.
    empties
        How many batches of this count were left out.
    iteration
        The iteration under way.
    handed
        Batches of that iteration that were handed out so far.
    prepared
        The iteration that the feeders have begun to prepare, ahead of :meth:`Progress.begin`.
    origin
        The number in this count of the batch ``start``, if the epochs before it had another plan.
    past
        Those epochs.
    """

    plan: Plan
    about: Callable[[], dict[str, Any]]
    run: int = 0
    start: At = At()
    next: At = At()
    is_fresh: bool = True
    before: int = 0
    empty: list[int] = []  # noqa: RUF012 # never changed: a new count has a list of its own
    empties: int = 0
    iteration: Iteration | None = None
    handed: int = 0
    prepared: Iteration | None = None
    origin: int = 0
    past: tuple[Past, ...] = ()

    @property
    def delivered(self) -> int:
        """The number of batches in this count that the consumer got to see."""
        if self.iteration is None or self.is_fresh:
            return 0
        return self.before + self.handed - self.empties

"""Where a loader is in its epochs, and the state that brings another loader there.

It runs in the training process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ..errors import ConfigError, StateError
from ..plan.mixture import Portion
from ..plan.plan import Plan
from ..transport.messages import Turn
from .fingerprint import check_same_plan
from .place import MOST_PAST, At, Iteration, Past, Place

logger = logging.getLogger("fastloader")

FORMAT = 2
"""The format of a state. Format 1 had no rows."""


class Progress:
    """Counts what is handed out.

    The loader's lock guards the methods that change it. Everything that changes together changes
    in one assignment. So a reader, for example a signal handler in the middle of a change, sees one
    state or the next and needs no lock; and Ctrl-C comes before a change or after it.

    Parameters
    ----------
    plan
        The plan of the loader.
    about
        Returns its :func:`.fingerprint.fingerprint`.
    """

    def __init__(self, plan: Plan, about: Callable[[], dict[str, Any]]) -> None:
        self._place = Place(plan, about)
        self._runs = 0  # the highest number of a run so far

    # ---- iterating -----------------------------------------------------------------------------

    @property
    def iteration(self) -> Iteration | None:
        """The iteration that is under way, or the last one."""
        return self._place.iteration

    @property
    def plan(self) -> Plan:
        """The plan of the next epochs."""
        return self._place.plan

    @property
    def run(self) -> int:
        """The number of the run, and so of the count, that is under way."""
        return self._place.run

    @property
    def under_way(self) -> Iteration | None:
        """The iteration under way; None if it has handed out its last batch."""
        here = self._place
        if here.iteration is None or here.iteration.first + here.handed >= len(here.iteration.plan):
            return None
        return here.iteration

    @property
    def following(self) -> int:
        """The batch after those that the iteration under way has handed out, if in their order."""
        here = self._place
        return 0 if here.iteration is None else here.iteration.first + here.handed

    def join(self, portion: Portion) -> None:
        """Go through the epochs of a mixture from now on."""
        plan = portion.plan(self._place.plan)
        self._place = self._place._replace(plan=plan, next=At(), is_fresh=True, prepared=None)

    def replan(self, plan: Plan, about: Callable[[], dict[str, Any]]) -> None:
        """Go through another table from the next iteration on, or through more rows of it."""
        here = self._place
        place = here._replace(plan=plan, about=about, prepared=None)
        if here.is_fresh or here.iteration is None or not self._may_continue(here):
            self._place = place._replace(is_fresh=True)
            return
        until = here.before + here.handed
        past = Past(until, here.origin, here.start, here.plan, here.about())
        self._place = place._replace(
            origin=until, start=here.next, past=(*here.past, past)[-MOST_PAST:]
        )

    def resumes(self, epoch: int | None) -> bool:
        """Return whether an iteration that begins now has only the rest of its epoch."""
        following = self._place.next
        return epoch in (None, following.epoch) and following[1:] != (0, 0)

    def begin(self, *, ahead: bool, epoch: int | None = None, at: At | None = None) -> Iteration:
        """Begin the next iteration.

        Parameters
        ----------
        ahead
            Whether batches will be pulled before the consumer wants them.
        epoch
            The epoch to begin; None for the next one. If a state was loaded for this epoch, it
            begins where the state says.
        at
            Where to begin instead, whatever comes next.
        """
        here = self._place
        if at is None and epoch is not None and epoch != here.next.epoch:
            at = At(epoch)
        if at is not None and at != here.next:
            here = here._replace(next=at, is_fresh=True)
        if not here.is_fresh and here.iteration is not None:
            if not self._may_continue(here):
                here = here._replace(is_fresh=True)
            else:
                here = here._replace(before=here.before + here.handed)
        if here.is_fresh:
            run = self._run_for(here)
            here = Place(here.plan, here.about, run, here.next, here.next, is_fresh=False, empty=[])
        iteration = self._iteration(here.run, here.next, ahead=ahead)
        following = At(here.next.epoch + 1)
        self._place = here._replace(next=following, iteration=iteration, handed=0)
        return iteration

    def _iteration(self, run: int, begin: At, *, ahead: bool = False) -> Iteration:
        plan = self._place.plan.rest(begin.first_row)
        return Iteration(Turn(run, begin.epoch, begin.first_row), begin.batch, plan, ahead)

    def prepare(self) -> Iteration:
        """Return what :meth:`begin` would begin now, and change nothing that anybody sees.

        :meth:`begin` then begins this run, unless the loader is sent elsewhere in between.
        """
        here = self._place
        if not here.is_fresh and here.iteration is not None and self._may_continue(here):
            return self._iteration(here.run, here.next)  # the run continues
        prepared = self._iteration(self._run_for(here), here.next)
        self._place = here._replace(prepared=prepared)
        return prepared

    def _may_continue(self, here: Place) -> bool:
        """Return whether the run can continue: its epoch is complete, and no newer run is there."""
        return self.under_way is None and here.run == self._runs

    def _run_for(self, here: Place) -> int:
        """Return the number of the run that begins at ``here.next``: the prepared one, or a new."""
        prepared = here.prepared
        if prepared is not None:
            turn = prepared.turn
            if At(turn.epoch, prepared.first, turn.first_row) == here.next:
                return turn.run
        self._runs += 1
        return self._runs

    def count_anew(self) -> None:
        """Have the next iteration begin a new count."""
        self._place = self._place._replace(is_fresh=True)

    def hand_out(self, iteration: Iteration, batch: int, is_seen: bool) -> tuple[int | None, bool]:
        """Count a batch that is handed out.

        Parameters
        ----------
        iteration, batch
            The batch.
        is_seen
            Whether the consumer gets to see it. A batch without rows may be left out.

        Returns
        -------
        number : int or None
            The number of the batch in the count; None if its iteration is not the current one.
        is_last : bool
            Whether it is the last batch of its iteration.
        """
        here = self._place
        if iteration is not here.iteration:
            return None, False
        number = here.before + batch - iteration.first
        handed = here.handed + 1
        empties = here.empties
        if not is_seen:
            # An entry behind the first ``empties`` was written by a change that was interrupted.
            here.empty[empties:] = [number]
            empties += 1
        self._place = here._replace(empties=empties, handed=handed, prepared=None)
        return number, iteration.first + handed == len(iteration.plan)

    @property
    def handed(self) -> int:
        """The number of batches in this count that the consumer got to see."""
        return self._place.delivered

    # ---- states --------------------------------------------------------------------------------

    def state(self, consumed: int | None) -> dict[str, Any]:
        """Return the state after a number of batches. See :meth:`fastloader.FastLoader.state_dict`.

        Parameters
        ----------
        consumed
            The number of batches of this count that training has taken; None for all.
        """
        place = self._place
        handed = place.delivered
        if consumed is None:
            if handed and place.iteration is not None and place.iteration.ahead:
                raise ConfigError(
                    "tf.data, or a DataLoader that Accelerate has prepared, takes batches before "
                    "the model wants them, so the loader cannot know how many were used: pass "
                    "state_dict(consumed=...), the number of batches that training has taken"
                )
            consumed = handed
        elif not 0 <= consumed <= handed:
            raise ConfigError(
                f"consumed={consumed} must be from 0 to {handed}, the batches handed out "
                f"since the loader was made, a state was loaded, an iteration was left early, or "
                f"epoch() left the order of the epochs"
            )
        for number in sorted(place.empty[: place.empties]):  # the consumer has not counted these
            consumed += number <= consumed
        origin, start, plan = place.origin, place.start, place.plan
        about: Mapping[str, Any] | None = None
        if place.is_fresh:
            origin, start = 0, place.next
        for past in () if place.is_fresh else place.past[::-1]:
            if consumed < past.until:
                _, origin, start, plan, about = past
        if consumed < origin:
            raise ConfigError(
                f"consumed={consumed} is a batch of an epoch that ended long ago, before the table "
                f"was read again {len(place.past)} times: pass what training has taken by now"
            )
        epoch, batch, first_row = start
        batch += consumed - origin
        if first_row and batch >= len(plan.rest(first_row)):
            epoch, batch, first_row = epoch + 1, batch - len(plan.rest(first_row)), 0
        if not first_row:
            epochs, batch = divmod(batch, len(plan))
            epoch += epochs
        rows = plan.rest(first_row).before(batch)
        begun = {"first_row": first_row} if first_row else {}
        about = place.about() if about is None else dict(about)
        return {
            "format": FORMAT, "epoch": epoch, "batch": batch, "rows": rows, **begun, "plan": about,
        }  # fmt: skip

    def load(self, state: Mapping[str, Any], *, elastic: bool) -> None:
        """Have the next iteration begin where a state says.

        See :meth:`fastloader.FastLoader.load_state_dict`.

        Parameters
        ----------
        state
            What :meth:`state` returned, perhaps of another loader.
        elastic
            Whether the loader may have other batches and shards than the one of the state.
        """
        try:
            found, epoch, batch = state["format"], state["epoch"], state["batch"]
            first_row, saved = state.get("first_row", 0), dict(state["plan"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise StateError(
                "this is not the state of a loader: pass what state_dict() returned"
            ) from None
        if found not in (1, FORMAT):
            raise StateError(
                f"the state has format {found}, and this version of fastloader reads formats 1 and "
                f"{FORMAT}: load it with the version that saved it"
            )
        check_same_plan(saved, self._place.about(), elastic=elastic)
        # Programs that keep states may have turned the integers into NumPy's.
        if not (hasattr(epoch, "__index__") and 0 <= epoch < 2**63):
            raise StateError(f"the state is damaged: epoch {epoch!r}")
        if not (hasattr(first_row, "__index__") and 0 <= first_row < self._place.plan.order.rows):
            raise StateError(f"the state is damaged: first_row {first_row!r}")
        plan = self._place.plan
        if elastic:
            try:
                batch_size, shards = int(saved["batch_size"]), int(saved["shard"][1])
                drop_remainder = bool(saved["drop_remainder"])
            except (KeyError, TypeError, ValueError, IndexError):
                batch_size = shards = 0
            if batch_size < 1 or shards < 1:
                raise StateError("the state is damaged: its plan has no batches")
            plan = replace(
                plan, batch_size=batch_size, drop_remainder=drop_remainder, shard=(0, shards)
            )
        plan = plan.rest(int(first_row))
        if not (hasattr(batch, "__index__") and 0 <= batch < len(plan)):
            raise StateError(
                f"the state is damaged: batch {batch!r}, but an epoch has {len(plan)} batches"
            )
        begin = At(int(epoch), int(batch), int(first_row))
        if elastic:
            begin = self._elastic(begin, plan.before(int(batch)))
        self._place = self._place._replace(next=begin, is_fresh=True)

    def _elastic(self, begin: At, rows: int) -> At:
        """Return where to begin after some rows of an epoch, with the batches of this loader."""
        rest = self._place.plan.rest(rows)
        if len(rest):
            return At(begin.epoch, 0, rows)
        logger.warning(
            "epoch %d: the last %d rows do not make a batch for each shard, and are left out",
            begin.epoch, rest.rows,
        )  # fmt: skip
        return At(begin.epoch + 1)

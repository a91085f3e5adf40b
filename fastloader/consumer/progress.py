"""Where a loader is in its epochs, and the state that brings another loader there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import ConfigError, StateError
from ..options.config import Config
from ..plan.keys import Keys, digest
from ..plan.plan import Plan
from ..transport.messages import Turn

FORMAT = 1
"""Of a state. Another one is refused."""


class Iteration(NamedTuple):
    """One pass over an epoch, or over the rest of one.

    turn: its epoch, and the run of iterations that it is part of.
    first: its first batch.
    ahead: whether somebody pulls batches before the consumer wants them, as tf.data does, and
        Accelerate.
    """

    turn: Turn
    first: int
    ahead: bool = False


class _Place(NamedTuple):
    """Where a loader is.

    run: number of the count that is under way, of iterations that each went on to the end.
    start: epoch and batch that the count begins with. next: where the next iteration begins.
    is_fresh: whether the next iteration begins a new count.
    before: batches of this count that were handed out by earlier iterations.
    empty: numbers in this count of those that were left out; only the first ``empties`` of them.
    iteration: the one under way. handed: batches of it that were handed out so far.
    """

    run: int = 0
    start: tuple[int, int] = (0, 0)
    next: tuple[int, int] = (0, 0)
    is_fresh: bool = True
    before: int = 0
    empty: list[int] = []  # noqa: RUF012 # never changed: a new count has a list of its own
    empties: int = 0
    iteration: Iteration | None = None
    handed: int = 0


class Progress:
    """Counts what is handed out. The loader's lock guards what changes it.

    All that changes at once changes in one assignment, so whoever reads, as a signal handler does
    in the middle of anything, sees one state or the next and needs no lock; and Ctrl-C comes before
    a change or after it.

    plan: of the loader.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._place = _Place()

    # ---- iterating -----------------------------------------------------------------------------

    @property
    def iteration(self) -> Iteration | None:
        """The one under way, or the last one."""
        return self._place.iteration

    @property
    def run(self) -> int:
        """The number of the count that is under way."""
        return self._place.run

    def begin(self, *, ahead: bool) -> Iteration:
        """Begin the next iteration."""
        here = self._place
        if not here.is_fresh and here.iteration is not None:
            if here.iteration.first + here.handed < len(self._plan):
                here = here._replace(is_fresh=True)
            else:
                here = here._replace(before=here.before + here.handed)
        if here.is_fresh:
            here = _Place(here.run + 1, here.next, here.next, is_fresh=False, empty=[])
        epoch, first = here.next
        iteration = Iteration(Turn(here.run, epoch), first, ahead)
        self._place = here._replace(next=(epoch + 1, 0), iteration=iteration, handed=0)
        return iteration

    def count_anew(self) -> None:
        """Have the next iteration begin a new count."""
        self._place = self._place._replace(is_fresh=True)

    def hand_out(self, iteration: Iteration, batch: int, is_seen: bool) -> tuple[int | None, bool]:
        """Count a batch, which the consumer gets to see or not. Returns its number in the count,
        None for an older iteration's, and whether it is the last one of its iteration."""
        here = self._place
        if iteration is not here.iteration:
            return None, False
        number = here.before + batch - iteration.first
        handed = here.handed + 1
        empties = here.empties
        if not is_seen:
            # What stands behind the first ``empties`` is of a change that was interrupted.
            here.empty[empties:] = [number]
            empties += 1
        self._place = _Place(*here[:6], empties, iteration, handed)
        return number, iteration.first + handed == len(self._plan)

    @property
    def handed(self) -> int:
        """Batches of this count that the consumer got to see."""
        return _handed(self._place)

    # ---- states --------------------------------------------------------------------------------

    def state(self, consumed: int | None, here: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`fastloader.FastLoader.state_dict`. here: the plan's :func:`fingerprint`."""
        place = self._place
        handed = _handed(place)
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
                f"since the loader was made, a state was loaded, or an iteration was left early"
            )
        epoch, batch = place.next if place.is_fresh else place.start
        for number in sorted(place.empty[: place.empties]):  # which no consumer has seen
            consumed += number <= consumed
        epochs, batch = divmod(batch + consumed, len(self._plan))
        return {"format": FORMAT, "epoch": epoch + epochs, "batch": batch, "plan": here}

    def load(self, state: Mapping[str, Any], here: dict[str, Any]) -> None:
        """See :meth:`fastloader.FastLoader.load_state_dict`. here: the plan's fingerprint."""
        try:
            found, epoch, batch = state["format"], state["epoch"], state["batch"]
            saved = dict(state["plan"])
        except (KeyError, TypeError, ValueError):
            raise StateError(
                "this is no state of a loader: pass what state_dict() returned"
            ) from None
        if found != FORMAT:
            raise StateError(
                f"the state has format {found}, and this version of fastloader reads {FORMAT}; "
                f"load it with the version that saved it"
            )
        check_same_plan(saved, here)
        # Other programs that keep states may have made NumPy's integers of ours.
        if not (hasattr(epoch, "__index__") and 0 <= epoch < 2**63):
            raise StateError(f"the state is damaged: epoch {epoch!r}")
        if not (hasattr(batch, "__index__") and 0 <= batch < len(self._plan)):
            raise StateError(
                f"the state is damaged: batch {batch!r} of the {len(self._plan)} of an epoch"
            )
        self._place = self._place._replace(next=(int(epoch), int(batch)), is_fresh=True)


def _handed(place: _Place) -> int:
    if place.iteration is None or place.is_fresh:
        return 0
    return place.before + place.handed - place.empties


def fingerprint(config: Config, plan: Plan, keys: Keys) -> dict[str, Any]:
    """What the batches of an epoch are a function of, fit for JSON."""
    return {
        "database": config.url.database,
        "from": config.table or config.query,
        "key": config.key,
        "rows": plan.rows,
        "keys": digest(keys),
        "batch_size": plan.batch_size,
        "drop_remainder": plan.drop_remainder,
        "shuffle": plan.shuffle,
        "shuffle_block": plan.shuffle_block if plan.shuffle else 1,
        "seed": plan.seed,
        "shard": list(plan.shard),
    }


def check_same_plan(saved: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises StateError that names what is different."""
    for name, value in here.items():
        was = saved.get(name)
        if was == value:
            continue
        if name == "rows":
            what = f"the table had {was} rows when the state was saved, and has {value} now"
        elif name == "keys":
            what = "the table has other keys now than when the state was saved"
        else:
            what = f"the state was saved with {name}={was!r}, and this loader has {name}={value!r}"
        advice = (
            "go on with the table as it was, or begin anew"
            if name in ("rows", "keys")
            else "make the loader as it was made then"
        )
        raise StateError(f"{what}, so its batches are others: {advice}")

"""Where a loader is in its epochs, and the state that brings another loader there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .config import Config
from .errors import ConfigError, StateError
from .keys import Keys, digest
from .plan import Plan
from .supervisor import Turn

FORMAT = 1
"""Of a state. Another one is refused."""


@dataclass
class Iteration:
    """One pass over an epoch, or over the rest of one.

    turn: its epoch, and the run of iterations that it is part of.
    first: its first batch.
    handed: batches handed out so far.
    ahead: whether somebody pulls batches before the consumer wants them, as tf.data does.
    """

    turn: Turn
    first: int
    handed: int = 0
    ahead: bool = False


class Progress:
    """Counts what is handed out. The loader's lock guards it.

    Batches are counted from the first one of a run of iterations that each went on to the end.

    plan: of the loader.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._run = 0
        self._start = (0, 0)  # epoch and batch that the count begins with
        self._next = (0, 0)  # where the next iteration begins
        self._is_fresh = True  # whether the next iteration begins a new count
        self._before = 0  # batches of this count that were handed out by earlier iterations
        self._empty: list[int] = []  # numbers in this count of those that had no rows
        self.iteration: Iteration | None = None

    # ---- iterating -----------------------------------------------------------------------------

    def begin(self, *, ahead: bool) -> Iteration:
        """The next iteration."""
        last = self.iteration
        if last is not None and not self._is_fresh:
            if last.first + last.handed < len(self._plan):
                self._is_fresh = True
            else:
                self._before += last.handed
        if self._is_fresh:
            self._run += 1
            self._start, self._before, self._empty, self._is_fresh = self._next, 0, [], False
        epoch, first = self._next
        self._next = (epoch + 1, 0)
        self.iteration = Iteration(Turn(self._run, epoch), first, ahead=ahead)
        return self.iteration

    def count_anew(self) -> None:
        """The next iteration begins a new count."""
        self._is_fresh = True

    @property
    def run(self) -> int:
        """The number of the count that is under way."""
        return self._run

    def hand_out(self, iteration: Iteration, batch: int, rows: int) -> int | None:
        """Counts a batch; its number in the count. None for an older iteration's."""
        if iteration is not self.iteration:
            return None
        iteration.handed += 1
        number = self._before + batch - iteration.first
        if rows == 0:
            self._empty.append(number)
        return number

    @property
    def handed(self) -> int:
        """Batches of this count that were handed out with rows in them."""
        if self.iteration is None or self._is_fresh:
            return 0
        return self._before + self.iteration.handed - len(self._empty)

    # ---- states --------------------------------------------------------------------------------

    def state(self, consumed: int | None, here: dict[str, Any]) -> dict[str, Any]:
        """See :meth:`fastloader.FastLoader.state_dict`. here: the plan's :func:`fingerprint`."""
        if consumed is None:
            if self.handed and self.iteration is not None and self.iteration.ahead:
                raise ConfigError(
                    "tf.data takes batches before the model wants them, so the loader cannot know "
                    "how many were used: pass state_dict(consumed=...), the number of batches that "
                    "training has taken"
                )
            consumed = self.handed
        elif not 0 <= consumed <= self.handed:
            raise ConfigError(
                f"consumed={consumed} must be from 0 to {self.handed}, the batches handed out "
                f"since the loader was made, a state was loaded, or an iteration was left early"
            )
        epoch, batch = self._next if self._is_fresh else self._start
        for number in sorted(self._empty):  # which no consumer has seen
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
        self._next = (int(epoch), int(batch))
        self._is_fresh = True


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

"""Which epoch a loader delivers, of which rows, with which crew.

It runs in the training process.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..batches.schema import described
from ..errors import CLOSED, ClosedError, ConfigError
from ..observe.trace import Trace
from ..options.config import Config
from ..plan.mixture import Portion
from .crew import Crew
from .feeder import Staff
from .fingerprint import OF_TABLE, check_same_plan
from .place import At, Iteration
from .progress import Progress
from .tally import Tally

logger = logging.getLogger("fastloader")


class Retired(NamedTuple):
    """What the crews have counted that were replaced by others."""

    leases: int = 0
    copies: int = 0
    restarts: int = 0

    def plus(self, crew: Staff) -> Retired:
        """Return the counts with those of another crew."""
        return Retired(
            self.leases + sum(ring.leases for ring in crew.rings),
            self.copies + sum(ring.copies for ring in crew.rings),
            self.restarts + crew.budget.total,
        )


class Course:
    """The way of a loader through its epochs, of a table that may grow in between.

    It is the base class of :class:`fastloader.consumer.delivery.Delivery`.

    Parameters
    ----------
    config
        The options of the loader.
    start
        Makes the crew.

    Attributes
    ----------
    config
        The options in force, with what depends on the table.
    crew
        The feeders, and what they share.
    plan
        The plan of this loader's shard.
    feeders
        The keepers of the rings. Batch ``j`` comes from feeder ``j % len(feeders)``.
    progress
        Where the loader is in its epochs.
    tally
        What the loader has delivered.
    lock
        Guards whatever changes ``progress`` and ``tally``.
    closed
        Whether the loader is closed.
    is_part
        Whether a mixture iterates the loader, instead of the user.
    """

    def __init__(self, config: Config, start: Callable[[Config], Staff]) -> None:
        self._trace = _trace(config)
        self.crew: Staff = start(config)
        crew = self.crew
        self.config = crew.config
        self.plan, self.feeders = crew.plan, crew.feeders
        self._pid = os.getpid()
        self.closed = False
        self.is_part = False
        self.lock = threading.RLock()
        self.progress = Progress(crew.plan, crew.about)
        self._retired = Retired()
        self._is_up_to_date = True  # no epoch has begun since the table was read
        self._rows_at_first = crew.rows
        self.tally = Tally(crew.config, self._trace)

    # ---- epochs ----------------------------------------------------------------------------------

    def join(self, portion: Portion) -> None:
        """Deliver a part of a mixture from now on, and nothing to anyone else.

        Raises
        ------
        ConfigError
            The loader is part of another mixture.
        """
        self.check_usable()
        with self.lock:
            self.check_alone()
            assert isinstance(self.crew, Crew)  # mix() takes no mixture
            self.is_part = True
            self.plan = portion.plan(self.plan)
            self.progress.join(portion)
            self.crew.join(portion)

    def check_alone(self) -> None:
        """Raise ConfigError if the loader is part of a mixture."""
        if self.is_part:
            raise ConfigError(
                "this loader is part of a mixture, which iterates it and has its state: use the "
                "mixture, or make another loader"
            )

    def begin(self, *, ahead: bool, epoch: int | None = None) -> Iteration:
        """Begin the next epoch, or the rest of the one that a state was loaded for.

        Parameters
        ----------
        ahead
            Whether batches will be pulled before the consumer wants them.
        epoch
            The epoch to begin instead of the next one.
        """
        self.check_usable()
        with self.lock:
            self.check_alone()
            self._keep_up(epoch)
            return self._begun(self.progress.begin(ahead=ahead, epoch=epoch))

    def begin_part(self, at: At) -> Iteration:
        """Begin an iteration of the mixture that the loader is in."""
        self.check_usable()
        with self.lock:
            return self._begun(self.progress.begin(ahead=False, at=at))

    def _begun(self, iteration: Iteration) -> Iteration:
        self._is_up_to_date = False
        self.tally.begin(iteration.turn.epoch)
        self.crew.budget.begin()
        for feeder in self.feeders:
            feeder.begin(iteration.turn, iteration.first)
        return iteration

    # ---- the table, later ------------------------------------------------------------------------

    def refresh(self, rows: int | None) -> int:
        """Go through the rows that are in the table now. Return how many there are.

        See :meth:`fastloader.FastLoader.refresh`.
        """
        self.check_usable()
        with self.lock:
            self.check_alone()
            self._renew(rows)
            return self.crew.rows

    def _keep_up(self, epoch: int | None) -> None:
        """Look at the table anew if the loader follows it, and a whole epoch begins."""
        if not (self.config.follow is None or self._is_up_to_date or self.progress.resumes(epoch)):
            self._renew(None)

    def _renew(self, rows: int | None) -> None:
        """Replace the crew by another one, which reads the keys again."""
        old = self.crew
        assert isinstance(old, Crew)  # mixtures have no refresh(), nor do they follow
        old.check_replaceable()
        new = Crew(old.config, rows)
        try:
            self.check_usable()
            was, now = (crew.schema.arranged(described) for crew in (old, new))
            if was != now:
                raise ConfigError(
                    f"{self.config.place}: a batch would hold {now}, and held {was} before: ask "
                    f"for types and classes in the options, or make another loader"
                )
        except BaseException:
            new.close()
            raise
        try:
            self._switch(old, new)
        except BaseException:  # Ctrl-C, which must not leave half of it
            self._switch(old, new)
            raise
        if self.closed:  # meanwhile, by a signal handler
            new.close()

    def _switch(self, old: Staff, new: Staff) -> None:
        """Go on with another crew. A second time changes nothing."""
        if self.progress.plan is not new.plan:
            self.progress.replan(new.plan, new.about)
        if self.crew is not new:
            retired = self._retired.plus(old)
            self.crew, self.plan, self.feeders = new, new.plan, new.feeders
            self._retired, self._is_up_to_date = retired, True
        old.close()

    # ---- states ----------------------------------------------------------------------------------

    def state(self, consumed: int | None) -> dict[str, Any]:
        """See :meth:`fastloader.FastLoader.state_dict`. It takes no lock."""
        self.check_usable()
        self.check_alone()
        if not self.config.deterministic:
            raise ConfigError(
                "with deterministic=False batches come in an order that cannot be resumed: pass "
                "deterministic=True"
            )
        return self.progress.state(consumed)

    def load(self, state: Mapping[str, Any], *, elastic: bool) -> None:
        """See :meth:`fastloader.FastLoader.load_state_dict`."""
        self.check_usable()
        with self.lock:
            self.check_alone()
            self.progress.load(self._as_of(state, elastic=elastic), elastic=elastic)

    def _as_of(self, state: Any, *, elastic: bool) -> Any:
        """Go back to the rows that the table had when a state was saved, if they are still there.

        Returns
        -------
        dict
            The state to load.
        """
        saved = state.get("plan") if isinstance(state, Mapping) else None
        if not (isinstance(self.crew, Crew) and isinstance(saved, Mapping)):
            return state
        here = self.crew.about()
        of_table = {name: saved[name] for name in OF_TABLE if name in saved and name in here}
        if self.config.epoch_rows is not None:
            of_table.pop("epoch_rows", None)
        if self.config.follow is not None and state.get("batch") == state.get("first_row", 0) == 0:
            # Nothing of the epoch was delivered, and it has the rows of now anyway.
            return {**state, "plan": {**saved, **{name: here[name] for name in of_table}}}
        rows = self.crew.began_with(saved)
        if rows is not None:
            check_same_plan(saved, {**here, **of_table}, elastic=elastic)  # before any change
            more = self.crew.rows - rows
            self._renew(rows)
            logger.info(
                "%s: %d rows that were added since the state was saved come %s",
                self.config.place, more,
                "in the next epoch" if self.config.follow else "after refresh()",
            )  # fmt: skip
        return state

    # ---- whether it can be used ------------------------------------------------------------------

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that made the loader, and not a fork of it."""
        return os.getpid() == self._pid

    def check_usable(self) -> None:
        """Raise ClosedError if the loader is closed or belongs to another process."""
        if self.closed:
            raise ClosedError(CLOSED)
        self.check_ours()

    def check_ours(self) -> None:
        """Raise ClosedError in a fork of the process that made the loader."""
        if not self.is_ours:
            raise ClosedError(
                f"this loader belongs to process {self._pid}, of which this one is a fork; make "
                f"one loader in each process"
            )


def _trace(config: Config) -> Trace | None:
    if config.trace is None:
        return None
    try:
        return Trace(config.trace, config.place)
    except OSError as error:
        raise ConfigError(
            f"trace={config.trace!r} cannot be written: {error.strerror}; name a file in an "
            f"existing folder"
        ) from None

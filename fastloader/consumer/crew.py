"""The feeders of a loader and what they share: the keys, the snapshot, the budget of restarts.

It runs in the training process. Making the crew is making the loader: the table is surveyed, the
epochs are planned, and the workers start.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from ..batches.schema import Schema
from ..cache.create import CacheFile
from ..cache.file import Place
from ..errors import ConfigError, FastloaderWarning, PlanError
from ..options.config import Config
from ..plan.keys import Key, Keys, digest, key_values
from ..plan.mixture import Portion
from ..plan.plan import Plan
from ..source.opening import hold
from ..source.protocol import Source
from ..system.descriptors import standard_files_taken
from ..system.limits import limits_named
from ..transport.memory import create_memory, map_keys
from ..transport.process import CLOSE_TIMEOUT_S, Process, end
from ..transport.ring import Layout, Ring, automatic_slots
from ..transport.serial import pack
from ..worker.planned import planned
from ..worker.producer import Producer
from ..worker.survey import Survey, Surveyor, survey
from ..worker.worker import Specification
from .feeder import Keeper
from .fingerprint import fingerprint
from .in_process import InProcess
from .restarts import RestartBudget
from .supervisor import Supervisor

logger = logging.getLogger("fastloader")


class Crew:
    """Surveys the table, plans the epochs, and starts the workers or prepares to do without.

    Parameters
    ----------
    config
        The options of the loader.
    rows
        How many rows of the table to load: the first ones, in the order of the keys. None for all.

    Attributes
    ----------
    config
        The options, with the number of slots, even where that was left open.
    plan
        The plan of this loader's shard.
    schema
        What a batch holds.
    feeders
        The keepers of the rings. Batch ``j`` comes from feeder ``j % len(feeders)``.
    budget
        The restarts of all workers.
    rows
        The number of rows to load.
    """

    is_mixture = False

    def __init__(self, config: Config, rows: int | None = None) -> None:
        self.config = config
        self._first_rows = rows
        self.budget = RestartBudget(config.max_restarts)
        self.feeders: list[Keeper] = []
        self._surveyor: Surveyor | None = None
        self._source: Source | None = None
        self._cache_file: CacheFile | None = None
        self._before_close: list[Callable[[], None]] = []
        self._memory: io.FileIO | None = None
        self._held: io.FileIO | None = None
        try:
            doing = f"make a loader with workers={config.workers}"
            with limits_named(doing), standard_files_taken():
                self._memory = create_memory("plan")
                found = self._start() if config.workers else self._start_in_process()
                self._held = hold(self.config)
            self._key_dtype, self.rows = found.key_dtype, found.rows
            self._about: dict[str, Any] | None = None
        except BaseException:
            self.close()
            raise

    # ---- the start -------------------------------------------------------------------------------

    def _start(self) -> Survey:
        config, memory = self.config, self._memory
        assert memory is not None
        # The processes start before the keys are read, since both take a moment.
        self._surveyor = Surveyor(memory, echoes=bool(config.transform))
        supervisors: list[Supervisor] = []
        for worker in range(config.workers):
            supervisors.append(Supervisor(worker, config, memory, self.budget))
            self.feeders.append(supervisors[-1])
        found = self._first(self._surveyor.survey(config))
        layout, slots = self._arrange(found)
        place = self._cache(found)
        for worker, supervisor in enumerate(supervisors):
            spec = pack(Specification(config, found, place, slots, worker))
            key_at = partial(_key_at, memory, found.key_dtype, found.rows)
            supervisor.configure(spec, layout, slots, key_at)
        if found.snapshot is None:  # or the surveyor has to hold it
            _end([self._surveyor])
        return found

    def _start_in_process(self) -> Survey:
        assert self._memory is not None
        found, _, self._source = survey(self.config, self._memory)
        found = self._first(found)
        layout, slots = self._arrange(found)
        place = self._cache(found)
        producer = Producer(
            self.config, planned(self.config, found, self._memory), found.columns,
            snapshot=found.snapshot, identity=found.identity, place=place, outputs=found.outputs,
        )  # fmt: skip
        try:
            self.feeders.append(InProcess(producer, layout, slots))
        except BaseException:
            producer.close()
            raise
        if found.snapshot is None:
            self._source.close()
        return found

    def _first(self, found: Survey) -> Survey:
        """Return what was found of the rows to load."""
        self._table_rows, rows = found.rows, self._first_rows
        if rows is None or rows == found.rows:
            return found
        if rows > found.rows:
            raise PlanError(
                f"{self.config.place}: the table has {found.rows} rows, and refresh(rows={rows}) "
                f"asks for more"
            )
        return replace(found, rows=rows, cache=found.cache and f"{found.cache}-{rows}")

    def _arrange(self, found: Survey) -> tuple[Layout, int]:
        """Plan the epochs. Return what a slot holds, and how many slots a ring has."""
        config = self.config
        for note in found.notes:
            warnings.warn(note, FastloaderWarning, stacklevel=8)
        if found.remark:
            logger.debug("%s", found.remark)
        assert self._memory is not None
        self.plan: Plan = planned(config, found, self._memory).plan
        self.plan.check(config.place)
        self.schema = Schema(config, found.columns, found.key_dtype, found.outputs)
        layout = Layout.of(config.batch_size, self.schema.slot_columns)
        slots = config.slots or automatic_slots(layout.slot_bytes, max(1, config.workers))
        self.config = replace(config, slots=slots)
        return layout, slots

    def _cache(self, found: Survey) -> Place | None:
        """Open or create the cache, if there is one. Return where the workers find it."""
        config = self.config
        if config.cache is None:
            return None
        columns = self.schema.cached_columns
        file = CacheFile(config, found.cache, found.rows, columns, found.state)
        self._cache_file = file
        if file.place.kept < found.rows:
            logger.info(
                "cache=%r has room for %d of %d rows of %d bytes; the others are decoded in every "
                "epoch. Raise cache_bytes or make room",
                config.cache, file.place.kept, found.rows, file.place.row_bytes,
            )  # fmt: skip
        return file.place

    def join(self, portion: Portion) -> None:
        """Make a part of a mixture from now on, for good."""
        for keeper in self.feeders:
            keeper.join(portion)

    @property
    def rings(self) -> list[Ring]:
        """The rings that batches lie in."""
        return [feeder.ring for feeder in self.feeders]

    def keys(self) -> Keys:
        """Return the keys of the table in its order, (rows,)."""
        assert self._memory is not None
        return map_keys(self._memory, self._key_dtype, self.rows)

    def about(self) -> dict[str, Any]:
        """Return everything that decides about the batches of an epoch, ready for JSON."""
        if self._about is None:
            self._about = fingerprint(self.config, self.plan, self.keys())
        return dict(self._about)

    def began_with(self, state: Mapping[str, Any]) -> int | None:
        """Return how many rows the table had as of a state, if they still are its first ones.

        Parameters
        ----------
        state
            What a :meth:`about` has returned; from an untrusted file.
        """
        rows, was = state.get("rows"), state.get("keys")
        if not isinstance(rows, int) or not 0 < rows <= self._table_rows or rows == self.rows:
            return None
        assert self._memory is not None
        keys = map_keys(self._memory, self._key_dtype, self._table_rows)[:rows]
        return rows if digest(keys) == was else None

    # ---- the end ---------------------------------------------------------------------------------

    def check_replaceable(self) -> None:
        """Raise ConfigError if something else than the crew needs its rings."""
        if self._before_close:
            raise ConfigError(
                "pin_memory=True has pinned the rings of this loader, which refresh() would "
                "replace: make another loader, or leave out pin_memory"
            )

    def before_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called on closing, while the rings still exist. It may run twice."""
        self._before_close.append(callback)

    def close(self, *, patient: bool = True) -> None:
        """End the processes and release everything.

        All of them are told first, and have ``CLOSE_TIMEOUT_S`` together before they are killed.
        Each step may be done twice, so a close that was interrupted is finished by the next one.

        Parameters
        ----------
        patient
            Wait for the processes to end; else kill them and leave the waiting to another call.
        """
        surveyor = [self._surveyor] if self._surveyor is not None else []
        try:
            _end([*self.feeders, *surveyor], before_close=self._before_close, patient=patient)
        finally:
            for thing in (self._source, self._cache_file, self._memory, self._held):
                if thing is not None:
                    thing.close()


def _key_at(memory: io.FileIO, key_dtype: str, rows: int, position: int) -> Key | None:
    """Return the key of a row by its position, which may be anything."""
    if not 0 <= position < rows:
        return None
    return key_values(map_keys(memory, key_dtype, rows)[position : position + 1])[0]


class _Owner(Protocol):
    """The owner of a process: a feeder or the surveyor."""

    @property
    def process(self) -> Process | None: ...

    def stop(self) -> None: ...

    def close(self, *, patient: bool = True) -> None: ...


def _end(
    owners: Sequence[_Owner],
    *,
    before_close: Iterable[Callable[[], None]] = (),
    patient: bool = True,
) -> None:
    """Tell the processes to end, wait for all of them together, and release what they had."""
    for owner in owners:
        owner.stop()
    processes = [owner.process for owner in owners if owner.process is not None]
    end(processes, CLOSE_TIMEOUT_S if patient else 0, patient=patient)
    try:
        for callback in before_close:
            callback()
    finally:
        for owner in owners:
            owner.close(patient=patient)

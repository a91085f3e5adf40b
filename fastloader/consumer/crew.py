"""The feeders of a loader and what they share: the keys, the snapshot, the budget of restarts."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

from ..cache.file import CacheFile, Place
from ..errors import FastloaderWarning
from ..fields.slots import cached_columns, key_column, slot_columns
from ..options.config import Config
from ..plan.keys import Keys
from ..plan.plan import Plan
from ..source.opening import hold
from ..source.protocol import Source
from ..system.descriptors import standard_files_taken
from ..system.limits import limits_named
from ..transport.memory import create_memory, map_keys
from ..transport.process import CLOSE_TIMEOUT_S, Process, end
from ..transport.ring import Layout, automatic_slots
from ..worker.producer import Producer
from ..worker.survey import Survey, Surveyor, survey
from ..worker.worker import specification
from .feeder import Feeder, RestartBudget
from .in_process import InProcess
from .supervisor import Supervisor

logger = logging.getLogger("fastloader")


class Crew:
    """Has the table looked at, plans, and starts the workers, or gets ready to do without.

    config: with the number of slots, where that was left open.
    plan: of this loader's shard. columns: of labels and sample weights, with their types.
    key_column: of the keys in a batch. feeders: batch ``j`` is that of feeder ``j % len(feeders)``.
    budget: of restarts, for all of them.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.budget = RestartBudget(config.max_restarts)
        self.feeders: list[Feeder] = []
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
            self._key_dtype = found.key_dtype
        except BaseException:
            self.close()
            raise

    def _start(self) -> Survey:
        config, memory = self.config, self._memory
        assert memory is not None
        # The processes start before the keys are read: both take a moment, now the same one.
        self._surveyor = Surveyor(memory)
        supervisors: list[Supervisor] = []
        for worker in range(config.workers):
            supervisors.append(Supervisor(worker, config.workers, memory, self.budget))
            self.feeders.append(supervisors[-1])
        found = self._surveyor.survey(config)
        layout, slots = self._arrange(found)
        place = self._cache(found)
        for worker, supervisor in enumerate(supervisors):
            spec = specification(config, found, layout, place, slots=slots, worker=worker)
            supervisor.configure(spec, layout, slots)
        if found.snapshot is None:  # which the surveyor would have to hold
            self._surveyor.stop()
            end([self._surveyor.process])
            self._surveyor.close()
        return found

    def _start_in_process(self) -> Survey:
        assert self._memory is not None
        found, keys, self._source = survey(self.config, self._memory)
        layout, slots = self._arrange(found)
        place = self._cache(found)
        producer = Producer(
            self.config, keys, found.columns, snapshot=found.snapshot, identity=found.identity,
            place=place,
        )  # fmt: skip
        try:
            self.feeders.append(InProcess(producer, layout, slots))
        except BaseException:
            producer.close()
            raise
        if found.snapshot is None:
            self._source.close()
        return found

    def _arrange(self, found: Survey) -> tuple[Layout, int]:
        """Plans; what a slot holds, and how many there are in a ring."""
        config = self.config
        for note in found.notes:
            warnings.warn(note, FastloaderWarning, stacklevel=6)
        self.plan: Plan = Plan.of(config, found.rows)
        self.plan.check(config.where)
        self.columns = found.columns
        self.key_column = key_column(found.key_dtype)
        columns = slot_columns(config, found.columns, found.key_dtype)
        layout = Layout.of(config.batch_size, columns)
        slots = config.slots or automatic_slots(layout.slot_bytes, max(1, config.workers))
        self.config = replace(config, slots=slots)
        return layout, slots

    def _cache(self, found: Survey) -> Place | None:
        config = self.config
        if config.cache is None:
            return None
        columns = cached_columns(config, found.columns)
        file = CacheFile(config, found.cache, found.rows, columns, found.state)
        self._cache_file = file
        if file.place.kept < found.rows:
            logger.info(
                "cache=%r has room for %d of %d rows of %d bytes; the others are decoded as ever. "
                "Raise cache_bytes or make room",
                config.cache, file.place.kept, found.rows, file.place.row_bytes,
            )  # fmt: skip
        return file.place

    def keys(self) -> Keys:
        """The table's, in its order, (rows,)."""
        assert self._memory is not None
        return map_keys(self._memory, self._key_dtype)

    def before_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback``, which may be called twice, called while the rings are still there."""
        self._before_close.append(callback)

    def close(self, *, patient: bool = True) -> None:
        """End the processes and give everything back.

        All are told first, and have ``CLOSE_TIMEOUT_S`` together before they are killed. Each step
        may be done twice, so a close that was interrupted is finished by the next one.

        patient: wait for what is ending; else it is killed and left to another call.
        """
        if self._surveyor is not None:
            self._surveyor.stop()
        for feeder in self.feeders:
            feeder.stop()
        end([*self._processes()], CLOSE_TIMEOUT_S if patient else 0, patient=patient)
        try:
            for callback in self._before_close:
                callback()
        finally:
            for feeder in self.feeders:
                feeder.close(patient=patient)
            if self._surveyor is not None:
                self._surveyor.close(patient=patient)
            for thing in (self._source, self._cache_file, self._memory, self._held):
                if thing is not None:
                    thing.close()

    def _processes(self) -> Iterator[Process]:
        for keeper in (*self.feeders, self._surveyor):
            if keeper is not None and keeper.process is not None:
                yield keeper.process

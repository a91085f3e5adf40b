"""The feeders of a loader and what they share: the keys, the snapshot, the budget of restarts."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable
from dataclasses import replace

from .cache import CacheFile, Place
from .columns import Column
from .config import Config
from .errors import FastloaderWarning
from .keys import Keys
from .plan import Plan
from .producer import Producer, key_column, plan_of
from .ring import Layout, automatic_slots, create_memory, map_keys, slot_image, stored_image
from .supervisor import Feeder, InProcess, RestartBudget, Supervisor
from .survey import Survey, Surveyor, survey
from .worker import specification

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
        with contextlib.ExitStack() as undo:
            self._memory = create_memory("plan")
            undo.callback(self._memory.close)
            found = self._start(undo) if config.workers else self._start_in_process(undo)
            self._key_dtype = found.key_dtype
            self._undo = undo.pop_all()

    def _start(self, undo: contextlib.ExitStack) -> Survey:
        config = self.config
        # The processes start before the keys are read: both take a moment, now the same one.
        surveyor = Surveyor(self._memory)
        undo.callback(surveyor.close)
        supervisors: list[Supervisor] = []
        for worker in range(config.workers):
            supervisors.append(Supervisor(worker, config.workers, self._memory, self.budget))
            undo.callback(supervisors[-1].close)
        found = surveyor.survey(config)
        layout, slots = self._arrange(found)
        place = self._cache(found, undo)
        for worker, supervisor in enumerate(supervisors):
            spec = specification(config, found, layout, place, slots=slots, worker=worker)
            supervisor.configure(spec, layout, slots)
        self.feeders += supervisors
        if found.snapshot is None:  # which the surveyor would have to hold
            surveyor.close()
        return found

    def _start_in_process(self, undo: contextlib.ExitStack) -> Survey:
        found, keys, source = survey(self.config, self._memory)
        undo.callback(source.close)
        layout, slots = self._arrange(found)
        producer = Producer(
            self.config,
            keys,
            found.columns,
            snapshot=found.snapshot,
            place=self._cache(found, undo),
        )
        undo.callback(producer.close)
        self.feeders.append(InProcess(producer, layout, slots))
        undo.callback(self.feeders[0].close)
        if found.snapshot is None:
            source.close()
        return found

    def _arrange(self, found: Survey) -> tuple[Layout, int]:
        """Plans; what a slot holds, and how many there are in a ring."""
        config = self.config
        for note in found.notes:
            warnings.warn(note, FastloaderWarning, stacklevel=6)
        self.plan: Plan = plan_of(config, found.rows)
        self.plan.check(config.where)
        self.columns = found.columns
        self.key_column = key_column(found.key_dtype)
        layout = layout_of(config, found)
        slots = config.slots or automatic_slots(layout.slot_bytes, max(1, config.workers))
        self.config = replace(config, slots=slots)
        return layout, slots

    def _cache(self, found: Survey, undo: contextlib.ExitStack) -> Place | None:
        config = self.config
        if config.cache is None:
            return None
        images = [column for image in config.images for column in kept_of(config, image)]
        columns = [*images, *found.columns]
        file = CacheFile(config, found.cache, found.rows, columns, found.state)
        undo.callback(file.close)
        if file.place.kept < found.rows:
            logger.info(
                "cache=%r has room for %d of %d rows of %d bytes; the others are decoded as ever. "
                "Raise cache_bytes or make room",
                config.cache, file.place.kept, found.rows, file.place.row_bytes,
            )  # fmt: skip
        return file.place

    def keys(self) -> Keys:
        """The table's, in its order, (rows,)."""
        return map_keys(self._memory, self._key_dtype)

    def before_close(self, callback: Callable[[], None]) -> None:
        """Has it called while the rings are still there."""
        self._undo.callback(callback)

    def close(self) -> None:
        """May be called twice."""
        self._undo.close()


def column_of(config: Config, image: str) -> Column:
    """An image column as it stands in a slot."""
    return replace(config.image_column(image), name=slot_image(image))


def kept_of(config: Config, image: str) -> list[Column]:
    """What a cache keeps of an image column."""
    if not config.is_random(image):
        return [column_of(config, image)]
    pictures, seen = stored_image(image)
    size = config.decoder_options(image)["size"]
    return [Column(pictures, "uint8", (*size, 3)), Column(seen, "uint32", (2,))]


def layout_of(config: Config, found: Survey) -> Layout:
    """Of a slot."""
    images = [column_of(config, image) for image in config.images]
    keys = [key_column(found.key_dtype)] if config.with_keys else []
    return Layout.of(config.batch_size, [*images, *found.columns, *keys])

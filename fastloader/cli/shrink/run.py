"""One run of shrink: find the rows that are not in the new table yet, and shrink them.

A thread reads, as many as there are cores shrink, and the command's own thread writes. Rows are
written in the order of their keys, so what is in the table does not depend on who is how fast.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ...fields.values import TOO_LARGE
from ...options.config import Config
from ...plan.keys import Key, Keys
from ...plan.order import Positions
from ...source.opening import open_source
from ...transport.memory import create_memory
from ...worker.survey import survey
from ..command import DONE, FOUND, MACHINE, CommandError, progress
from .columns import Copied
from .image import Shrinker, Shrunk
from .recipe import Recipe
from .rows import Part, Rows, missing
from .target import SmallTable

BATCH_ROWS, BATCH_BYTES = 1000, 16 << 20
"""The size of a transaction: whichever limit is reached first ends the batch."""

PARTS_AHEAD = 4
"""The parts that have been read and are not written yet: they bound the memory."""

SHOWN_KEYS = 10


def find_columns(
    config: Config, target: Config, keys: Keys, only: Sequence[str] | None
) -> list[Copied]:
    """Return the columns of a table to copy, keys included, in their order.

    Parameters
    ----------
    config, target
        Name both tables.
    keys
        The keys, whose types have been checked.
    only
        The names of the columns other than keys, or None for all of them.

    Raises
    ------
    SourceError
        If the other kind of database has no type for a column.
    CommandError
        If there is no column of a name.
    """
    to_postgres = target.url.is_postgres
    if config.url.is_postgres:
        from .columns_postgres import PostgresColumns

        return PostgresColumns(config).find(only, to_postgres=to_postgres)
    from .columns_sqlite import SQLiteColumns

    return SQLiteColumns(config).find(keys, only, to_postgres=to_postgres)


class Ahead(NamedTuple):
    """A part, and what will become of its images."""

    part: Part
    images: list[Future[Shrunk]]


class Run:
    """One run of shrink, and its result.

    Parameters
    ----------
    config, target
        Name both tables.
    recipe
        What decides on the rows.
    shrinker
        Makes the images.
    only
        The columns to copy besides the keys, or None for all.
    workers
        The number of threads that shrink.
    mix_versions
        Whether other libraries may have made the rows that are there.

    Attributes
    ----------
    added
        The number of rows that were stored.
    there
        The number of rows that were in the table before.
    stale
        How many of these are not in the source any more.
    gone
        The number of rows that were deleted while the command ran.
    same
        How many of the added images were copied as they are.
    before, after
        The bytes of the added images, in the source and in the table.
    reasons
        The number of bad rows, by the reason.
    keys
        All keys of the bad rows, by the reason.
    seconds
        The duration of the run.
    """

    def __init__(
        self,
        config: Config,
        target: Config,
        recipe: Recipe,
        shrinker: Shrinker,
        *,
        only: Sequence[str] | None,
        workers: int,
        mix_versions: bool,
    ) -> None:
        self._config, self._target = config, target
        self._recipe, self._shrinker = recipe, shrinker
        self._only, self._workers, self._mix_versions = only, workers, mix_versions
        self.added = self.there = self.stale = self.gone = self.same = 0
        self.before = self.after = 0
        self.reasons: Counter[str] = Counter()
        self.keys: dict[str, list[Key]] = {}
        self.seconds = 0.0

    @property
    def code(self) -> int:
        """The exit code: FOUND if rows are bad, or the tables have different rows."""
        return FOUND if self.reasons or self.stale or self.gone else DONE

    def run(self, table: SmallTable) -> None:
        """Add the rows that the table does not have.

        Raises
        ------
        CommandError
            If the table was not made by the same recipe, or memory runs out.
        SourceError, PlanError
            If a database refuses, or one of the tables cannot hold what the other holds.
        """
        start = time.monotonic()
        config = self._config
        is_there = table.is_there
        if is_there:
            self._recipe.check(table.note(), self._target.place, mix_versions=self._mix_versions)
        with create_memory("shrink") as memory:
            found, keys, source = survey(config, memory)
            source.close()
            columns = find_columns(config, self._target, keys, self._only)
            todo = self._todo(keys) if is_there else np.arange(len(keys))
            table.settle(columns, config.keys, self._recipe.image, self._recipe.note)
            rows = Rows(config, columns, found.identity)
            with contextlib.closing(rows):
                self._shrink(rows, keys, todo, table)
            del keys  # a view of the memory
        table.finish()
        self.seconds = time.monotonic() - start

    def _todo(self, keys: Keys) -> Positions:
        """Return the positions of the keys that the table does not have."""
        source = open_source(self._target, who="shrink")
        with contextlib.closing(source):
            parts = [*source.keys()]
        there = np.concatenate(parts) if parts else keys[:0]
        if len(there) == 0:
            return np.arange(len(keys))
        todo = missing(keys, there)
        self.there = len(there)
        self.stale = len(there) - (len(keys) - len(todo))
        return todo

    def _shrink(self, rows: Rows, keys: Keys, todo: Positions, table: SmallTable) -> None:
        bar = progress(range(len(todo)), "Shrinking", total=len(todo), unit="images")
        batch: list[list[Any]] = []
        size = came = 0
        with self._ahead(rows, keys, todo) as parts:
            for part, images in parts:
                came += len(part.keys)
                for i, image in enumerate(images):
                    keep, made = self._settled(part, i, image)
                    next(bar, None)
                    if keep:
                        batch.append([*part.copied[i], made])
                        size += len(made) if isinstance(made, (bytes, str)) else 8
                    if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
                        self._add(table, batch)
                        batch, size = [], 0
        if batch:
            self._add(table, batch)
        for _ in bar:  # rows that are gone
            pass
        self.gone = max(0, len(todo) - came)

    def _add(self, table: SmallTable, batch: list[list[Any]]) -> None:
        """Store a batch in one transaction."""
        table.add(batch)
        self.added += len(batch)

    def _settled(self, part: Part, i: int, image: Future[Shrunk]) -> tuple[bool, Any]:
        """Return whether to store a row, and with what as its image."""
        try:
            made = image.result()
        except MemoryError:
            raise CommandError(
                f"{self._config.place}: row {part.keys[i]}: not enough memory for the image; use "
                f"fewer --workers, or lower --max-pixels",
                MACHINE,
            ) from None
        reason = part.bad.get(i) or made.reason
        if not reason:
            self.before += made.before
            self.after += made.after
            self.same += made.is_same
            return True, made.image
        self.reasons[reason] += 1
        self.keys.setdefault(reason, []).append(part.keys[i])
        if self._recipe.bad_rows == "leave" or part.images.kinds[i] == TOO_LARGE:
            return False, None
        self.before += made.before
        self.after += made.before
        return True, _as_image(part.images.value(i), is_postgres=self._target.url.is_postgres)

    @contextlib.contextmanager
    def _ahead(self, rows: Rows, keys: Keys, todo: Positions) -> Iterator[Iterator[Ahead]]:
        """Give the block all parts in order, read and shrunk ahead of it in other threads."""
        reader = ThreadPoolExecutor(1, "shrink: read")
        shrinkers = ThreadPoolExecutor(self._workers, "shrink")
        parts = rows.read(keys, todo)

        def ahead() -> Ahead | None:
            part = next(parts, None)
            if part is None:
                return None
            shrink, images = self._shrinker.shrink, part.images
            return Ahead(part, [shrinkers.submit(shrink, images, i) for i in range(len(images))])

        def in_order() -> Iterator[Ahead]:
            waiting = deque(reader.submit(ahead) for _ in range(PARTS_AHEAD))
            while (found := waiting.popleft().result()) is not None:
                yield found
                waiting.append(reader.submit(ahead))

        try:
            yield in_order()
        finally:
            rows.interrupt()
            reader.shutdown(cancel_futures=True)
            shrinkers.shutdown(cancel_futures=True)

    def shown_keys(self, reason: str) -> str:
        """Return the first keys of the bad rows with a reason."""
        keys = self.keys[reason]
        shown = ", ".join(map(str, itertools.islice(keys, SHOWN_KEYS)))
        return f"{shown}, ..." if len(keys) > SHOWN_KEYS else shown


def _as_image(value: Any, *, is_postgres: bool) -> Any:
    """Return a value of SQLite's, which may be of any type, as the image column can hold it."""
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        is_utf8 = not any("\udc80" <= character <= "\udcff" for character in value)
        return value if is_utf8 and not is_postgres else data
    if is_postgres and not (value is None or isinstance(value, bytes)):
        return str(value).encode()
    return value

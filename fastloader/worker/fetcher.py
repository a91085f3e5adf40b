"""Reads a worker's rows from its source. All of it runs on the fetching thread."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import NamedTuple

from ..fields.columns import Column
from ..observe.clock import Clock
from ..options.config import Config
from ..source.files import FileReader
from ..source.opening import open_source
from ..source.protocol import Chunk, Snapshot, Source
from .assignment import Assignment


class Fetched(NamedTuple):
    """A chunk of an epoch's rows; None says that the epoch has no rows left."""

    epoch: int
    chunk: Chunk | None


class Fetcher:
    """Reads the rows of a worker's batches in their order, epoch after epoch.

    Only :meth:`interrupt`, :attr:`clock` and :attr:`reconnects` are for other threads, too. The
    thread that opens the source is the one that reads from it: connections belong to a thread.

    Parameters
    ----------
    config
        The loader's options.
    assignment
        The batches of the worker.
    columns
        The label columns, as the survey has found them.
    snapshot, identity
        What the source must see, and the database it must be; see
        :func:`fastloader.source.open_source`.
    who
        What the server calls this connection.

    Attributes
    ----------
    clock
        At ``fetch`` while a chunk is read.
    """

    def __init__(
        self,
        config: Config,
        assignment: Assignment,
        columns: tuple[Column, ...],
        *,
        snapshot: Snapshot | None,
        identity: str,
        who: str,
    ) -> None:
        self._assignment = assignment
        self._columns = [its for its in columns if its.name in config.value_columns]
        self._open = partial(open_source, config, snapshot, who=who, identity=identity)
        self._open_files = partial(FileReader, config)
        self._source: Source | None = None
        self._files: FileReader | None = None
        self._chunks: Iterator[Fetched] | None = None
        self.clock = Clock(traced=config.trace is not None)

    def restart(self, epoch: int, first_batch: int, last_epoch: int | None) -> Fetched:
        """Return the first chunk of another run; see :meth:`Assignment.batches`."""
        if self._source is None:
            self._source = self._open()
        if self._files is None:
            self._files = self._open_files()
        if self._chunks is not None:
            self._chunks.close()  # type: ignore[attr-defined]  # a generator
        self._chunks = self._read(self._source, self._files, epoch, first_batch, last_epoch)
        return self.fetch()

    def fetch(self) -> Fetched:
        """Return the next chunk."""
        assert self._chunks is not None
        self.clock.enter("fetch")
        try:
            return next(self._chunks)
        finally:
            self.clock.enter(None)

    def _read(
        self,
        source: Source,
        files: FileReader,
        epoch: int,
        first_batch: int,
        last_epoch: int | None,
    ) -> Iterator[Fetched]:
        while last_epoch is None or epoch <= last_epoch:
            rest: Fetched | None = Fetched(epoch, None)
            ranges = self._assignment.ranges_from(epoch, first_batch)
            for chunk in files.chunks(source, source.read(ranges, self._columns)):
                yield Fetched(epoch, chunk)
                rest = None
            if rest is not None:  # or a table without any of its rows would never be done
                yield rest
            epoch, first_batch = epoch + 1, 0
        yield from repeat(Fetched(epoch, None))

    @property
    def reconnects(self) -> int:
        """How often the source has reconnected."""
        return 0 if self._source is None else self._source.reconnects

    def interrupt(self) -> None:
        """Have what the source is doing end soon, with SourceError."""
        if (source := self._source) is not None:
            source.interrupt()

    def close(self) -> None:
        """Close the source and the folders of files. May be called twice."""
        if self._files is not None:
            self._files.close()
        if self._source is not None:
            self._source.close()

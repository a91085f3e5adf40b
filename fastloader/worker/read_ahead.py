"""The chunks that the fetching thread reads ahead, as the decoding thread sees them."""

from __future__ import annotations

import logging
from functools import partial

from ..observe.clock import Clock
from ..source.protocol import Chunk
from .fetch_thread import FetchThread, Outcome
from .fetcher import Fetched, Fetcher

logger = logging.getLogger("fastloader")

CLOSE_TIMEOUT_S = 5.0
"""How long to wait for an interrupted read to end when a disk or a server does not answer."""


class ReadAhead:
    """Has a chunk fetched while the one before is decoded. Both happen without the GIL.

    Parameters
    ----------
    fetcher
        What runs on the fetching thread.
    clock
        The clock of the decoding thread, which is at ``source_wait`` while it waits for a chunk.
    where
        What is read, for the log.

    Attributes
    ----------
    offset
        Rows of :attr:`chunk` before this one have been taken. The caller moves it on.
    """

    def __init__(self, fetcher: Fetcher, clock: Clock, where: str) -> None:
        self._fetcher, self._clock, self._where = fetcher, clock, where
        self._thread = FetchThread("fastloader-fetch")
        self._next: Outcome[Fetched] | None = None
        self._fetched = Fetched(0, None)
        self.offset = 0

    @property
    def chunk(self) -> Chunk:
        """The chunk that :meth:`have_chunk` has made sure of."""
        assert self._fetched.chunk is not None
        return self._fetched.chunk

    def start(self, epoch: int, first_batch: int, last_epoch: int | None) -> None:
        """Begin another run, whatever was under way; see :meth:`Assignment.batches`."""
        self._fetched = Fetched(epoch, None)
        # A fetch that is under way ends first, because there is one thread.
        again = partial(self._fetcher.restart, epoch, first_batch, last_epoch)
        self._next = self._thread.submit(again)

    def have_chunk(self, epoch: int) -> bool:
        """Make sure of a chunk with rows left, waiting for it.

        Returns
        -------
        bool
            False if the source has no more rows of this epoch.
        """
        while self._fetched.chunk is None or self.offset == len(self._fetched.chunk.keys):
            if self._fetched.epoch > epoch:
                return False
            assert self._next is not None
            if not self._next.is_there():
                self._clock.enter("source_wait")
            self._fetched, self.offset = self._next.take(), 0
            self._clock.enter("decode")
            self._next = self._thread.submit(self._fetcher.fetch)
        return self._fetched.epoch == epoch

    def interrupt(self) -> None:
        """Have a fetch that is under way end soon, with SourceError. From any thread."""
        following = self._next
        if following is not None and not following.is_there():
            self._fetcher.interrupt()

    def close(self, *, patient: bool) -> None:
        """Close the source and end the thread. May be called twice, and in the middle of itself.

        Parameters
        ----------
        patient
            Wait until the thread has ended.
        """
        self.interrupt()
        self._thread.submit(self._fetcher.close)  # the source may only now be being opened
        self._thread.close()
        if patient and not self._thread.wait(CLOSE_TIMEOUT_S):
            logger.warning("%s: a read that does not end is left to itself", self._where)

"""What a loader has done so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stats:
    """Counts since the loader was made. ``loader.stats()`` makes one.

    epochs: iterations begun.
    batches, rows: handed to the consumer.
    leases: batches that were handed over as arrays over the ring, without a copy.
    copies: batches that had to be copied, because the consumer held ``slots - 1`` others of the
        same ring. If there are many, raise ``slots``.
    leased: batches that the consumer holds right now, of those handed over as leases.
    bad_rows: rows that were dropped or filled, each time.
    partial_rows: rows with a picture that ends early and was filled up with grey, each time.
    passed_over: rows that appeared in a batch's key range after the keys had been read.
    restarts: workers that were replaced after they had died.
    reconnects: connections to the database that were lost and made again.
    wait_s: seconds that the consumer waited for a batch, of all its threads together.
    """

    epochs: int = 0
    batches: int = 0
    rows: int = 0
    leases: int = 0
    copies: int = 0
    leased: int = 0
    bad_rows: int = 0
    partial_rows: int = 0
    passed_over: int = 0
    restarts: int = 0
    reconnects: int = 0
    wait_s: float = 0.0

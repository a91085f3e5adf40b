"""What a loader has done so far, where the time went, and what to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Stages:
    """Seconds of each stage, of all threads that are in it together.

    Of a worker, which is always in one of three:

    source_wait_s: waited for rows of the database.
    decode_s: decoded and resized pictures and stored labels.
    slot_wait_s: waited for a free slot, because the consumer has not taken the batches yet.

    Beside them, in a worker's second thread:

    fetch_s: fetched rows, while the one before them were decoded.

    Of the consumer, which is always in one of three while it iterates:

    wait_s: waited for a batch.
    hand_over_s: made arrays of it.
    consumer_s: did with it what it does, until it came for the next one.

    And of the workers, all their threads:

    cpu_s: CPU time.
    """

    fetch_s: float = 0.0
    source_wait_s: float = 0.0
    decode_s: float = 0.0
    slot_wait_s: float = 0.0
    cpu_s: float = 0.0
    wait_s: float = 0.0
    hand_over_s: float = 0.0
    consumer_s: float = 0.0

    @property
    def workers_s(self) -> float:
        """Seconds of the workers, of all of them together."""
        return self.source_wait_s + self.decode_s + self.slot_wait_s


class Pictures(NamedTuple):
    """Decoded pictures of a format.

    decoded: how many. bytes: of their blobs. pixels: before they were resized. largest: the pixels
    of the largest.
    """

    decoded: int = 0
    bytes: int = 0
    pixels: int = 0
    largest: int = 0

    def plus(self, other: Pictures) -> Pictures:
        """Both together."""
        return Pictures(
            self.decoded + other.decoded,
            self.bytes + other.bytes,
            self.pixels + other.pixels,
            max(self.largest, other.largest),
        )


def together(these: Mapping[str, Pictures], those: Mapping[str, Pictures]) -> dict[str, Pictures]:
    """By format."""
    names = {**these, **those}
    none = Pictures()
    return {name: these.get(name, none).plus(those.get(name, none)) for name in names}


@dataclass(frozen=True)
class Stats(Stages):
    """Counts and seconds since the loader was made. ``loader.stats()`` makes one.

    epochs: iterations begun.
    batches, rows: handed to the consumer.
    leases: batches that were handed over as arrays over the ring, without a copy.
    copies: batches that had to be copied, because the consumer held ``slots - 1`` others of the
        same ring. If there are many, raise ``slots``.
    leased: batches that the consumer holds right now, of those handed over as leases.
    bad_rows: rows that were dropped or filled, each time.
    partial_rows: rows with an image that ends early or is damaged, filled up with grey, each time.
    passed_over: rows that appeared in a batch's key range after the keys had been read.
    restarts: workers that were replaced after they had died.
    reconnects: connections to the database that were lost and made again.
    cached_rows: rows that came out of the cache.
    pictures: what was decoded for them, by format: "JPEG", "PNG", "WebP", and of others Pillow's
        name. Those that could not be decoded are in none.

    The seconds are those of :class:`Stages`.
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
    cached_rows: int = 0
    pictures: Mapping[str, Pictures] = field(default_factory=dict)


CONSUMER, SOURCE, DECODE = "consumer", "source", "decode"

IDLE = 0.1
"""Of the workers' time. If they wait longer than that for free slots, they are fast enough."""


def bottleneck(stages: Stages, workers: int) -> str:
    """The stage that the others wait for: CONSUMER, SOURCE or DECODE."""
    if workers == 0:  # one thread does all, one thing after the other
        rest = stages.consumer_s
        if rest > stages.source_wait_s + stages.decode_s:
            return CONSUMER
    elif stages.slot_wait_s > IDLE * stages.workers_s:
        return CONSUMER
    return SOURCE if stages.source_wait_s > stages.decode_s else DECODE


def advice(stages: Stages, *, workers: int, cores: int) -> str:
    """Which stage is the bottleneck, by what it is seen, and what to try."""
    found = bottleneck(stages, workers)
    if workers == 0:
        shares = stages.consumer_s + stages.source_wait_s + stages.decode_s or 1.0
        loading = (stages.source_wait_s + stages.decode_s) / shares
        return (
            f"{found}-bound: workers=0 loads in the consumer's own thread, {loading:.0%} of its "
            f"time; workers={cores} would do that beside it"
        )
    total = stages.workers_s or 1.0
    if found == CONSUMER:
        return (
            f"consumer-bound: the consumer is slower than the loader: fine (workers wait "
            f"{stages.slot_wait_s / total:.0%} of their time for free slots)"
        )
    plural = "worker" if workers == 1 else "workers"
    more = f"workers={2 * workers} would fetch more at once"
    if found == SOURCE:
        return (
            f"source-bound: {workers} {plural} wait {stages.source_wait_s / total:.0%} of their "
            f"time for rows; {more}; an index, the storage of the images, the network or the "
            f"server's disk may be what is slow (fastloader plan)"
        )
    used = stages.cpu_s / total * workers
    if used < 0.75 * min(workers, cores):
        hint = "others use the cores too"
    elif workers < cores:
        hint = f"try workers={cores}"
    else:
        hint = 'more cores, smaller pictures in the table or quality="fast" would help'
    return f"decode-bound: {workers} {plural} use {used:.1f} of {cores} cores; {hint}"

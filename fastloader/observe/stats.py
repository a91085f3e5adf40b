"""What a loader has done so far, where the time went, and what to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(frozen=True)
class Stages:
    """The seconds of each stage, summed over all threads that were in it.

    A worker is always in one of four stages: ``source_wait_s``, ``decode_s``, ``transform_s`` or
    ``slot_wait_s``.
    Its second thread fetches meanwhile. The consumer, while it iterates, is always in one of three
    others: ``wait_s``, ``hand_over_s`` or ``consumer_s``.

    Attributes
    ----------
    fetch_s
        Workers fetched rows, while the rows before were decoded.
    source_wait_s
        Workers waited for rows from the database.
    decode_s
        Workers decoded and resized images and stored labels.
    transform_s
        Workers ran the functions of `transform`.
    slot_wait_s
        Workers waited for a free slot, because the consumer had not taken the batches yet.
    cpu_s
        CPU time of all threads of the workers.
    wait_s
        The consumer waited for a batch.
    hand_over_s
        A batch was turned into arrays.
    consumer_s
        The consumer used a batch, until it asked for the next one.
    """

    fetch_s: float = 0.0
    source_wait_s: float = 0.0
    decode_s: float = 0.0
    transform_s: float = 0.0
    slot_wait_s: float = 0.0
    cpu_s: float = 0.0
    wait_s: float = 0.0
    hand_over_s: float = 0.0
    consumer_s: float = 0.0

    @property
    def workers_s(self) -> float:
        """The seconds of all workers together."""
        return self.source_wait_s + self.decode_s + self.transform_s + self.slot_wait_s


class Pictures(NamedTuple):
    """Counts of the images of one format that were decoded.

    Attributes
    ----------
    decoded
        The number of images.
    bytes
        The size of their blobs.
    pixels
        The number of their pixels, before they were resized.
    largest
        The number of pixels of the largest image.
    """

    decoded: int = 0
    bytes: int = 0
    pixels: int = 0
    largest: int = 0

    def plus(self, other: Pictures) -> Pictures:
        """Return the counts of both together."""
        return Pictures(
            self.decoded + other.decoded,
            self.bytes + other.bytes,
            self.pixels + other.pixels,
            max(self.largest, other.largest),
        )


def together(these: Mapping[str, Pictures], those: Mapping[str, Pictures]) -> dict[str, Pictures]:
    """Return the counts of both together, by format."""
    names = {**these, **those}
    none = Pictures()
    return {name: these.get(name, none).plus(those.get(name, none)) for name in names}


@dataclass(frozen=True)
class Stats(Stages):
    """Counts and seconds since the loader was made, as ``loader.stats()`` returns them.

    The seconds are those of :class:`Stages`. A row that is bad or partial counts in every epoch.

    Attributes
    ----------
    epochs
        The number of iterations that were begun.
    batches
        The number of batches that were delivered.
    rows
        The number of rows that were delivered.
    leases
        The number of batches that were delivered as arrays over the ring, without a copy.
    copies
        The number of batches that had to be copied, because the consumer held ``slots - 1`` others
        of the same ring. If there are many, raise ``slots``.
    leased
        The number of leases that the consumer holds at this moment.
    bad_rows
        The number of rows that were dropped or filled.
    partial_rows
        The number of rows with an image that ends early or is damaged, and was filled with gray.
    dropped_rows
        The number of rows that a transform has dropped.
    passed_over
        The number of rows that appeared in a batch's key range after the keys had been read.
    rows_added
        The number of rows that the table has gained since the loader was made, as ``refresh()`` or
        ``follow="epoch"`` has found. It is negative if rows were deleted.
    restarts
        The number of workers that died and were replaced.
    reconnects
        The number of connections to the database that were lost and made again.
    cached_rows
        The number of rows that came from the cache.
    pictures
        The images that were decoded, by format: "JPEG", "PNG", "WebP", or Pillow's name for
        others. Images that could not be decoded are not counted.
    """

    epochs: int = 0
    batches: int = 0
    rows: int = 0
    leases: int = 0
    copies: int = 0
    leased: int = 0
    bad_rows: int = 0
    partial_rows: int = 0
    dropped_rows: int = 0
    passed_over: int = 0
    rows_added: int = 0
    restarts: int = 0
    reconnects: int = 0
    cached_rows: int = 0
    pictures: Mapping[str, Pictures] = field(default_factory=dict)


CONSUMER, SOURCE, DECODE, TRANSFORM = "consumer", "source", "decode", "transform"

IDLE = 0.1
"""A share of the workers' time. If they wait longer for free slots, they are fast enough."""


def bottleneck(stages: Stages, workers: int) -> str:
    """Return the stage that the others wait for: CONSUMER, SOURCE, DECODE or TRANSFORM."""
    if workers == 0:  # one thread does everything, one after the other
        rest = stages.consumer_s
        if rest > stages.source_wait_s + stages.decode_s + stages.transform_s:
            return CONSUMER
    # A worker can also wait for slots because rows come in bursts, or because another worker has
    # the batch that comes next. Then the consumer waits, too.
    elif (
        stages.slot_wait_s > IDLE * stages.workers_s
        and stages.wait_s <= stages.hand_over_s + stages.consumer_s
    ):
        return CONSUMER
    if stages.transform_s > max(stages.source_wait_s, stages.decode_s):
        return TRANSFORM
    return SOURCE if stages.source_wait_s > stages.decode_s else DECODE


def advice(stages: Stages, *, workers: int, cores: int) -> str:
    """Return which stage is the bottleneck, the figures that show it, and what to try.

    Parameters
    ----------
    stages
        The seconds of a loader or an epoch.
    workers, cores
        The number of workers, and of the cores that they may use.
    """
    found = bottleneck(stages, workers)
    if workers == 0:
        loading_s = stages.source_wait_s + stages.decode_s + stages.transform_s
        loading = loading_s / (stages.consumer_s + loading_s or 1.0)
        return (
            f"{found}-bound: workers=0 loads in the consumer's own thread, {loading:.0%} of its "
            f"time; workers={cores} would do that in parallel"
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
            f"time for rows; {more}; what is slow may be a missing index, the storage of the "
            f"images, the network or the server's disk (fastloader plan)"
        )
    used = stages.cpu_s / total * workers
    if used < 0.75 * min(workers, cores):
        hint = "other processes use the cores too"
    elif workers < cores:
        hint = f"try workers={cores}"
    elif found == TRANSFORM:
        hint = "more cores or faster functions would help, or cache_transformed=True"
    else:
        hint = 'more cores, smaller images (fastloader shrink) or quality="fast" would help'
    share = (
        f", {stages.transform_s / total:.0%} of their time in transform"
        if (found == TRANSFORM)
        else ""
    )
    return f"{found}-bound: {workers} {plural} use {used:.1f} of {cores} cores{share}; {hint}"

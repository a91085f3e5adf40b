"""The gap between two epochs: from the last batch of one to the first batch of the next.

It is compared with the time between two batches inside epochs. ``anew`` is the same loader, but
sent to the first batch of each epoch before the epoch begins: its workers drop what they have
prepared and start over, as if they had not known that the epoch would come.

A ``fast`` consumer takes batches as they come. A ``slow`` one sleeps after each batch for 1.2 times
the time that the loader needs for one. The table is a SQLite file in the page cache.

Workers that are equally busy finish together, so a fast consumer gets its batches in bunches, one
from each worker. Therefore all times are taken over as many batches as there are workers. Inside
epochs they are divided by that number; between epochs the time of the other batches of a bunch is
subtracted.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

from .measure import BATCH, SIZE, Sample, Spread, child, cores, paired, parser, ratio, report, table
from .photos import database, read_photos

NUMPY, DATASET, ANEW = "NumPy loop", "as_dataset", ", anew"
LOOPS = {"numpy": NUMPY, "dataset": DATASET}
CONSUMERS = ("fast", "slow")
SLOWER = 1.2

CALIBRATION_EPOCHS = 2
"""Epochs that measure the time of a batch, after a first one that wakes the workers."""


# ---- one run, in a process of its own ------------------------------------------------------------


class Contestant:
    """A loader in one of the two loops, with one way to begin the next epoch."""

    def __init__(self, name: str, path: str) -> None:
        from fastloader import FastLoader

        options: dict[str, Any] = {"shuffle": True, "drop_remainder": True}
        options |= {"batch_size": BATCH, "size": SIZE, "workers": cores()}
        self.loader = FastLoader(path, **options)
        self._state = self.loader.state_dict() if name.endswith(ANEW) else None
        self._batches: Any = self.loader
        if name.startswith(DATASET):
            self._batches = self.loader.as_dataset()

    def times(self, epochs: range, sleep_s: float = 0.0) -> Iterator[list[float]]:
        """Yield for each epoch when its batches came. The consumer sleeps after each batch."""
        for epoch in epochs:
            if self._state is not None:
                self.loader.load_state_dict({**self._state, "epoch": epoch, "batch": 0})
            came = []
            for _batch in self._batches:
                came.append(time.perf_counter())
                if sleep_s:
                    time.sleep(sleep_s)
            yield came


def run_one(consumer: str, name: str, path: str, *, epochs: int) -> Sample:
    """Return times in milliseconds, that of the sleep too, so that it can be subtracted."""
    contestant = Contestant(name, path)
    with contextlib.closing(contestant.loader):
        if len(contestant.loader) < 2 * cores():
            raise SystemExit("an epoch must have two batches for each core: pass more --copies")
        began = 1 + CALIBRATION_EPOCHS
        _woken, *found = contestant.times(range(began))
        batch_s = statistics.mean((came[-1] - came[0]) / (len(came) - 1) for came in found)
        sleep_s = SLOWER * batch_s if consumer == "slow" else 0.0
        found = list(contestant.times(range(began, began + epochs + 1), sleep_s))
    inside, between = gaps(found, contestant.loader.config.workers)
    return {
        "sleep_ms": sleep_s * 1000,
        "inside_ms": [seconds * 1000 for seconds in inside],
        "inside_median_ms": statistics.median(inside) * 1000,
        "between_ms": [seconds * 1000 for seconds in between],
        "between_median_ms": statistics.median(between) * 1000,
    }


def gaps(epochs: list[list[float]], bunch: int) -> tuple[list[float], list[float]]:
    """Return the seconds from batch to batch inside epochs, and from each epoch to the next.

    Parameters
    ----------
    epochs
        For each epoch the times when its batches came, in seconds.
    bunch
        The number of batches that may come together.
    """
    came = [(second, epoch) for epoch, seconds in enumerate(epochs) for second in seconds]
    inside: list[float] = []
    across: dict[int, list[float]] = {}
    for (begin, epoch), (end, later) in zip(came, came[bunch:], strict=False):
        if later == epoch:
            inside.append((end - begin) / bunch)
        else:
            across.setdefault(epoch, []).append(end - begin)
    others = (bunch - 1) * statistics.median(inside)
    return inside, [statistics.mean(seconds) - others for seconds in across.values()]


# ---- all of them ---------------------------------------------------------------------------------


def lines(samples: dict[str, list[Sample]], consumer: str) -> list[str]:
    def pooled(runs: list[Sample], key: str) -> Spread:
        return Spread.of(value for run in runs for value in run[key])

    rows = []
    for name, runs in samples.items():
        anew = samples[name.removesuffix(ANEW) + ANEW]
        rows.append(
            [
                name,
                f"{pooled(runs, 'inside_ms'):.1f}",
                f"{pooled(runs, 'between_ms'):.1f}",
                f"{gap_ratio(runs):.2f}",
                f"{ratio(anew, runs, 'between_median_ms'):.2f}",
            ]
        )
    sleep = Spread.of(run["sleep_ms"] for runs in samples.values() for run in runs)
    slept = f" consumer, which sleeps {sleep:.1f} ms" if consumer == "slow" else " consumer"
    headers = [consumer + slept, "ms between batches", "between epochs", "x that between batches"]
    return [table([*headers, "anew takes x times as long"], rows), ""]


def gap_ratio(runs: list[Sample]) -> Spread:
    """Return the ratio of the medians of each run."""
    return Spread.of(run["between_median_ms"] / run["inside_median_ms"] for run in runs)


def main() -> None:
    arguments = parser("epochs", __doc__, rounds=3)
    arguments.add_argument(
        "--epochs", type=int, default=10, metavar="N", help="gaps measured in each run (10)"
    )
    arguments.add_argument(
        "--copies", type=int, default=2, metavar="N", help="rows for each photo (2)"
    )
    arguments.add_argument(
        "--consumer", action="append", choices=CONSUMERS, help="only this; may be given again (all)"
    )
    arguments.add_argument(
        "--loop", action="append", choices=[*LOOPS], help="only this; may be given again (all)"
    )
    arguments.add_argument(
        "--one", nargs=3, metavar=("CONSUMER", "NAME", "DATABASE"), help="one run, as JSON"
    )
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(run_one(*options.one, epochs=options.epochs)))
        return
    options.consumer = options.consumer or [*CONSUMERS]
    options.loop = options.loop or [*LOOPS]
    names = [LOOPS[loop] + anew for loop in options.loop for anew in ("", ANEW)]
    photos = read_photos(options.images, options.photos)
    samples: dict[str, list[Sample]] = {}
    out = []
    with database(photos, len(photos) * options.copies) as path:
        for consumer in options.consumer:

            def run(name: str, consumer: str = consumer) -> Sample:
                words = ["--epochs", options.epochs, "--one", consumer, name, path]
                return child("benchmarks.epochs", *words)

            found = paired(names, options.rounds, run=run)
            samples |= {f"{consumer}: {name}": runs for name, runs in found.items()}
            out += lines(found, consumer)
    report(options, samples, out[:-1])


if __name__ == "__main__":
    main()

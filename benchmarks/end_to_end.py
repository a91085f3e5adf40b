"""From a table to a TensorFlow training loop: images per second, and their cost in CPU time.

All contestants read the same SQLite file, or from the same PostgreSQL server over a Unix socket,
and deliver batches of 64 at 224x224. The server's CPU time is not counted, but it uses the same
cores. `bare` delivers nothing: it is one process for each core that only decodes blobs in memory,
with libjpeg-turbo's own default settings. Of the others only fastloader, pillow-* and
tf-map-antialias resize with antialiasing; TensorFlow's decoder also uses the faster, less exact DCT
by default.

The time is from making the iterator of an epoch to its end. The time that TensorFlow then takes to
delete the iterator has a column of its own; Clock.epoch in contestants.py says why.
"""

from __future__ import annotations

from dataclasses import dataclass

from . import bare, pillows
from .contestants import NAMES
from .measure import Sample, Spread, child, chosen, paired, parser, ratio, report, spread, table
from .peers import PEERS
from .photos import database, read_photos

US = "fastloader"
DEFAULT = {
    "sqlite": (US, "pillow-batch", "sqldataset", "bare"),
    "postgres": (US, "pillow-batch", "by-hand", "bare"),
}
ALL = {
    "sqlite": tuple(name for name in NAMES if name not in ("by-hand", *PEERS)),
    "postgres": tuple(name for name in NAMES if name not in ("sqldataset", *PEERS)),
}


@dataclass(frozen=True)
class Goal:
    """The speed that fastloader should reach.

    Attributes
    ----------
    rival
        A contestant.
    at_least
        The wanted ratio of fastloader's images per second to the rival's.
    """

    rival: str
    at_least: float

    def verdict(self, found: Spread) -> str:
        reached = "reached" if found.median >= self.at_least else "not reached"
        return f"goal: {self.at_least:g} x {self.rival}: {reached}, {found:.2f}"


GOALS = {
    "sqlite": (Goal("pillow-batch", 5), Goal("sqldataset", 1.4), Goal("bare", 0.85)),
    "postgres": (Goal("pillow-batch", 4), Goal("by-hand", 1.5)),
}


def lines(samples: dict[str, list[Sample]], kind: str) -> list[str]:
    """Return the table and the goals as text."""
    rows = [
        [
            name,
            f"{spread(found, 'images_per_s'):.0f}",
            f"{ratio(samples[US], found, 'images_per_s'):.2f}",
            f"{spread(found, 'cpu_ms_per_image'):.2f}",
            f"{spread(found, 'training_cpu_ms_per_image'):.3f}",
            f"{spread(found, 'teardown_s'):.2f}",
        ]
        for name, found in samples.items()
    ]
    headers = ["median [lowest..highest]", "images/s", "fastloader is x times that"]
    headers += ["CPU s per 1000 images", "in the training process", "s to end the iterator"]
    verdicts = [
        goal.verdict(ratio(samples[US], samples[goal.rival], "images_per_s"))
        for goal in GOALS[kind]
        if goal.rival in samples
    ]
    return [table(headers, rows), "", *verdicts]


def main() -> None:
    arguments = parser("end_to_end", __doc__, rounds=5)
    arguments.add_argument("--db", choices=DEFAULT, default="sqlite", help="the database (sqlite)")
    arguments.add_argument("--all", action="store_true", help=f"run {', '.join(NAMES)}")
    arguments.add_argument(
        "--peers", action="store_true", help=f"run {', '.join(PEERS)}, as far as installed"
    )
    arguments.add_argument("--epochs", type=int, default=1, metavar="N", help="measured epochs (1)")
    arguments.add_argument(
        "--copies", type=int, default=4, metavar="N", help="rows for each photo (4)"
    )
    options = arguments.parse_args()
    photos = read_photos(options.images, options.photos)
    bare.compiled()
    if why := pillows.install("pillow-simd"):
        print(why)
    names = (US, *PEERS) if options.peers else (ALL if options.all else DEFAULT)[options.db]
    with database(photos, len(photos) * options.copies, kind=options.db) as path:

        def run(name: str) -> Sample:
            return child("benchmarks.contestants", name, path, "--epochs", options.epochs)

        samples = paired(chosen(names, options.only), options.rounds, run=run)
    report(options, samples, lines(samples, options.db))


if __name__ == "__main__":
    main()

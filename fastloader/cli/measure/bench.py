"""The command ``fastloader bench``: a loader against the generator that it replaces."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...observe.stats import Stages, advice, bottleneck
from ...options.config import make_config
from ...system.machine import cores
from ..command import Outcome, add_loader_arguments, loader_options, plot_path, progress, table
from ..database_files import check_output
from .plot import BLUE, GREEN, GREY, ORANGE, PURPLE, check_plots, figure
from .throughput import Measured, Spread, of_generator, of_loader

STAGES = {
    "decode": "decodes and resizes",
    "transform": "runs transform",
    "source_wait": "waits for rows of the database",
    "slot_wait": "waits for the consumer",
}


class Bench:
    """Measures a table: fastloader against a plain generator, and where the time goes.

    Both read the table alternately, several times: fastloader with the given options, and the
    generator that most people write, a cursor and Pillow in one process, which resizes the first
    image column to the same size and can do nothing else, so it does not run --transform. The
    consumer does nothing, so this is the most that training could get. The first round is cold and
    does not count.
    """

    name = "bench"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the loader, of the measurement, and the plot to draw."""
        add_loader_arguments(parser, but=["trace"])
        parser.add_argument(
            "--rounds",
            type=int,
            default=3,
            metavar="N",
            help="measure both N times [default: 3]",
        )
        parser.add_argument(
            "--seconds",
            type=float,
            default=3.0,
            metavar="S",
            help="measure each for S seconds [default: 3]",
        )
        parser.add_argument(
            "-o",
            "--output",
            type=plot_path,
            metavar="FILE",
            help="draw the result to this file: .png, .svg or .pdf",
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Measure both, and compare them within each round."""
        if arguments.output:
            check_plots()
        options = loader_options(arguments)
        config = make_config(options)
        check_output(arguments.output, config)
        rounds, seconds = max(1, arguments.rounds), max(0.1, arguments.seconds)
        of_loader(options, min(1.0, seconds))  # so that errors show at once
        of_generator(config, 0)
        runs: dict[str, list[Measured]] = {"fastloader": [], "generator": []}
        for _ in progress(range(rounds), "Measuring", unit="rounds"):
            runs["fastloader"].append(of_loader(options, seconds))
            runs["generator"].append(of_generator(config, seconds))
        found = _Found.of(runs, config.workers)
        if arguments.output:
            found.draw(arguments.output)
        return Outcome(found.text(arguments.output), found.data())


@dataclass(frozen=True)
class _Found:
    """The result of all rounds.

    Attributes
    ----------
    fast, plain
        Images/s of fastloader and of the generator.
    ratio
        Their ratio within each round.
    stages, rows
        The times and the rows of all rounds of fastloader.
    workers
        The number of workers.
    """

    fast: Spread
    plain: Spread
    ratio: Spread
    stages: Stages
    rows: int
    workers: int

    @classmethod
    def of(cls, runs: dict[str, list[Measured]], workers: int) -> _Found:
        """Summarize the measurements of both, in the order of the rounds."""
        fast, plain = runs["fastloader"], runs["generator"]
        sums = {name: sum(getattr(run.stages, name) for run in fast) for name in asdict(Stages())}
        pairs = zip(fast, plain, strict=True)
        return cls(
            Spread.of(run.images_per_s for run in fast),
            Spread.of(run.images_per_s for run in plain),
            Spread.of(one.images_per_s / other.images_per_s for one, other in pairs),
            Stages(**sums),
            sum(run.rows for run in fast),
            workers,
        )

    def data(self) -> dict[str, Any]:
        """Return the result for ``--json``."""
        return {
            "images_per_s": {
                "fastloader": asdict(self.fast),
                "generator": asdict(self.plain),
            },
            "ratio": asdict(self.ratio),
            "workers": self.workers,
            "rows": self.rows,
            "stages": asdict(self.stages),
            "bottleneck": bottleneck(self.stages, self.workers),
            "advice": self._advice(),
        }

    def _advice(self) -> str:
        return advice(self.stages, workers=self.workers, cores=cores())

    def _costs(self) -> list[tuple[str, float]]:
        """Return (what a worker does, milliseconds per image)."""
        return [
            (words, getattr(self.stages, f"{stage}_s") / self.rows * 1000)
            for stage, words in STAGES.items()
            if stage != "transform" or self.stages.transform_s
        ]

    def text(self, plot: Path | None) -> str:
        """Return the result as text. ``plot`` is the file that was drawn."""
        rates = table(
            ["images/s", "median", "lowest", "highest"],
            [
                (name, f"{s.median:.0f}", f"{s.low:.0f}", f"{s.high:.0f}")
                for name, s in (("fastloader", self.fast), ("plain generator", self.plain))
            ],
        )
        total = self.stages.workers_s or 1.0
        costs = table(
            ["a worker", "ms an image", "of its time"],
            [
                (words, f"{ms:.2f}", f"{ms * self.rows / 1000 / total:.0%}")
                for words, ms in self._costs()
            ],
        )
        cpu = f"{self.stages.cpu_s / self.rows * 1000:.2f} s CPU for 1000 images"
        lines = [rates, "", f"fastloader is {self.ratio:.1f} times as fast", "", costs, "", cpu]
        lines.append(self._advice())
        return "\n".join(lines + ([f"plot: {plot}"] if plot else []))

    def draw(self, path: Path) -> None:
        """Draw the rates, and what a worker does with its time."""
        with figure(path, columns=2, height=2.6) as (left, right):
            rates = {"plain\ngenerator": self.plain, "fastloader": self.fast}
            bars = left.barh(
                list(rates),
                [rate.median for rate in rates.values()],
                color=[GREY, BLUE],
                xerr=[
                    [rate.median - rate.low for rate in rates.values()],
                    [rate.high - rate.median for rate in rates.values()],
                ],
                error_kw={"ecolor": "#444444", "capsize": 3},
            )
            labels = [f"  {rate.median:.0f}" for rate in rates.values()]
            left.bar_label(bars, labels, padding=6)
            left.margins(x=0.2)
            left.set_title(f"{self.ratio.median:.1f} times as many images per second")
            left.set_xlabel("images per second (line: lowest to highest)")
            at = 0.0
            colors = dict(zip(STAGES.values(), (BLUE, PURPLE, ORANGE, GREEN), strict=True))
            for words, ms in self._costs():
                color = colors[words]
                right.barh([""], [ms], left=at, color=color, label=f"{words}: {ms:.2f} ms")
                at += ms
            right.set_title("What a worker does with its time")
            right.set_xlabel("milliseconds per image")
            right.set_ylim(-0.5, 2.2)  # the legend stands above the bar
            right.legend(loc="upper left")
            right.set_yticks([])

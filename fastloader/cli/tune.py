"""``fastloader tune``."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import make_config
from ..machine import cores
from .command import Outcome, add_loader_arguments, loader_options, plot_path, progress, table
from .database_files import check_output
from .plot import BLUE, ORANGE, check_plots, figure
from .throughput import Spread, of_loader

ROUNDS = 3

WORTH_IT = 1.03
"""How many times as fast a setting has to be to take the place of one with fewer workers, or of the
default; and it has to be faster in every round, or on a noisy machine chance would choose."""

SLOTS = (4, 16)
FETCH_BYTES = (256 << 10, 1 << 20, 4 << 20, 16 << 20)


class Tune:
    """Finds the workers, slots and fetch size that suit a table and this machine.

    Measures some numbers of workers first, then, with the best of them, slots and sizes of a fetch,
    several times in turn, for about as long as --seconds says; then prints the variables to set.
    The consumer does nothing: where training needs cores itself, give it fewer workers. An option
    that is given is left as it is.
    """

    name = "tune"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_loader_arguments(parser, but=["trace"])
        parser.add_argument(
            "--seconds", type=float, default=60.0, metavar="S", help="in all, about (60)"
        )
        parser.add_argument(
            "-o",
            "--output",
            type=plot_path,
            metavar="FILE",
            help="where to draw images/s against workers: .png, .svg or .pdf",
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        if arguments.output:
            check_plots()
        options = loader_options(arguments)
        config = make_config(options)
        check_output(arguments.output, config)
        sweep = Sweep(options, arguments.seconds)
        sweep.warm_up()
        counts = [config.workers] if "workers" in options else worker_counts(cores())
        workers = sweep.best([{"workers": count} for count in counts], "workers", share=0.6)
        others: list[dict[str, Any]] = [workers]
        others += [workers | {"slots": n} for n in SLOTS if "slots" not in options]
        others += [
            workers | {"fetch_bytes": n} for n in FETCH_BYTES if "fetch_bytes" not in options
        ]
        chosen = sweep.best(others, "slots and fetch size", share=0.4)
        if arguments.output:
            draw(sweep, chosen, arguments.output)
        return Outcome(_text(sweep, chosen, arguments.output), _data(sweep, chosen))


def worker_counts(cores: int) -> list[int]:
    """To be measured: few on a few cores, and not all of many."""
    counts = {1, 2, cores // 2, cores - 1, cores, cores + cores // 2, 2 * cores}
    return sorted(count for count in counts if count > 0)


@dataclass
class Sweep:
    """Measures settings, and remembers what it has found.

    options: of the loader, which settings are added to. seconds: for all measurements, about.
    found: images/s of each measurement of a setting.
    """

    options: dict[str, Any]
    seconds: float
    found: dict[tuple[tuple[str, int], ...], list[float]] = field(default_factory=dict)

    def warm_up(self) -> None:
        """The table, once, as far as it goes: the first to read it would be the slowest."""
        of_loader(self.options, min(5.0, 0.1 * self.seconds))

    def best(self, settings: list[dict[str, Any]], doing: str, *, share: float) -> dict[str, Any]:
        """The first of the settings that no later one is worth taking for. share: of the time."""
        each_s = max(0.3, share * self.seconds / (len(settings) * ROUNDS) - 0.7)  # to start
        # Compared within rounds, because the speed of a machine drifts over minutes.
        rates: list[dict[int, float]] = [{} for _ in range(ROUNDS)]
        runs = [(round_, i) for round_ in range(ROUNDS) for i in range(len(settings))]
        for round_, i in progress(runs, f"Measuring {doing}", unit="runs"):
            turn = (i + round_) % len(settings)
            rate = of_loader(self.options | settings[turn], each_s).images_per_s
            rates[round_][turn] = rate
            self.found.setdefault(_key(settings[turn]), []).append(rate)
        chosen = 0
        for i in range(1, len(settings)):
            times = [round_[i] / round_[chosen] for round_ in rates]
            if min(times) > 1 and statistics.median(times) >= WORTH_IT:
                chosen = i
        return settings[chosen]

    def images_per_s(self, setting: dict[str, Any]) -> float:
        return statistics.median(self.found[_key(setting)])

    @property
    def results(self) -> list[tuple[dict[str, int], Spread]]:
        return [(dict(key), Spread.of(rates)) for key, rates in self.found.items()]


def _key(setting: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(setting.items()))


def exports(setting: dict[str, Any]) -> list[str]:
    """For a shell."""
    return [f"export FASTLOADER_{name.upper()}={value}" for name, value in setting.items()]


def _text(sweep: Sweep, chosen: dict[str, Any], plot: Path | None) -> str:
    rows = (
        (
            ", ".join(f"{name}={value}" for name, value in setting.items()),
            f"{rate.median:.0f}", f"{rate.low:.0f}", f"{rate.high:.0f}",
            "<" if setting == chosen else "",
        )
        for setting, rate in sorted(sweep.results, key=_order)
    )  # fmt: skip
    text = table(["images/s", "median", "lowest", "highest", ""], rows)
    lines = [text, "", *exports(chosen)]
    return "\n".join(lines + ([f"plot: {plot}"] if plot else []))


def _order(result: tuple[dict[str, int], Spread]) -> tuple[Any, ...]:
    setting, _ = result
    return len(setting), sorted(setting.items(), reverse=True)


def _data(sweep: Sweep, chosen: dict[str, Any]) -> dict[str, Any]:
    return {
        "chosen": chosen,
        "images_per_s": sweep.images_per_s(chosen),
        "exports": exports(chosen),
        "measured": [
            {"setting": dict(key), "images_per_s": rates} for key, rates in sweep.found.items()
        ],
    }


def draw(sweep: Sweep, chosen: dict[str, Any], path: Path) -> None:
    """Images/s against workers."""
    points = [(s["workers"], rate) for s, rate in sweep.results if list(s) == ["workers"]]
    with figure(path) as axes:
        for workers, rate in points:
            axes.plot([workers, workers], [rate.low, rate.high], color=BLUE, alpha=0.5)
        axes.plot(*zip(*((w, rate.median) for w, rate in points), strict=True), "o-", color=BLUE)
        best = dict(points)[chosen["workers"]]
        axes.plot(chosen["workers"], best.median, "o", color=ORANGE, markersize=9)
        axes.annotate(
            f"chosen: {chosen['workers']}, {best.median:.0f} images/s",
            (chosen["workers"], best.median), xytext=(0, -32), textcoords="offset points",
            color=ORANGE, ha="center", backgroundcolor="white",
        )  # fmt: skip
        axes.axvline(cores(), color="#999999", linestyle=":", zorder=0)
        axes.text(cores(), 0, " cores", color="#777777", va="bottom")
        axes.set_ylim(bottom=0)
        axes.set_xticks([workers for workers, _ in points])
        axes.set_xlabel("workers")
        axes.set_title("images/s (median of the rounds, lowest to highest)")

"""The command ``fastloader tune``: a search for the fastest settings within a given time."""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...options.config import make_config
from ...system.machine import cores
from ..command import Outcome, add_loader_arguments, loader_options, plot_path, progress, table
from ..database_files import check_output
from .plot import BLUE, ORANGE, check_plots, figure
from .throughput import Spread, of_loader

ROUNDS = 3
"""The number of rounds over all settings, if there is time for them."""

REPEATS = 4
"""The number of extra rounds over the deciding pair: the default, and its best rival."""

WORTH_IT = 1.03
"""How many times as fast a setting has to be to replace the default.

One with fewer workers may be slower by the same factor.
"""

CERTAIN = 0.8
"""The share of the rounds in which that has to show. Otherwise a noisy machine would decide."""

LEAST_S = 0.2
"""The shortest measurement, in seconds, without the start of the loader."""

SLOTS = (4, 16)
FETCH_BYTES = (256 << 10, 1 << 20, 4 << 20, 16 << 20)


class Tune:
    """Finds the workers, slots and fetch size that suit a table and this machine.

    It first measures several numbers of workers, then, with the best of them, slots and sizes of a
    fetch, in several rounds, within the time of --seconds. Then it repeats the pair that decides:
    the default and its best rival. If the difference does not show in four of five rounds, it is
    noise, and the default stays. At the end it prints the variables to set. The consumer does
    nothing, so use fewer workers if training needs cores itself. Options that are given stay as
    they are.
    """

    name = "tune"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the loader, the time, and the plot to draw."""
        add_loader_arguments(parser, but=["trace"])
        parser.add_argument(
            "--seconds",
            type=float,
            default=60.0,
            metavar="S",
            help="measure for S seconds [default: 60]",
        )
        parser.add_argument(
            "-o",
            "--output",
            type=plot_path,
            metavar="FILE",
            help="draw images/s against workers to this file: .png, .svg or .pdf",
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Measure numbers of workers first, then slots and sizes of a fetch."""
        if arguments.output:
            check_plots()
        options = loader_options(arguments)
        config = make_config(options)
        check_output(arguments.output, config)
        sweep = Sweep(options, arguments.seconds)
        sweep.warm_up()
        counts = [config.workers] if "workers" in options else worker_counts(cores())
        settings = [{"workers": count} for count in counts]
        default = {"workers": config.workers if "workers" in options else cores()}
        workers = sweep.best(settings, default, "workers", share=0.6)
        others: list[dict[str, Any]] = [workers]
        others += [workers | {"slots": n} for n in SLOTS if "slots" not in options]
        others += [
            workers | {"fetch_bytes": n} for n in FETCH_BYTES if "fetch_bytes" not in options
        ]
        chosen = sweep.best(others, workers, "slots and fetch size", share=1.0)
        sweep.measure_once(chosen)
        if arguments.output:
            draw(sweep, chosen, arguments.output)
        return Outcome(_text(sweep, chosen, arguments.output), _data(sweep, chosen))


def worker_counts(cores: int) -> list[int]:
    """Return the numbers of workers to measure: at most seven, however many cores there are."""
    counts = {1, 2, cores // 2, cores - 1, cores, cores + cores // 2, 2 * cores}
    return sorted(count for count in counts if count > 0)


@dataclass
class Sweep:
    """Measures settings, and remembers the results.

    Attributes
    ----------
    options
        The options of the loader, which settings are added to.
    seconds
        The time for all measurements.
    found
        Images/s of each measurement, by setting.
    verdicts
        The reason for each choice, in words.
    """

    options: dict[str, Any]
    seconds: float
    found: dict[tuple[tuple[str, int], ...], list[float]] = field(default_factory=dict)
    verdicts: list[str] = field(default_factory=list)
    _start: float = field(default_factory=time.monotonic)
    _overhead_s: float = 0.7
    """The time around a measurement in which a loader starts, warms up and ends."""

    def warm_up(self) -> None:
        """Read the table for a while, because the first measurement of a cold table is slower."""
        self._measure({}, min(5.0, 0.1 * self.seconds))
        self.found.clear()

    def best(
        self, settings: list[dict[str, Any]], default: dict[str, Any], doing: str, *, share: float
    ) -> dict[str, Any]:
        """Return the default, or the setting that is worth taking instead.

        Parameters
        ----------
        settings
            The settings to measure, with the default among them.
        default
            The setting that stays if the difference is noise.
        doing
            What is measured, in words.
        share
            The share of the remaining time that this may take.
        """
        if len(settings) < 2:
            return settings[0]
        left_s = share * self._left_s
        if self.found and left_s < (len(settings) + 2) * (LEAST_S + self._overhead_s):
            self.verdicts.append(f"no time was left for {doing}; raise --seconds")
            return default
        end = time.monotonic() + left_s
        runs = ROUNDS * len(settings) + 2 * REPEATS
        each_s = left_s / runs - self._overhead_s
        # Settings are compared within rounds, because a machine's speed drifts over minutes.
        rounds: list[list[float]] = []
        bar = progress(range(ROUNDS), f"Measuring {doing}", unit="rounds")
        for number in bar:
            repeats_s = 2 * REPEATS * (self._overhead_s + LEAST_S)
            if rounds and time.monotonic() + self._cost_s(each_s, len(settings)) > end - repeats_s:
                break
            rounds.append(self._round(settings, each_s, number))
        base = settings.index(default)
        rival = _rival(settings, rounds, base)
        if rival == base:
            return default
        pairs = [(rates[base], rates[rival]) for rates in rounds]
        for number in range(REPEATS):
            if time.monotonic() + self._cost_s(each_s, 2) > end:
                break
            first, second = self._round([default, settings[rival]], each_s, number)
            pairs.append((first, second))
        times = [other / of_default for of_default, other in pairs]
        fewer = settings[rival].get("workers", 0) < default.get("workers", 0)
        certain = len(times) > 1 and is_certain(times, 1 / WORTH_IT if fewer else WORTH_IT)
        self.verdicts.append(_verdict(default, settings[rival], times, certain=certain))
        return settings[rival] if certain else default

    def measure_once(self, setting: dict[str, Any]) -> None:
        """Measure a setting that had no rival, and so was not measured yet."""
        if _key(setting) not in self.found:
            self._measure(setting, self._left_s - self._overhead_s)

    def _round(self, settings: list[dict[str, Any]], each_s: float, number: int) -> list[float]:
        """Return images/s of each setting. Every round begins with another one."""
        rates = [0.0] * len(settings)
        for i in range(len(settings)):
            which = (i + number) % len(settings)
            rates[which] = self._measure(settings[which], each_s)
        return rates

    def _measure(self, setting: dict[str, Any], seconds: float) -> float:
        start, seconds = time.monotonic(), max(LEAST_S, seconds)
        rate = of_loader(self.options | setting, seconds).images_per_s
        spent_s = time.monotonic() - start - seconds
        self._overhead_s = 0.7 * self._overhead_s + 0.3 * max(0.0, spent_s)
        self.found.setdefault(_key(setting), []).append(rate)
        return rate

    def _cost_s(self, each_s: float, runs: int) -> float:
        return runs * (max(LEAST_S, each_s) + self._overhead_s)

    @property
    def _left_s(self) -> float:
        return max(0.0, self.seconds - (time.monotonic() - self._start))

    def images_per_s(self, setting: dict[str, Any]) -> float:
        """Return the median rate of a setting."""
        return statistics.median(self.found[_key(setting)])

    @property
    def results(self) -> list[tuple[dict[str, int], Spread]]:
        """The rates of all settings, in the order in which they were first measured."""
        return [(dict(key), Spread.of(rates)) for key, rates in self.found.items()]


def _rival(settings: list[dict[str, Any]], rounds: list[list[float]], base: int) -> int:
    """Return the number of the setting that may replace ``base``, or ``base`` itself.

    If a setting is clearly faster, it is the first one that is almost as fast as the fastest.
    Otherwise it is the one with the fewest workers that is almost as fast as ``base``.
    """
    times = [
        statistics.median(rates[i] / rates[base] for rates in rounds) for i in range(len(settings))
    ]
    if max(times) >= WORTH_IT:
        enough = max(WORTH_IT, max(times) / WORTH_IT)
    else:
        enough = 1 / WORTH_IT
        if all("workers" in s and len(s) == 1 for s in settings):
            return next(i for i, x in enumerate(times) if x >= enough)
        return base
    return next(i for i, x in enumerate(times) if x >= enough)


def is_certain(times: list[float], least: float) -> bool:
    """Return whether nearly all of these ratios say that a setting is worth taking."""
    clear = sum(x > min(1.0, least) for x in times)
    return statistics.median(times) >= least and clear >= CERTAIN * len(times)


def _verdict(
    default: dict[str, Any], rival: dict[str, Any], times: list[float], *, certain: bool
) -> str:
    if len(times) == 1:
        return (
            f"{_words(rival)} was {times[0]:.2f} times as fast as {_words(default)}, but there was "
            f"time for only one round, which may be chance: {_words(default)} stays; raise "
            f"--seconds"
        )
    ratio = f"{Spread.of(times):.2f} times as fast as {_words(default)} in {len(times)} rounds"
    if certain:
        return f"{_words(rival)} is {ratio}, so it replaces the default"
    return f"{_words(rival)} was {ratio}, which is noise: {_words(default)} stays"


def _words(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in setting.items())


def _key(setting: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(setting.items()))


def exports(setting: dict[str, Any]) -> list[str]:
    """Return the lines that set the variables in a shell."""
    return [f"export FASTLOADER_{name.upper()}={value}" for name, value in setting.items()]


def _text(sweep: Sweep, chosen: dict[str, Any], plot: Path | None) -> str:
    rows = (
        (
            _words(setting),
            f"{rate.median:.0f}", f"{rate.low:.0f}", f"{rate.high:.0f}",
            "<" if setting == chosen else "",
        )
        for setting, rate in sorted(sweep.results, key=_order)
    )  # fmt: skip
    text = table(["images/s", "median", "lowest", "highest", ""], rows)
    lines = [text, "", *sweep.verdicts, *exports(chosen)]
    return "\n".join(lines + ([f"plot: {plot}"] if plot else []))


def _order(result: tuple[dict[str, int], Spread]) -> tuple[Any, ...]:
    setting, _ = result
    return len(setting), sorted(setting.items(), reverse=True)


def _data(sweep: Sweep, chosen: dict[str, Any]) -> dict[str, Any]:
    return {
        "chosen": chosen,
        "images_per_s": sweep.images_per_s(chosen),
        "verdicts": sweep.verdicts,
        "exports": exports(chosen),
        "measured": [
            {"setting": dict(key), "images_per_s": rates} for key, rates in sweep.found.items()
        ],
    }


def draw(sweep: Sweep, chosen: dict[str, Any], path: Path) -> None:
    """Draw images/s against workers."""
    points = [(s["workers"], rate) for s, rate in sweep.results if list(s) == ["workers"]]
    with figure(path) as axes:
        for workers, rate in points:
            axes.plot([workers, workers], [rate.low, rate.high], color=BLUE, alpha=0.5)
        axes.plot(*zip(*((w, rate.median) for w, rate in points), strict=True), "o-", color=BLUE)
        best = dict(points)[chosen["workers"]]
        axes.plot(chosen["workers"], best.median, "o", color=ORANGE, markersize=9)
        # The text stands above all curves, and inside the axes at both ends.
        place = [workers for workers, _ in points].index(chosen["workers"])
        side = "left" if place == 0 else "right" if place == len(points) - 1 else "center"
        top = max(rate.high for _, rate in points)
        axes.text(
            chosen["workers"], 1.05 * top,
            f"chosen: {chosen['workers']}, {best.median:.0f} images/s", color=ORANGE, ha=side,
            backgroundcolor="white",
        )  # fmt: skip
        axes.axvline(cores(), color="#999999", linestyle=":", zorder=0)
        axes.text(cores(), 0, " cores", color="#777777", va="bottom")
        axes.set_ylim(0, 1.2 * top)
        axes.set_xticks([workers for workers, _ in points])
        axes.set_xlabel("number of workers")
        axes.set_ylabel("images per second")
        axes.set_title("Speed by number of workers (median of the rounds; line: lowest to highest)")

"""The report: for each record a table in Markdown, and a PNG plot legible at a README's width."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from fastloader.cli.measure.plot import BLUE, GREY, figure

from .cases import CASES, Case
from .measure import Sample, Spread

US = "fastloader"
BAR_INCHES = 0.32
TITLE_WIDTH = 95


def write(cases: list[str], folder: Path) -> int:
    """Write ``report.md`` and ``CASE.png`` for the records in a folder. Return the exit code."""
    parts, machines = [], set()
    for name in cases:
        path = folder / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding="utf-8"))
        samples = having(record["samples"], CASES[name].metric.key)
        if not samples:
            continue
        plot = folder / f"{name}.png"
        draw(name, CASES[name], samples, plot, is_quick=record.get("quick", False))
        parts.append(f"{section(name, CASES[name], record, samples)}\n![{name}]({plot.name})\n")
        machines.add(machine_of(record))
    if not parts:
        print(
            f"no records in {os.path.relpath(folder)}; run python -m benchmarks run first",
            file=sys.stderr,
        )
        return 2
    report = folder / "report.md"
    head = "# Benchmarks\n\n" + "".join(f"{machine}.\n\n" for machine in sorted(machines))
    report.write_text(head + "\n".join(parts), encoding="utf-8")
    print(head + "\n".join(parts))
    print(f"written: {os.path.relpath(report)}, with a plot for each")
    return 0


def having(samples: dict[str, list[Sample]], key: str) -> dict[str, list[Sample]]:
    """Return the contestants whose samples all have the key."""
    return {
        name: found for name, found in samples.items() if found and all(key in s for s in found)
    }


def machine_of(record: dict[str, Any]) -> str:
    its = {key: value for key, value in record["machine"].items() if value is not None}
    return ", ".join(f"{key} {value}" for key, value in its.items() if key != "load")


def section(name: str, case: Case, record: dict[str, Any], samples: dict[str, list[Sample]]) -> str:
    key, first = case.metric.key, next(iter(samples))
    rows = [
        f"| {'**' if contestant == US else ''}{contestant}{'**' if contestant == US else ''} "
        f"| {number(Spread.of(s[key] for s in found))} | {compared(samples[first], found, key)} |"
        for contestant, found in samples.items()
    ]
    command = " ".join(case.command[1:])
    title = case.title(is_quick=record.get("quick", False))
    return "\n".join(
        [
            f"## {name}",
            "",
            f"{title}. `benchmarks.{case.command[0]}"
            f"{' ' + command if command else ''}`, {record['date'][:10]}, load "
            f"{record['machine']['load']:.1f}.",
            "",
            f"| | {case.metric.unit} | x {first} |",
            "| --- | ---: | ---: |",
            *rows,
            "",
        ]
    )


def number(found: Spread) -> str:
    digits = ".0f" if found.median >= 100 else ".1f" if found.median >= 10 else ".2f"
    return f"{found:{digits}}"


def compared(first: list[Sample], these: list[Sample], key: str) -> str:
    """Return the ratio to the first contestant within each round, as text."""
    if first is these:
        return ""
    if len(first) != len(these) or not all(s[key] for s in first):
        return "-"
    return f"{Spread.of(b[key] / a[key] for a, b in zip(first, these, strict=True)):.2f}"


def draw(
    name: str, case: Case, samples: dict[str, list[Sample]], path: Path, *, is_quick: bool
) -> None:
    title = textwrap.fill(case.title(is_quick=is_quick), TITLE_WIDTH)
    if name == "scaling":
        draw_scaling(title, samples, path)
    elif name == "memory":
        draw_memory(title, samples, path)
    else:
        draw_bars(title, case, samples, path)


def draw_bars(title: str, case: Case, samples: dict[str, list[Sample]], path: Path) -> None:
    """Draw a bar for each contestant, with a whisker from the lowest to the highest."""
    spreads = [Spread.of(s[case.metric.key] for s in found) for found in samples.values()]
    with figure(path, height=1.4 + BAR_INCHES * len(samples)) as axes:
        axes.set_title(title)
        for i, (contestant, found) in enumerate(zip(samples, spreads, strict=True)):
            color = BLUE if case.is_ours or US in contestant else GREY
            axes.barh(i, found.median, color=color, height=0.7)
            axes.plot([found.low, found.high], [i, i], color="#333333", linewidth=1)
            axes.annotate(
                f" {number(found).split()[0]}", (found.high, i), va="center", fontsize=9,
                xytext=(2, 0), textcoords="offset points",
            )  # fmt: skip
        axes.set_yticks(range(len(samples)), list(samples))
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        better = "more" if case.metric.more else "less"
        axes.set_xlabel(f"{case.metric.unit} ({better} is better); median, lowest to highest")


def draw_scaling(title: str, samples: dict[str, list[Sample]], path: Path) -> None:
    with figure(path, height=3.7) as axes:
        axes.set_title(title)
        for kind, color, label in (
            (US, BLUE, "fastloader, in a loop"),
            ("bare", GREY, "libjpeg-turbo alone, from memory, no resize"),
        ):
            points = sorted(
                (int(n.split()[1]), f) for n, f in samples.items() if n.startswith(kind)
            )
            spreads = [Spread.of(s["images_per_s"] for s in found) for _, found in points]
            x = [workers for workers, _ in points]
            axes.plot(x, [s.median for s in spreads], "o-", color=color, label=label)
            axes.fill_between(
                x, [s.low for s in spreads], [s.high for s in spreads], color=color, alpha=0.2
            )
        axes.set_xticks(x)
        axes.set_xlabel("number of workers, or of processes")
        axes.set_ylabel("images per second")
        axes.set_ylim(bottom=0)
        beside(axes)


def draw_memory(title: str, samples: dict[str, list[Sample]], path: Path) -> None:
    (found,) = samples.values()
    with figure(path, height=3.3) as axes:
        axes.set_title(title)
        x = [s["batches"] for s in found]
        for key, color, label in (
            ("training_mb", GREY, "training process"),
            ("worker_mb", BLUE, "a worker"),
        ):
            axes.plot(x, [s[key] for s in found], "o-", color=color, label=label)
        axes.set_xlabel("batches of 64 images so far")
        axes.set_ylabel("private memory in MB,\nwithout the ring")
        axes.set_ylim(bottom=0)
        beside(axes)


def beside(axes: Any) -> None:
    """Put the legend below the axes, where it covers no points."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2)

"""What all benchmarks share: paired rounds, ratios with their spread, tables, and the record kept.

A benchmark runs every contestant once per round, in an order that rotates, each in a process of its
own. Contestants are compared within a round, since a machine's speed drifts over minutes; a ratio
is the median over the rounds, with the lowest and the highest beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "benchmarks"
PHOTOGRAPHS = ROOT.parent / "shared" / "data" / "photos"
MADE = BUILD / "photos"
"""Images that :func:`photos.read_photos` makes where there are no photographs."""

BATCH = 64
SIZE = (224, 224)

Sample = dict[str, Any]
"""What one run of one contestant printed."""


@dataclass(frozen=True)
class Spread:
    """median: of the rounds. low, high: the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = sorted(values)
        return cls(statistics.median(values), values[0], values[-1])

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} [{self.low:{spec}}..{self.high:{spec}}]"


def spread(samples: Iterable[Sample], key: str) -> Spread:
    return Spread.of(sample[key] for sample in samples)


def ratio(over: Sequence[Sample], under: Sequence[Sample], key: str) -> Spread:
    """Of the two samples of each round."""
    return Spread.of(a[key] / b[key] for a, b in zip(over, under, strict=True))


# ---- running -------------------------------------------------------------------------------------


def paired(
    names: Sequence[str], rounds: int, *, run: Callable[[str], Sample]
) -> dict[str, list[Sample]]:
    """Runs each name once per round and begins each round with the next one. Leaves out those whose
    sample says that something is missing, and says so."""
    samples: dict[str, list[Sample]] = {name: [] for name in names}
    missing: dict[str, str] = {}
    with tqdm(total=rounds * len(names), unit="run", disable=None) as bar:
        for start in range(rounds):
            for i in range(len(names)):
                name = names[(start + i) % len(names)]
                bar.set_description(name)
                bar.update()
                if name in missing:
                    continue
                sample = run(name)
                if "missing" in sample:
                    missing[name] = sample["missing"]
                else:
                    samples[name].append(sample)
    for name, why in missing.items():
        print(f"{name}: {why}")
    return {name: samples[name] for name in names if name not in missing}


def chosen(names: Iterable[str], only: Sequence[str] | None) -> tuple[str, ...]:
    """Those of the names that ``--only`` says; all of them without it."""
    return tuple(name for name in names if only is None or name in only)


def print_sample(run: Callable[[], Any]) -> None:
    """What :func:`child` reads: the sample, or that a package is missing."""
    try:
        sample = run()
    except ImportError as error:
        sample = {"missing": f"not installed ({error})"}
    print(json.dumps(sample))


def child(module: str, *arguments: object) -> Sample:
    """Runs ``python -m module arguments`` and reads the JSON line that it prints last."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join([module, *map(str, arguments)])
        raise SystemExit(f"{done.stderr}\n{words} ended with exit code {done.returncode}")
    sample: Sample = json.loads(done.stdout.splitlines()[-1])
    return sample


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_seconds() -> float:
    """CPU time of this process and all its children so far, the living ones included.

    Unlike the children's share of getrusage() alone it can be read in the middle of their lives,
    so starting them and warming up need not be counted.
    """
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    in_children: float = sum(times.user + times.system for times in living)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + in_children


# ---- reporting -----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Where a result is from."""
    from fastloader.fields import _kernel

    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": cores(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("numpy", "tensorflow", "fastloader")},
        "codecs": _kernel.libraries,
        "load": os.getloadavg()[0],
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Plain text; the first column is aligned to the left and the others to the right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def parser(name: str, description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """The arguments that all benchmarks have."""
    arguments = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    arguments.set_defaults(name=name)
    arguments.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        default=PHOTOGRAPHS if PHOTOGRAPHS.exists() else MADE,
        help="folder of JPEG files with a labels.csv (columns file, label); default: "
        "../shared/data/photos alongside the repository, or else images that the benchmark makes",
    )
    arguments.add_argument("--photos", type=int, metavar="N", help="only the first of them (all)")
    arguments.add_argument(
        "--only", nargs="+", metavar="NAME", help="of the contestants, by their names (all)"
    )
    arguments.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        default=rounds,
        help=f"times that every contestant runs ({rounds})",
    )
    arguments.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        default=BUILD / f"{name}.json",
        help=f"where to write every sample (build/benchmarks/{name}.json)",
    )
    return arguments


def report(
    options: argparse.Namespace, samples: dict[str, list[Sample]], lines: Sequence[str]
) -> None:
    """Prints the lines under a description of the machine, and writes the samples to a file."""
    where = machine()
    text = ", ".join(f"{key} {value}" for key, value in where.items() if key != "load")
    print(f"{text}; load {where['load']:.1f}\n")
    print("\n".join(lines))
    options.json.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": options.name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": where,
        "options": {
            key: os.path.relpath(value, ROOT) if isinstance(value, Path) else value
            for key, value in vars(options).items()
        },
        "samples": samples,
    }
    options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {os.path.relpath(options.json)}")

"""The parts that all benchmarks share: paired rounds, ratios with their spread, tables, records.

A benchmark runs every contestant once per round, in an order that rotates, each in a process of its
own. Contestants are compared within a round, because a machine's speed drifts over minutes. A ratio
is given as the median over the rounds, with the lowest and the highest.
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
"""The folder of images that :func:`photos.read_photos` makes if there are no photographs."""

BATCH = 64
SIZE = (224, 224)

Sample = dict[str, Any]
"""The result of one run of one contestant."""


@dataclass(frozen=True)
class Spread:
    """The median, the lowest and the highest of several rounds."""

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
    """Return the ratio of two contestants within each round."""
    return Spread.of(a[key] / b[key] for a, b in zip(over, under, strict=True))


# ---- running -------------------------------------------------------------------------------------


def paired(
    names: Sequence[str], rounds: int, *, run: Callable[[str], Sample]
) -> dict[str, list[Sample]]:
    """Run each name once per round. Each round begins with the next name.

    Names whose sample has the key "missing" are left out, and printed with its text.
    """
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
    """Return the names that ``--only`` lists, or all of them without it."""
    return tuple(name for name in names if only is None or name in only)


def print_sample(run: Callable[[], Any]) -> None:
    """Print the sample of a run for :func:`child`, or that a package is missing."""
    try:
        sample = run()
    except ImportError as error:
        sample = {"missing": f"not installed ({error})"}
    print(json.dumps(sample))


def child(module: str, *arguments: object) -> Sample:
    """Run ``python -m module arguments`` and return the JSON that it prints as its last line."""
    return run_python("-m", module, *map(str, arguments))


def run_python(*words: str, checkout: Path | None = None) -> Sample:
    """Run Python with these arguments, and return the JSON that it prints as its last line.

    ``checkout`` is another folder to run and to import from; by default Python runs in this one.
    """
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if checkout is not None:
        environment["PYTHONPATH"] = str(checkout)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=checkout or ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{done.stderr}\n{' '.join(words)} ended with exit code {done.returncode}")
    sample: Sample = json.loads(done.stdout.splitlines()[-1])
    return sample


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def cpu_seconds() -> float:
    """Return the CPU time of this process and all its children so far, living ones included.

    The children's share from getrusage() covers only those that have ended. This also counts the
    living ones, so a caller can leave out their start and warm-up.
    """
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    in_children: float = sum(times.user + times.system for times in living)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + in_children


# ---- reporting -----------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Describe the machine and the versions that a result is from."""
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
    """Format a table as plain text: the first column aligned left, the others right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def parser(name: str, description: str | None, *, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all benchmarks have."""
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
    arguments.add_argument("--photos", type=int, metavar="N", help="use only the first N (all)")
    arguments.add_argument(
        "--only", nargs="+", metavar="NAME", help="run only these contestants (all)"
    )
    arguments.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        default=rounds,
        help=f"run every contestant N times ({rounds})",
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
    """Print the lines below a description of the machine, and write the samples to a file."""
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

"""The decode stage on one core: a blob in memory becomes 224x224x3 levels.

Every library has a process of its own, pinned to one core, that stays for all rounds, because
TensorFlow takes 15 s to start. In each round every contestant decodes all images of the workload.
"Antialiased" says whether a resize takes all source pixels into account, as fastloader's does;
"-" means that nothing is resized. Contestants whose library is not installed are left out.

--part stages shows where fastloader's time goes. --part quality shows the cost and the gain of
quality="fast".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from . import bare, decode_quality, decode_stages, pillows
from .decoders import CONTESTANTS
from .measure import ROOT, Sample, chosen, paired, parser, ratio, report, spread, table
from .workloads import WORKLOADS, Folders

US = "fastloader"
FAST = "fastloader, fast"


class Peers:
    """The processes of the libraries. Each starts when it is first asked for something."""

    def __init__(
        self, stack: contextlib.ExitStack, errors: IO[str], folders: Folders, *, everything: bool
    ) -> None:
        self._stack = stack
        self._errors = errors
        self._arguments = [
            f"--data={folders.data.resolve()}",
            f"--images={folders.images.resolve()}",
        ]
        self._arguments += [f"--photos={folders.photos}"] if folders.photos else []
        self._arguments += ["--all"] if everything else []
        self._running: dict[str, subprocess.Popen[str]] = {}

    def ask(self, name: str, workload: str) -> Sample:
        peer = CONTESTANTS[name].peer
        if peer not in self._running:
            self._running[peer] = self._started(peer)
        process = self._running[peer]
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps([name, workload]), file=process.stdin, flush=True)
        if not (line := process.stdout.readline()):
            code = process.wait()
            self._errors.seek(0)
            raise SystemExit(
                f"{self._errors.read()}\n{name} ({workload}) ended with exit code {code}"
            )
        sample: Sample = json.loads(line)
        return sample

    def _started(self, peer: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decode_peer", peer, *self._arguments],
            cwd=ROOT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        return self._stack.enter_context(process)  # the exit closes its input, which ends it


# ---- one workload --------------------------------------------------------------------------------


def measured(peers: Peers, workload: str, options: argparse.Namespace) -> dict[str, list[Sample]]:
    """Return the samples of each contestant."""
    names = (
        name
        for name, contestant in CONTESTANTS.items()
        if workload in contestant.workloads and (options.all or not contestant.extra)
    )
    return paired(
        chosen(names, options.only), options.rounds, run=lambda name: peers.ask(name, workload)
    )


def lines(workload: str, samples: dict[str, list[Sample]]) -> list[str]:
    ours = {f"times {name}": samples[name] for name in (US, FAST) if name in samples}
    rows = [
        [
            name,
            f"{spread(found, 'ms'):.3f}",
            *(f"{ratio(found, reference, 'ms'):.2f}" for reference in ours.values()),
            CONTESTANTS[name].antialias,
        ]
        for name, found in samples.items()
    ]
    headers = ["median [lowest..highest]", "ms per image", *ours, "antialiased"]
    count = max((found[0]["images"] for found in samples.values()), default=0)
    return [
        f"{workload}: {WORKLOADS[workload].title} ({count})",
        "",
        table(headers, rows),
        *disturbed(samples),
        "",
    ]


def disturbed(samples: dict[str, list[Sample]]) -> list[str]:
    """Return a warning if something else ran on a contestant's core while it was measured."""
    lost = {name: max(1 - s["cpu_ms"] / s["ms"] for s in each) for name, each in samples.items()}
    worst = max(lost, key=lost.__getitem__, default=None)
    if worst is None or lost[worst] < 0.05:
        return []
    return [f"{worst} was not alone on its core: it waited for {lost[worst]:.0%} of a pass"]


def speed(options: argparse.Namespace) -> tuple[dict[str, list[Sample]], list[str]]:
    text: list[str] = []
    samples: dict[str, list[Sample]] = {}
    text += [line for name in pillows.NAMES if (why := pillows.install(name)) for line in (why, "")]
    bare.compiled()
    folders = Folders.of(options)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors, contextlib.ExitStack() as stack:
        peers = Peers(stack, errors, folders, everything=options.all)
        for workload in options.workload:
            if not WORKLOADS[workload].read(folders, everything=options.all):
                text += [f"{workload}: no images in {os.path.relpath(options.data)}", ""]
                continue
            found = measured(peers, workload, options)
            samples |= {f"{workload}: {name}": each for name, each in found.items()}
            text += lines(workload, found)
    return samples, text[:-1]


# ---- command line --------------------------------------------------------------------------------


PARTS = {"speed": speed, "stages": decode_stages.run, "quality": decode_quality.run}


def main() -> None:
    arguments = parser("decode", __doc__, rounds=3)
    arguments.add_argument("--part", choices=PARTS, default="speed", help="what to show (speed)")
    arguments.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        default=ROOT.parent / "shared" / "data",
        help="folder with the folders large, png/kodak and webp; "
        "default: ../shared/data alongside the repository",
    )
    arguments.add_argument(
        "--workload",
        nargs="+",
        choices=WORKLOADS,
        default=list(WORKLOADS),
        metavar="NAME",
        help=f"of {', '.join(WORKLOADS)} (all)",
    )
    arguments.add_argument(
        "--all", action="store_true", help="with the lesser contestants, and all images"
    )
    options = arguments.parse_args()
    if options.part != "speed" and options.json == arguments.get_default("json"):
        options.json = options.json.with_name(f"decode_{options.part}.json")
    samples, text = PARTS[options.part](options)
    report(options, samples, text)


if __name__ == "__main__":
    main()

"""fastloader against loaders that read formats of their own, each in an environment of its own.

All read the same JPEGs: "256" are those of a table that ``fastloader shrink`` has made, "512" are
of at most 512 pixels, quality 90. Each peer writes its own format from them, and the bytes that it
has stored are compared. Batches are 64 uint8 images of 224x224, shuffled, with a worker or a thread
for each core. In the mode "jpeg" images are decoded in every epoch. In the mode "raw" they are
stored or cached as pixels, where a loader can do that. An epoch warms up, and the next ones are
measured. Peers that cannot be installed or do not run are named, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..end_to_end import Goal
from ..measure import (
    BATCH,
    BUILD,
    Sample,
    child,
    chosen,
    paired,
    parser,
    ratio,
    report,
    spread,
    table,
)
from ..photos import Photo, database, read_photos, rows_of
from .environments import ENVIRONMENTS, install, is_installed, python_of, reason
from .peers.shared import digest_of
from .sets import SETS

US = "fastloader"
OURS = {US: "sqlite", "fastloader-postgres": "postgres"}
NAMES = (*OURS, *ENVIRONMENTS)
MODES = ("jpeg", "raw")
VIEWS = {"random": "random resized crop, flip", "center": "center crop"}
SCRIPTS = Path(__file__).parent / "peers"
TIMEOUT_S = 600
NEAR = 3.0
"""How far the mean pixel of a center crop may be from ours: decoders and filters differ by less."""

ONLY_JPEG = {
    "dali": "no raw mode: DALI caches decoded images on a GPU only",
    "webdataset": "no raw mode: WebDataset stores encoded images",
}
GOAL = Goal("ffcv", 3)


@dataclass(frozen=True)
class Section:
    """What is compared: contestants read the same images, in the same mode and view."""

    images: str
    mode: str
    view: str

    @property
    def title(self) -> str:
        return f"{self.images}, {self.mode}, {VIEWS[self.view]}"

    def names(self, names: Sequence[str]) -> list[str]:
        """Return those that have this mode. Ours caches only views that are always the same."""
        if self.mode == "jpeg":
            return list(names)
        return [
            name for name in names
            if name not in ONLY_JPEG and not (name in OURS and self.view == "random")
        ]  # fmt: skip


def sections(options: argparse.Namespace) -> list[Section]:
    """Return what is to be compared. Raw pixels are those of the smaller images only."""
    return [
        Section(images, mode, view)
        for images in options.sets
        for mode in options.modes
        if not (mode == "raw" and images != "256")
        for view in options.views
    ]


class Peers:
    """The peers' scripts, and why some of them do not run.

    Attributes
    ----------
    missing
        The reasons, by the name of the peer, or of the peer and its mode.
    """

    def __init__(self, names: Sequence[str], *, may_install: bool) -> None:
        self.missing: dict[str, str] = {}
        for name in names:
            environment = ENVIRONMENTS[name]
            if may_install:
                print(f"environment of {environment.title}", flush=True)
                why = install(name, environment)
            else:
                there = is_installed(name, environment)
                why = None if there else "not installed, and --no-install"
            if why:
                self.missing[name] = why

    def write(self, name: str, path: str, folder: Path, mode: str, digest: str) -> None:
        """Let a peer write its format, and compare the JPEGs that it has stored."""
        if name in self.missing:
            return
        sample = self._run(name, "write", path, str(folder), "--mode", mode)
        if "missing" not in sample and sample.get("digest", digest) != digest:
            sample = {"missing": "it has stored other bytes than it was given"}
        if "missing" in sample:
            self.missing[f"{name}, {mode}"] = sample["missing"]

    def read(self, name: str, folder: Path, section: Section, seconds: float) -> Sample:
        """Measure a peer once."""
        words = ("--mode", section.mode, "--view", section.view, "--seconds", str(seconds))
        sample = self._run(name, "read", str(folder), *words)
        if "missing" in sample:
            self.missing[f"{name}, {section.title}"] = sample["missing"]
        return sample

    def can(self, name: str, mode: str) -> bool:
        return name in OURS or not self.missing.keys() & {name, f"{name}, {mode}"}

    @staticmethod
    def _run(name: str, *words: str) -> Sample:
        """Run a script in its environment, where PYTHONPATH does not lead to this package."""
        environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
        try:
            done = subprocess.run(
                [str(python_of(name)), str(SCRIPTS / f"with_{name}.py"), *words],
                cwd=BUILD, env=environment, capture_output=True, text=True,
                timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"missing": f"did not run: it took more than {TIMEOUT_S} s"}
        if done.returncode != 0:
            return {"missing": f"did not run: {reason(done.stderr, done.returncode)}"}
        sample: Sample = json.loads(done.stdout.splitlines()[-1])
        return sample


def compared(
    images: str, rows: list[Photo], peers: Peers, names: Sequence[str], options: argparse.Namespace
) -> Iterator[tuple[Section, dict[str, list[Sample]]]]:
    """Measure all sections of one set, and yield the samples of each."""
    count = len(rows) * options.copies
    with contextlib.ExitStack() as stack:
        urls = {
            kind: stack.enter_context(database(rows, count, kind=kind))
            for kind in dict.fromkeys(("sqlite", *(OURS[name] for name in names if name in OURS)))
        }
        digest = digest_of(blob for blob, _ in rows_of(urls["sqlite"]))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=BUILD)))
        its = [section for section in sections(options) if section.images == images]
        for section in its:
            mode = section.mode
            able = section.names(names)
            for name in able:
                where = folder / f"{name}-{mode}"
                if name not in OURS and not where.exists():
                    peers.write(name, urls["sqlite"], where, mode, digest)

            def run(name: str, section: Section = section) -> Sample:
                if name not in OURS:
                    where = folder / f"{name}-{section.mode}"
                    return peers.read(name, where, section, options.seconds)
                return child(
                    "benchmarks.formats.ours", urls[OURS[name]], "--mode", section.mode,
                    "--view", section.view, "--seconds", options.seconds,
                )  # fmt: skip

            able = [name for name in able if peers.can(name, mode)]
            yield section, paired(able, options.rounds, run=run)


def doubts(section: Section, samples: dict[str, list[Sample]], count: int) -> Iterator[str]:
    """Yield what a contestant delivered that it should not have."""
    for name, found in samples.items():
        if abs(found[0]["rows"] - count) >= BATCH:
            yield f"{name} delivered {found[0]['rows']} rows an epoch, not {count}"
        if section.view == "center" and US in samples:
            mean, ours = found[0]["mean"], samples[US][0]["mean"]
            if abs(mean - ours) > NEAR:
                yield f"{name}: the mean pixel is {mean:.1f}, and ours is {ours:.1f}"


def lines(section: Section, samples: dict[str, list[Sample]]) -> Iterator[str]:
    """Yield the table of a section, and whether the goal is reached."""
    base = US in samples
    yield table(
        [section.title, "images/s", "CPU ms per image", "fastloader is x times that"],
        [
            [
                ENVIRONMENTS[name].title if name in ENVIRONMENTS else name,
                f"{spread(found, 'images_per_s'):.0f}",
                f"{spread(found, 'cpu_ms_per_image'):.2f}",
                f"{ratio(samples[US], found, 'images_per_s'):.2f}" if base and name != US else "",
            ]
            for name, found in samples.items()
        ],
    )
    if section == Section("256", "jpeg", "random") and {US, GOAL.rival} <= samples.keys():
        yield GOAL.verdict(ratio(samples[US], samples[GOAL.rival], "images_per_s"))
    yield ""


def main() -> None:
    arguments = parser("formats", __doc__, rounds=3)
    arguments.add_argument(
        "--copies", type=int, default=2, metavar="N", help="rows for each photo (2)"
    )
    arguments.add_argument("--seconds", type=float, default=2.0, help="measure at least (2)")
    arguments.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="(both)")
    arguments.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="(both)")
    arguments.add_argument("--views", nargs="+", choices=VIEWS, default=list(VIEWS), help="(both)")
    arguments.add_argument(
        "--no-install", action="store_true", help="only peers that are installed already"
    )
    options = arguments.parse_args()
    names = chosen(NAMES, options.only)
    BUILD.mkdir(parents=True, exist_ok=True)
    photos = read_photos(options.images, options.photos)
    peers = Peers([n for n in names if n in ENVIRONMENTS], may_install=not options.no_install)
    samples: dict[str, list[Sample]] = {}
    text: list[str] = []
    for images in options.sets:
        rows = SETS[images](photos)
        for section, found in compared(images, rows, peers, names, options):
            samples |= {f"{section.title}: {name}": each for name, each in found.items()}
            text += lines(section, found)
            text += doubts(section, found, len(rows) * options.copies)
    missing = peers.missing | ({n: ONLY_JPEG[n] for n in names if n in ONLY_JPEG})
    text += [f"{name}: {why}" for name, why in missing.items()]
    options.missing = missing
    report(options, samples, text)


if __name__ == "__main__":
    main()

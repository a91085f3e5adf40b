"""The command ``fastloader check``: an epoch of a loader that reports instead of raising."""

from __future__ import annotations

import argparse
import csv
import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import NOT_AN_IMAGE, THE_PATH
from ..loader import FastLoader
from ..observe.stats import Pictures
from ..options.config import make_config
from ..plan.keys import Key
from .command import (
    DONE,
    FOUND,
    NO_CACHE,
    Outcome,
    add_loader_arguments,
    loader_options,
    output_path,
    progress,
    size_text,
    table,
)
from .database_files import check_output

SHOWN_KEYS = 10

BATCH_ROWS = 64


class Check:
    """Decodes every row once and reports formats, sizes, and the rows that cannot be delivered.

    It runs an epoch of the loader with all its workers, and continues whatever it finds: rows that
    cannot be delivered, rows that are gone, images that end early and would be filled up with gray.
    The exit code is 1 if there are any. --csv lists all of them in a file with the columns key,
    kind (bad or partial) and reason. Options that change what is decoded, for example --max-pixels,
    --strict or --label, change what is found.
    """

    name = "check"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the options of the loader that matter here, and ``--csv``."""
        add_loader_arguments(
            parser,
            but=[
                "batch_size", "on_error", "drop_remainder", "shuffle", "shuffle_block", "sampling",
                "epoch_rows", "shard", "deterministic", "with_keys", "prefetch", "follow",
            ],
            why="check reads every row once and lists the bad ones, whatever this option says",
        )  # fmt: skip
        parser.add_argument(
            "--csv", type=output_path, metavar="FILE", help="list every row found in this file"
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Decode all rows, and report what is wrong with them."""
        logger = logging.getLogger("fastloader")
        if not arguments.verbose:
            logger.setLevel(logging.ERROR)  # the report covers what it would say of single batches
        options = {
            **loader_options(arguments), "batch_size": BATCH_ROWS, "on_error": "fill",
            "drop_remainder": False, "shuffle": False, "sampling": None, "epoch_rows": None,
            "shard": (0, 1), "deterministic": False, "follow": None, **NO_CACHE,
        }  # fmt: skip
        check_output(arguments.csv, make_config(options))
        with FastLoader(**options) as loader:
            for _ in progress(loader, "Decoding", total=len(loader), unit="batches"):
                pass
            stats = loader.stats()
            rows = [("bad", *row) for row in loader.bad_rows]
            rows += [("partial", *row) for row in loader.partial_rows]
        if arguments.csv:
            _write(arguments.csv, rows)
        found = _Found(stats.rows, stats.passed_over, stats.pictures)
        for row in rows:
            found.add(*row)
        return Outcome(found.text(arguments.csv), found.data(), FOUND if rows else DONE)


def _write(path: Path, rows: list[tuple[str, Key, str]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "kind", "reason"])
        writer.writerows((key, kind, reason) for kind, key, reason in rows)


@dataclass
class _Found:
    """What an epoch has found.

    Attributes
    ----------
    rows
        The rows of the table.
    passed_over
        The rows that were inserted while the table was read.
    pictures
        The decoded images, by format.
    reasons
        The number of rows for each (kind, reason).
    keys
        The first keys of these rows.
    """

    rows: int
    passed_over: int
    pictures: Mapping[str, Pictures]
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    keys: dict[tuple[str, str], list[Key]] = field(default_factory=dict)

    def add(self, kind: str, key: Key, reason: str) -> None:
        """Count a row. Those of the same reason but another file are counted together."""
        reason = reason.partition(THE_PATH)[0]
        self.reasons[kind, reason] += 1
        keys = self.keys.setdefault((kind, reason), [])
        if len(keys) < SHOWN_KEYS:
            keys.append(key)

    def count(self, kind: str) -> int:
        """Return the number of rows of a kind."""
        return sum(n for (found, _), n in self.reasons.items() if found == kind)

    def data(self) -> dict[str, Any]:
        """Return the result for ``--json``."""
        return {
            "rows": self.rows,
            "bad": self.count("bad"),
            "partial": self.count("partial"),
            "passed_over": self.passed_over,
            "pictures": {name: its._asdict() for name, its in self.pictures.items()},
            "reasons": [
                {"kind": kind, "reason": reason, "rows": n, "keys": self.keys[kind, reason]}
                for (kind, reason), n in self.reasons.most_common()
            ],
        }

    def text(self, listing: Path | None) -> str:
        """Return the result as text. ``listing`` is the CSV file that was written."""
        lines = [
            f"{self.rows} rows: {self.count('bad')} cannot be delivered, {self.count('partial')} "
            f"end early or are damaged and would be filled up with gray"
        ]
        if self.pictures:
            formats = (
                (
                    name, its.decoded, size_text(its.bytes / its.decoded),
                    *(f"{n / 1e6:.2f}" for n in (its.pixels / its.decoded, its.largest)),
                )
                for name, its in sorted(self.pictures.items(), key=lambda item: -item[1].decoded)
            )  # fmt: skip
            headers = ["format", "images", "mean size", "mean megapixels", "largest"]
            lines += ["", table(headers, formats)]
        if self.reasons:
            rows = (
                (reason, kind, n, ", ".join(map(str, self._shown(kind, reason))))
                for (kind, reason), n in self.reasons.most_common()
            )
            lines += ["", table(["reason", "", "rows", "keys"], rows), ""]
            if not all(NOT_AN_IMAGE in reason for _, reason in self.reasons):
                lines.append('Repair or delete them, or load with on_error="skip" or "fill".')
        if listing:
            lines.append(f"All of them are listed in {listing}.")
        return "\n".join(lines)

    def _shown(self, kind: str, reason: str) -> list[Any]:
        keys = self.keys[kind, reason]
        return [*keys, "..."] if self.reasons[kind, reason] > len(keys) else keys

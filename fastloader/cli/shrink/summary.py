"""The summary of a run of shrink: as text, and as data for ``--json``."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from typing import Any

from ...options.config import Config
from ..command import size_text, table
from .run import Run


def data_of(run: Run, config: Config, target: Config) -> dict[str, Any]:
    """Return the result of a run for ``--json``."""
    return {
        "source": config.place,
        "target": target.place,
        "added": run.added,
        "there": run.there,
        "gone": run.gone,
        "stale": run.stale,
        "copied": run.same,
        "bytes_before": run.before,
        "bytes_after": run.after,
        "seconds": run.seconds,
        "bad": [
            {"reason": reason, "rows": count, "keys": run.keys[reason]}
            for reason, count in run.reasons.most_common()
        ],
    }


def text_of(run: Run, target: Config, arguments: argparse.Namespace) -> str:
    """Return the result of a run as text, with the commands to type next."""
    speed = f", {run.added / run.seconds:.0f} rows/s" if run.added else ""
    lines = [
        f"{target.place}: {run.added} rows added, {run.there} were there, in {run.seconds:.1f} s"
        f"{speed}"
    ]
    if run.added and run.before:
        lines.append(
            f"images: {size_text(run.before)} became {size_text(run.after)} "
            f"({run.after / run.before:.2f}), {size_text(run.after / run.added)} on average; "
            f"{run.same} copied as they were"
        )
    lines += [*_bad(run, arguments), *_changes(run)]
    lines += ["next:", f"  {shlex.join(_next(target, arguments))}"]
    return "\n".join(lines)


def _bad(run: Run, arguments: argparse.Namespace) -> Iterator[str]:
    if not run.reasons:
        return
    rows = ((reason, count, run.shown_keys(reason)) for reason, count in run.reasons.most_common())
    done = "left out" if arguments.bad_rows == "leave" else "copied as they are"
    count = run.reasons.total()
    yield from (
        "",
        f"{count} bad {'row was' if count == 1 else 'rows were'} {done}:",
        "",
        table(["reason", "rows", "keys"], rows),
        "",
    )


def _changes(run: Run) -> Iterator[str]:
    if run.gone:
        yield f"gone: {run.gone} rows were deleted from the source meanwhile"
    if run.stale:
        yield (
            f"not in the source: {run.stale} rows of the new table, which stay; delete them if "
            f"they are not wanted"
        )


def _next(target: Config, arguments: argparse.Namespace) -> list[str]:
    command = ["fastloader", "plan", str(target.url), "--table", target.table or ""]
    for option in ("key", "image"):
        if value := getattr(arguments, option):
            command += [f"--{option}", value]
    return command

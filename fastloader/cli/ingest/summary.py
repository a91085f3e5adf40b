"""The summary of a run of ingest: as text, and as data for ``--json``."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Iterator
from typing import Any

from ...options.config import Config
from ..command import size_text, table
from .folder import SHOWN_NAMES, shown
from .run import Run

SHOWN_LABELS = 10


def data_of(run: Run, config: Config) -> dict[str, Any]:
    """Return the result of a run for ``--json``."""
    found = run.found
    return {
        "folder": str(run.folder.path),
        "url": str(config.url),
        "table": config.table,
        "added": run.added.total(),
        "unchanged": run.unchanged,
        "changed": [row.file for row in found.changed],
        "relabeled": [row.file for row in found.relabeled],
        "moved": {row.stored: row.file for row in found.moved},
        "updated": run.updated.total(),
        "gone": found.gone,
        "bytes": run.size,
        "seconds": run.seconds,
        "labels": dict(run.labels.items()),
        "images_by_label": dict(run.added + run.updated + found.there),
        "formats": dict(found.formats),
        "unused_columns": run.folder.unused,
        "skipped": run.folder.skipped.data(),
        "refused": run.folder.refused.data(),
    }


def text_of(run: Run, config: Config, arguments: argparse.Namespace) -> str:
    """Return the result of a run as text, with the commands to type next."""
    folder = run.folder
    lines = [
        f"{config.place}: {run.added.total()} images added ({size_text(run.size)}), "
        f"{run.unchanged} unchanged, in {run.seconds:.1f} s",
        "",
        *_labels_text(run),
        *_differences_text(run),
        *(f"refused: {line}" for line in folder.refused.lines()),
        *(f"skipped: {line}" for line in folder.skipped.lines()),
    ]
    if folder.unused:
        columns = ", ".join(map(shown, folder.unused))
        lines.append(f"not used: the columns {columns} of {folder.labels}")
    lines += ["next:", *(f"  {line}" for line in _next(config, arguments))]
    return "\n".join(lines)


def _labels_text(run: Run) -> Iterator[str]:
    counts = run.added + run.updated + run.found.there
    rows = [(shown(name), number, counts[name]) for name, number in run.labels.items()]
    if run.labels.are_floats:
        values = [number for _, number, _ in rows]
        yield f"labels: numbers from {values[0]} to {values[-1]}, {len(rows)} different ones"
    else:
        yield table(["label", "number", "images"], rows[:SHOWN_LABELS])
        if len(rows) > SHOWN_LABELS:
            yield f"and {len(rows) - SHOWN_LABELS} more labels, which --json lists"
    if len(rows) == 1:
        yield "all images have this label"
    yield ""


def _differences_text(run: Run) -> Iterator[str]:
    found = run.found
    kinds = [
        ("changed", found.changed, "differ from the table"),
        ("relabeled", found.relabeled, "have another label in the table"),
        ("moved", found.moved, "are in the table under their old names"),
    ]
    outcome = "and were replaced" if run.update else "and were left unchanged"
    for kind, rows, words in kinds:
        if rows:
            names = (
                shown(row.file)
                if row.file == row.stored
                else f"{shown(row.stored)} is now {shown(row.file)}"
                for row in rows[:SHOWN_NAMES]
            )
            more = ", ..." if len(rows) > SHOWN_NAMES else ""
            yield f"{kind}: {len(rows)} {words} {outcome} ({', '.join(names)}{more})"
    if run.differences and not run.update:
        yield "Run it again with --update to make the table follow the folder."
    if found.gone:
        names = (shown(file) for file in found.gone[:SHOWN_NAMES])
        more = ", ..." if len(found.gone) > SHOWN_NAMES else ""
        yield (
            f"not in the folder: {len(found.gone)} rows of the table, which stay "
            f"({', '.join(names)}{more})"
        )


def _next(config: Config, arguments: argparse.Namespace) -> Iterator[str]:
    """Yield what to type now, without the options that the environment sets already."""
    command, call = ["fastloader", "plan"], list[str]()
    if arguments.url:
        command.append(config.url)
        call.append(_quoted(config.url))
    if arguments.table:
        command += ["--table", arguments.table]
        call.append(f"table={_quoted(arguments.table)}")
    if arguments.max_blob_bytes:
        command += ["--max-blob-bytes", str(arguments.max_blob_bytes)]
        call.append(f"max_blob_bytes={arguments.max_blob_bytes}")
    yield shlex.join(command)
    yield f"loader = fastloader.FastLoader({', '.join([*call, 'shuffle=True'])})"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

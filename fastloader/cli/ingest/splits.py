"""Subfolders that look like the splits of a data set: they are not classes."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from ..command import CommandError

SPLITS = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}
)
"""Common names of the folders that hold the splits of a data set."""


def check_splits(classes: Iterable[str], folder: Path) -> None:
    """Refuse subfolders that look like splits.

    Raises
    ------
    CommandError
        If two classes are named like splits, or all of them. The message shows the commands that
        make a table of each split.
    """
    classes = sorted(classes)
    splits = [name for name in classes if name.lower() in SPLITS]
    if len(splits) < 2 and splits != classes:
        return
    first, *others = sorted(splits, key=lambda name: not name.lower().startswith("train"))
    commands = [f"fastloader ingest {shlex.quote(str(folder / first))} URL --table {first}"]
    commands += [
        f"fastloader ingest {shlex.quote(str(folder / name))} URL --table {name} "
        f"--classes-of {first}"
        for name in others
    ]
    raise CommandError(
        f"the subfolders {', '.join(splits)} of {folder} look like the splits of a data set and "
        f"not like classes. Give each a table of its own: {'; '.join(commands)}. If they are "
        f"classes, list all classes with --classes FILE"
    )

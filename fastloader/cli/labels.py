"""The labels of pictures: read from a CSV file, and numbered, one number for each name."""

from __future__ import annotations

import csv
import itertools
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .command import CommandError

LABELS_CSV = "labels.csv"

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_LIMIT = 2**63


def read_labels(path: Path) -> dict[str, str]:
    """The labels by file, in the order of the CSV file, whose columns ``file`` and ``label`` are
    read. Raises CommandError, or OSError."""
    found: dict[str, str] = {}
    same: dict[str, str] = {}  # one string for each label, not one for each row
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        try:
            columns = reader.fieldnames or ()
            for column in ("file", "label"):
                if column not in columns:
                    raise CommandError(
                        f"{path} has no column {column!r}; its first line has to name the columns "
                        f"file and label, and is {','.join(columns)[:100]!r}"
                    )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                file, label = row["file"], (row["label"] or "").strip()
                if not file or not label:
                    raise CommandError(f"{where}: no {'label' if file else 'file'}")
                file = _inside(file, where)
                if found.setdefault(file, same.setdefault(label, label)) != label:
                    raise CommandError(
                        f"{where}: {file!r} has the label {label!r}, and above it has the label "
                        f"{found[file]!r}"
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise CommandError(f"{path} is no CSV file in UTF-8: {error}") from None
    return found


def _inside(file: str, where: str) -> str:
    """The path as it is in the folder."""
    file = posixpath.normpath(file)
    if file.startswith("/") or file.split("/", 1)[0] == ".." or "\0" in file:
        raise CommandError(
            f"{where}: {file!r} is not in the folder; files are named by their paths in it"
        )
    return file


class Labels:
    """The numbers of labels. What the table calls them already stays.

    Names that are all integers are their own numbers. Others get the lowest numbers that are free,
    in the order of the names: so a run that was interrupted and one that was not come to the same.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = sorted(set(names))
        self._are_integers = all(map(_INTEGER.fullmatch, self._names))
        self._in_table: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._arrange()

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    def items(self) -> Iterator[tuple[str, int]]:
        """(name, number), in the order of the numbers."""
        yield from sorted(self._numbers.items(), key=lambda item: item[1])

    def learn(self, in_table: Iterable[tuple[str, int]]) -> None:
        """(name, number) of rows that are in the table. Raises CommandError where no numbers would
        agree with them."""
        new = dict.fromkeys(in_table)
        for name, number in new:
            if not isinstance(name, str) or not isinstance(number, int):
                raise CommandError(f"the table has a label {number!r} with the name {name!r}")
            if self._in_table.setdefault(name, number) != number:
                raise _clash(f"the label {name!r} has the numbers {self._in_table[name]}, {number}")
        if new:
            self._arrange()

    def _arrange(self) -> None:
        numbers = dict(self._in_table)
        missing = [name for name in self._names if name not in numbers]
        if self._are_integers:
            numbers |= {name: int(name) for name in missing}
            wrong = next((name for name in self._names if numbers[name] != int(name)), None)
            if wrong is not None:
                raise _clash(f"the label {wrong} has the number {numbers[wrong]} in the table")
        else:
            taken = set(numbers.values())
            free = (number for number in itertools.count() if number not in taken)
            numbers |= dict(zip(missing, free, strict=False))
        self._check(numbers)
        self._numbers = {name: numbers[name] for name in self._names}

    def _check(self, numbers: dict[str, int]) -> None:
        names: dict[int, str] = {}
        for name, number in numbers.items():
            if names.setdefault(number, name) != name:
                raise _clash(f"the number {number} has the names {names[number]!r} and {name!r}")
            if not -_LIMIT <= number < _LIMIT:
                raise CommandError(f"the label {number} has more than 64 bits")


def _clash(what: str) -> CommandError:
    return CommandError(
        f"the labels do not fit together: {what}; call them the same, or take a table of their own "
        f"with --table"
    )

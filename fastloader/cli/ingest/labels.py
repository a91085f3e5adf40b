"""The labels of images: read from a CSV file, and the numbers of classes."""

from __future__ import annotations

import csv
import itertools
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from ..command import CommandError

LABELS_CSV = "labels.csv"
LABEL = "label"

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LIMIT = 2**63


class Listed(NamedTuple):
    """The labels of a CSV file.

    Attributes
    ----------
    labels
        The label of each file, in the order of the CSV file.
    unused
        The columns that were not read.
    """

    labels: dict[str, str]
    unused: list[str]


def read_labels(path: Path, column: str = LABEL) -> Listed:
    """Read the columns ``file`` and ``column`` of a CSV file.

    Raises
    ------
    CommandError
        If it lacks a column or a value, or has two labels for a file.
    OSError
        If it cannot be read.
    """
    found: dict[str, str] = {}
    same: dict[str, str] = {}  # shares one string among all rows of a label
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines)
        try:
            columns = reader.fieldnames or ()
            for name in ("file", column):
                if name not in columns:
                    hint = "" if name == "file" else "; name the right one with --label-column"
                    raise CommandError(
                        f"{path} has no column {name!r}; its first line must name the columns, but "
                        f"is {','.join(columns)[:100]!r}{hint}"
                    )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                file, label = row["file"], (row[column] or "").strip()
                if not file or not label:
                    raise CommandError(f"{where}: no {column if file else 'file'}")
                file = _inside(file, where)
                if found.setdefault(file, same.setdefault(label, label)) != label:
                    raise CommandError(
                        f"{where}: {file!r} has the label {label!r} here, but {found[file]!r} on "
                        f"an earlier line"
                    )
        except (csv.Error, UnicodeDecodeError) as error:
            raise CommandError(f"{path} is not a CSV file in UTF-8: {error}") from None
    return Listed(found, [name for name in columns if name not in ("file", column)])


def _inside(file: str, where: str) -> str:
    """Return the normalized path, which must not leave the folder."""
    file = posixpath.normpath(file)
    if file.startswith("/") or file.split("/", 1)[0] == ".." or "\0" in file:
        raise CommandError(
            f"{where}: {file!r} is not in the folder; give paths relative to the folder"
        )
    return file


def read_classes(path: Path) -> dict[str, int]:
    """Read the classes of a text file, numbered by their lines from 0; blank lines do not count.

    Raises
    ------
    CommandError
        If the file names no class, or one twice.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is not a text file in UTF-8: {error}") from None
    names = [name for name in names if name]
    numbers = {name: number for number, name in enumerate(names)}
    if not names or len(numbers) < len(names):
        twice = next((name for i, name in enumerate(names) if numbers[name] != i), None)
        problem = "names no classes" if twice is None else f"names the class {twice!r} twice"
        raise CommandError(f"{path} {problem}; it needs the name of one class on each line")
    return numbers


class Labels:
    """The labels of one run, and their values in the table.

    If all names are integers, these are the values. If they come from a CSV file and all are
    numbers, the values are floats. Otherwise they are classes: those of the table keep their
    numbers, and new ones get the lowest free numbers in the order of their names. So a run that was
    interrupted and resumed gives the same numbers as one that was not.

    Parameters
    ----------
    names
        All labels of the run.
    listed
        Whether they come from a CSV file. The names of folders are never floats.
    fixed
        The numbers of all classes that are allowed, if the user has listed them.

    Raises
    ------
    CommandError
        If a label is not among the allowed classes, or only some are numbers.
    """

    def __init__(
        self, names: Iterable[str], *, listed: bool, fixed: Mapping[str, int] | None = None
    ) -> None:
        self._names = sorted(set(names))
        self._fixed = fixed
        self._are_integers = fixed is None and all(map(_INTEGER.fullmatch, self._names))
        self.are_floats = (
            listed and fixed is None and not self._are_integers and _are_floats(self._names)
        )
        self._values: dict[str, int] = {}
        if fixed is not None and (other := [name for name in self._names if name not in fixed]):
            raise CommandError(
                f"the label {other[0]!r} is none of the {len(fixed)} classes listed; add it to the "
                f"list, or remove its images"
            )

    def __getitem__(self, name: str) -> int | float:
        return float(name) if self.are_floats else self._values[name]

    def items(self) -> Iterator[tuple[str, int | float]]:
        """Yield (name, value) of the run's labels, in the order of the values."""
        yield from sorted(((name, self[name]) for name in self._names), key=lambda item: item[1])

    def become_floats(self) -> None:
        """Turn integers into floats, for a table of floats.

        Raises
        ------
        CommandError
            If the labels are not numbers.
        """
        if not self.are_floats and not self._are_integers:
            raise CommandError(
                "the labels in the table are numbers with fractions, but these are names; name "
                "another table with --table"
            )
        self.are_floats = True

    def settle(self, known: Mapping[str, int]) -> dict[str, int]:
        """Give every label its number.

        Parameters
        ----------
        known
            The classes of the table, by name.

        Returns
        -------
        dict
            The new classes, by name.

        Raises
        ------
        CommandError
            If a class would have two numbers, or a number two classes.
        """
        if self.are_floats:
            return {}
        numbers = dict(known)
        if self._fixed is not None:
            missing = {name: n for name, n in self._fixed.items() if name not in known}
            new = missing
            wrong = {name: n for name, n in self._fixed.items() if known.get(name, n) != n}
        else:
            names = [name for name in self._names if name not in known]
            new = self._numbered(names, set(known.values()))
            wrong = {}
            if self._are_integers:
                wrong = {name: int(name) for name in self._names if known.get(name) != int(name)}
                wrong = {name: n for name, n in wrong.items() if name in known}
        for name, number in wrong.items():
            raise _clash(f"the class {name!r} is {number} here and {known[name]} in the table")
        numbers |= new
        _check(numbers)
        self._values = numbers
        return new

    def _numbered(self, names: list[str], taken: set[int]) -> dict[str, int]:
        if self._are_integers:
            return {name: int(name) for name in names}
        free = (number for number in itertools.count() if number not in taken)
        return dict(zip(names, free, strict=False))


def _are_floats(names: list[str]) -> bool:
    """Return whether all names are numbers, and not all of them integers.

    Raises
    ------
    CommandError
        If some are numbers with fractions, and others are not numbers.
    """
    numbers = {name for name in names if _FLOAT.fullmatch(name) and math.isfinite(float(name))}
    if numbers and all(map(_INTEGER.fullmatch, numbers)):
        return False
    if numbers and len(numbers) < len(names):
        odd = next(name for name in names if name not in numbers)
        some = next(name for name in names if name in numbers and not _INTEGER.fullmatch(name))
        raise CommandError(
            f"the labels are numbers such as {some}, but {odd!r} is not a number; remove its rows, "
            f"or, if all labels are names of classes, list them with --classes FILE"
        )
    return bool(numbers)


def _check(numbers: Mapping[str, int]) -> None:
    names: dict[int, str] = {}
    for name, number in numbers.items():
        if names.setdefault(number, name) != name:
            raise _clash(f"the number {number} has the names {names[number]!r} and {name!r}")
        if not -_LIMIT <= number < _LIMIT:
            raise CommandError(f"the label {number} has more than 64 bits")


def _clash(what: str) -> CommandError:
    return CommandError(
        f"the labels do not fit those of the table: {what}; use the same names and numbers, or "
        f"name another table with --table"
    )

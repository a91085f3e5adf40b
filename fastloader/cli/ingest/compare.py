"""The differences between a folder and a table."""

from __future__ import annotations

import itertools
import os
import posixpath
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from ..command import progress
from .folder import Folder, modified
from .target import Stored, Target

LOOK_UP = 1000
"""The number of files in one query to the table."""

T = TypeVar("T")

NO_CLASS = "not in a subfolder, which would name the class"


class Difference(NamedTuple):
    """A row that differs from its file.

    Attributes
    ----------
    file
        The file's path in the folder.
    stored
        Its name in the table.
    label
        The label that the row should have.
    """

    file: str
    stored: str
    label: str


class Comparison:
    """Compares the files of a folder with the rows of a table, and changes neither.

    A file is unchanged if its size and time are those that were stored; if only the size is the
    same, the bytes are compared. A new file has moved if the table has the same bytes under the
    same last name in another subfolder, and that file is gone from the folder.

    Attributes
    ----------
    new
        The (file, label) of files that are not in the table.
    there
        The number of rows whose files are in the folder, by label.
    changed, relabeled, moved
        The rows that differ from the folder.
    gone
        The files of rows that are no longer in the folder.
    formats
        The number of new files of each format.
    """

    def __init__(self, folder: Folder, target: Target) -> None:
        self._folder = folder
        self._target = target
        self.new: list[tuple[str, str]] = []
        self.there: Counter[str] = Counter()
        self.changed: list[Difference] = []
        self.relabeled: list[Difference] = []
        self.moved: list[Difference] = []
        self.gone: list[str] = []
        self.formats: Counter[str] = Counter()

    def run(self) -> None:
        """Look at all files and rows, and fill the attributes."""
        files = self._folder.files()
        bar = progress(files, "Looking", total=len(files), unit="files")
        for part in _parts(bar):
            there = self._target.there([file for file, _ in part])
            for file, label in part:
                if file in there:
                    self.compare(file, label, there[file])
                elif (image_format := self._folder.look(file)) is None:
                    continue
                elif label:
                    self.formats[image_format] += 1
                    self.new.append((file, label))
                else:
                    self._folder.refused.add(NO_CLASS, file)
        names = {file for file, _ in files}
        self.gone = [file for file in self._target.files() if file not in names]
        if self.gone and self.new:
            self._find_moved()

    def compare(self, file: str, label: str, stored: Stored) -> None:
        """Note what has become of a file that is in the table."""
        self.there[stored.label] += 1
        info = self._folder.stat(file)
        if info is None:
            return
        label = label or stored.label
        if not self._is_same(file, info, file, stored):
            if self._folder.look(file) is not None:
                self.changed.append(Difference(file, file, label))
        elif label != stored.label:
            self.relabeled.append(Difference(file, file, label))

    def _is_same(self, file: str, info: os.stat_result, name: str, stored: Stored) -> bool:
        """Whether the file is what is stored under a name."""
        if info.st_size != stored.size:
            return False
        if name == file and stored.modified is not None and stored.modified == modified(info):
            return True
        found = self._folder.read(file)
        return found is not None and found[0] == self._target.image(name)

    def _find_moved(self) -> None:
        last_names = {posixpath.basename(file) for file, _ in self.new}
        might_be = [file for file in self.gone if posixpath.basename(file) in last_names]
        old: dict[tuple[str, int], dict[str, Stored]] = {}
        for part in _parts(iter(might_be)):
            for name, stored in self._target.there(part).items():
                old.setdefault((posixpath.basename(name), stored.size), {})[name] = stored
        stay = []
        for file, label in self.new:
            info = self._folder.stat(file)
            rows = {} if info is None else old.get((posixpath.basename(file), info.st_size), {})
            for name, stored in rows.items():
                if info is not None and self._is_same(file, info, name, stored):
                    del rows[name]
                    self.moved.append(Difference(file, name, label))
                    break
            else:
                stay.append((file, label))
        self.new = stay
        found = {row.stored for row in self.moved}
        self.gone = [file for file in self.gone if file not in found]


def _parts(items: Iterator[T]) -> Iterator[list[T]]:
    while part := list(itertools.islice(items, LOOK_UP)):
        yield part

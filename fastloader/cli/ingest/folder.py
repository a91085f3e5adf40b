"""A folder of images: which files are images, their labels, and what is left out and why."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..command import MACHINE, CommandError
from ..database_files import DatabaseFiles
from .labels import LABEL, LABELS_CSV, read_labels

FORMATS = re.compile(
    rb"""(?P<JPEG>\xff\xd8\xff) | (?P<PNG>\x89PNG\r\n\x1a\n) | (?P<WebP>RIFF....WEBP)
       | (?P<GIF>GIF8[79]a) | (?P<TIFF>II[*+]\0|MM\0[*+]) | (?P<BMP>BM.{12}[\x0c-\x7c]\0\0\0)
       | (?P<JPEG2000>\0\0\0\x0cjP\x20\x20\r\n\x87\n|\xff\x4f\xff\x51)
       | (?P<AVIF>....ftypavi[fs]) | (?P<PNM>P[1-6]\s+[\d#])""",
    re.DOTALL | re.VERBOSE,
)
"""The first bytes of each format. The kernel decodes the first three, Pillow the others."""
HEAD_BYTES = 32

RACY_NS = 20_000_000

SHOWN_NAMES = 5


@dataclass
class Left:
    """The names of files that were left out, by reason.

    Parameters
    ----------
    keep_all
        Whether to keep all names, or only the first ones and their number.
    """

    keep_all: bool
    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Count a file."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        names = self.names.setdefault(reason, [])
        if self.keep_all or len(names) < SHOWN_NAMES:
            names.append(shown(name))

    def lines(self) -> Iterator[str]:
        """Yield a line for each reason with the first names."""
        for reason, count in self.counts.items():
            names = ", ".join(self.names[reason][:SHOWN_NAMES])
            yield f"{count} {reason} ({names}{', ...' if count > SHOWN_NAMES else ''})"

    def data(self) -> dict[str, object]:
        """Return the counts and names by reason, for ``--json``."""
        return {
            reason: {"count": count, "files": self.names[reason]}
            for reason, count in self.counts.items()
        }


class Folder:
    """Images in a folder, each with a label.

    The label is what a CSV file says, or else the first subfolder on the way to the image, however
    deep it lies, as in torchvision's ImageFolder and in Keras.

    Parameters
    ----------
    path
        The folder.
    labels
        The CSV file; None for the folder's own labels.csv, if it has one.
    label_column
        The column of the CSV file that has the labels.
    one_class
        The label of all images, whatever subfolder they are in.
    max_blob_bytes
        The size of the largest file that is not refused.
    database
        The files of the database, which are left out and never opened.

    Attributes
    ----------
    skipped
        Files that nobody expects in the table.
    refused
        Files that somebody might miss.
    unused
        The columns of the CSV file that were not read.

    Raises
    ------
    CommandError
        If the path is not a folder, or the CSV file cannot be used.
    OSError
        If the folder cannot be read.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        labels: Path | None = None,
        label_column: str = LABEL,
        one_class: str | None = None,
        max_blob_bytes: int,
        database: DatabaseFiles,
    ) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise CommandError(f"no folder {path}", MACHINE)
        if not self.path.is_dir():
            raise CommandError(f"{path} is a file; name the folder that the images are in")
        own = self.path / LABELS_CSV
        self.labels = labels or (own if one_class is None and own.exists() else None)
        self.unused: list[str] = []
        self._label_column = label_column
        self._one_class = one_class
        self._max_blob_bytes = max_blob_bytes
        self._database = database
        if self.labels is not None and self.labels in database:
            raise CommandError(f"{self.labels} belongs to the database; name a CSV file")
        self.skipped, self.refused = Left(keep_all=False), Left(keep_all=True)

    @property
    def has_classes(self) -> bool:
        """Whether the subfolders are the labels."""
        return self.labels is None and self._one_class is None

    def files(self) -> list[tuple[str, str]]:
        """Return (file, label) of all possible images, in the order of the CSV file or sorted.

        A file is named by its path in the folder, with slashes. The label of a file that is in no
        subfolder is empty.
        """
        named: Iterable[tuple[str, str]]
        if self.labels is None:
            files = sorted(self._walk())
            named = ((name, self._label_of(name)) for name in files)
        else:
            listed = read_labels(self.labels, self._label_column)
            self.unused = listed.unused
            for name in self._walk():
                if name not in listed.labels and not self._is_labels(name):
                    self.skipped.add(f"not in {self.labels.name}", name)
            named = listed.labels.items()
        return [pair for pair in named if self._is_text(*pair)]

    def _label_of(self, name: str) -> str:
        if self._one_class is not None:
            return self._one_class
        return name.partition("/")[0] if "/" in name else ""

    def look(self, file: str) -> str | None:
        """Return the format of a file, or None if it is left out."""
        try:
            self._check(file)
            with open(self.path / file, "rb") as opened:
                head = opened.read(HEAD_BYTES)
        except OSError as error:
            self.refused.add(f"cannot be read: {error.strerror}", file)
            return None
        except _Refused as reason:
            unlisted = isinstance(reason, _Database) and self.labels is None
            (self.skipped if unlisted else self.refused).add(str(reason), file)
            return None
        match = FORMATS.match(head)
        if match is None:
            # A listed file that is not an image, for example a web page, was meant to be one.
            left = self.skipped if self.labels is None else self.refused
            left.add("not an image", file)
            return None
        return match.lastgroup

    def read(self, file: str) -> tuple[bytes, int | None] | None:
        """Return the file's bytes and :func:`modified`, or None if it has to be left out by now."""
        try:
            self._check(file)
            written = modified(os.stat(self.path / file))
            return (self.path / file).read_bytes(), written
        except OSError as error:
            self.refused.add(f"cannot be read: {error.strerror}", file)
        except _Refused as reason:
            self.refused.add(str(reason), file)
        return None

    def stat(self, file: str) -> os.stat_result | None:
        """Return the file's status, or None if it has to be left out by now."""
        try:
            return self._check(file)
        except OSError as error:
            self.refused.add(f"cannot be read: {error.strerror}", file)
        except _Refused as reason:
            self.refused.add(str(reason), file)
        return None

    def _check(self, file: str) -> os.stat_result:
        """Return the file's status without opening it. Raise _Refused or OSError."""
        if self.path / file in self._database:
            raise _Database
        info = os.stat(self.path / file)
        if not stat.S_ISREG(info.st_mode):  # opening a pipe would block until somebody writes
            raise _Refused("not a file but a pipe, a device or a folder")
        if info.st_size == 0:
            raise _Refused("empty")
        if info.st_size > self._max_blob_bytes:
            raise _Refused(f"over {self._max_blob_bytes} bytes; raise --max-blob-bytes to take it")
        return info

    def _is_labels(self, name: str) -> bool:
        assert self.labels is not None
        return os.path.basename(name) == self.labels.name and os.path.samefile(
            self.path / name, self.labels
        )

    def _is_text(self, file: str, label: str) -> bool:
        """Return whether a database can hold the names. On Linux they may be any bytes."""
        try:
            (file + label).encode()
        except UnicodeEncodeError:
            self.refused.add("a name that is not UTF-8", file)
            return False
        return True

    def _walk(self) -> Iterator[str]:
        """Yield all files that are not hidden.

        Each subfolder is entered once, however many links lead to it. Links are followed last, so
        a subfolder that is also reached without a link keeps its own name.
        """
        seen: set[tuple[int, int]] = set()
        waiting, links = [""], list[str]()
        while waiting or links:
            if not waiting:
                links.sort()
                waiting.append(links.pop(0))
            inside = waiting.pop()
            try:
                info = os.stat(self.path / inside)
                if (info.st_dev, info.st_ino) in seen:
                    continue
                seen.add((info.st_dev, info.st_ino))
                with os.scandir(self.path / inside) as entries:
                    for entry in entries:
                        name = inside + entry.name
                        if entry.name.startswith("."):
                            self.skipped.add("hidden", name)
                        elif _is_folder(entry):
                            (links if entry.is_symlink() else waiting).append(name + "/")
                        else:
                            yield name
            except OSError as error:
                self.refused.add(f"cannot be read: {error.strerror}", inside or ".")


def modified(info: os.stat_result) -> int | None:
    """Return when a file was written, in nanoseconds; None if it may change again unnoticed.

    The kernel's clock ticks every 4 to 10 ms, and a change within the same tick keeps the time.
    """
    return info.st_mtime_ns if time.time_ns() - info.st_mtime_ns > RACY_NS else None


class _Refused(Exception):
    """Why a file is not taken."""


class _Database(_Refused):
    """It belongs to the database that is written to."""

    def __str__(self) -> str:
        return "the database itself"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself, which look() then refuses
        return False


def shown(name: str) -> str:
    """Return a form of the name that can be printed, whatever bytes it consists of."""
    return name if name.isprintable() else repr(name)[1:-1]

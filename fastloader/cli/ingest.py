"""``fastloader ingest``."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..config import UNSET, Config, make_config
from .command import DONE, FOUND, CommandError, Outcome, progress, size_text, table
from .database_files import DatabaseFiles
from .folder import Folder, shown
from .labels import Labels
from .target import Row, Target, open_target

BATCH_ROWS, BATCH_BYTES = 500, 16 << 20
"""Of a transaction, whichever is reached first. The pictures of one batch are in memory."""

LOOK_UP = 1000
"""Files of which the table is asked at once."""

SHOWN_LABELS = 10


class Ingest:
    """Puts a folder of pictures into a table that FastLoader reads as it is.

    The label of a picture is the subfolder that it is in; or what FOLDER/labels.csv, or the file
    given with --labels, says in its columns file and label. Labels that are all integers stay what
    they are; others are numbered in the order of their names, and what the table has already keeps
    its number.

    Pictures are known by their first bytes, not by their suffix. None is decoded: that is what
    "fastloader check" does afterwards, on all cores, for tables that came another way too.

    A file that is in the table is not read again, so the same command takes up what was
    interrupted, and adds what is new in the folder. Nothing is changed or removed in the table. The
    exit code is 1 where files were refused: empty, too large, unreadable, missing, or with another
    label than in the table.
    """

    name = "ingest"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", help="with the pictures, in subfolders or not")
        parser.add_argument(
            "url",
            nargs="?",
            help="of the database: a path for a SQLite file, which is made if it is not there, or "
            "postgresql://user@host/database; without it, that of FASTLOADER_URL",
        )
        parser.add_argument("--table", help="made if it is not there (images)")
        parser.add_argument(
            "--labels", type=Path, metavar="CSV", help="with the columns file and label"
        )
        parser.add_argument(
            "--max-blob-bytes",
            type=int,
            metavar="N",
            help=f"larger files are refused ({Config.max_blob_bytes}, as the loader does)",
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        given = {
            name: getattr(arguments, name) or UNSET for name in ("url", "table", "max_blob_bytes")
        }
        config = make_config({**given, "query": None})
        folder = Folder(
            arguments.folder,
            labels=arguments.labels,
            max_blob_bytes=config.max_blob_bytes,
            database=DatabaseFiles(config),
        )
        with contextlib.closing(open_target(config)) as target:
            ingest = _Ingest(folder, target)
            ingest.run()
        return Outcome(
            ingest.text(config, arguments),
            ingest.data(config),
            FOUND if folder.refused.counts else DONE,
        )


class _Ingest:
    """One run, and what came of it.

    added, there: pictures, by label. size: of the added ones, in bytes. formats: of the added ones,
    or what will be.
    """

    def __init__(self, folder: Folder, target: Target) -> None:
        self._folder = folder
        self._target = target
        self.added: Counter[str] = Counter()
        self.there: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.size = 0

    def run(self) -> None:
        start = time.monotonic()
        files = self._new_files()
        if not files and not self.there:
            raise self._nothing()
        self.labels = Labels([*self.there, *(label for _, label in files)])
        self.labels.learn(self._target.labels())
        bar = progress(files, "Storing", total=len(files), unit="pictures")
        for batch in self._batches(bar):
            self._add(batch)
        if self.added:
            self._target.finish()
        self.seconds = time.monotonic() - start

    def _new_files(self) -> list[tuple[str, str]]:
        """(file, label) of the pictures that are not in the table. All are looked at before the
        first is stored: so the labels are known, and nothing is made for a folder without any."""
        found = []
        files = self._folder.files()
        bar = progress(files, "Looking", total=len(files), unit="files")
        while part := list(itertools.islice(bar, LOOK_UP)):
            there = self._target.there([file for file, _ in part])
            for file, label in part:
                if file in there:
                    self._is_there(file, label, there[file])
                elif (image_format := self._folder.look(file)) is not None:
                    self.formats[image_format] += 1
                    found.append((file, label))
        return found

    def _is_there(self, file: str, label: str, stored: str) -> None:
        self.there[stored] += 1
        if label != stored:
            self._folder.refused.add("in the table with another label, which stays", file)

    def _batches(self, files: Iterator[tuple[str, str]]) -> Iterator[list[Row]]:
        batch, size = list[Row](), 0
        for file, label in files:
            image = self._folder.read(file)
            if image is None:
                continue
            batch.append(Row(file, label, image))
            size += len(image)
            if len(batch) == BATCH_ROWS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _add(self, batch: list[Row]) -> None:
        there = self._target.add(batch, self.labels)
        for row in batch:
            if row.file in there:  # another ingest was faster
                self._is_there(row.file, row.label, there[row.file])
            else:
                self.added[row.label] += 1
                self.size += len(row.image)

    def _nothing(self) -> CommandError:
        left = "; ".join([*self._folder.refused.lines(), *self._folder.skipped.lines()])
        found = f": {left}" if left else ", it is empty"
        return CommandError(f"there are no pictures in {self._folder.path}{found}", FOUND)

    def data(self, config: Config) -> dict[str, Any]:
        return {
            "folder": str(self._folder.path),
            "url": str(config.url),
            "table": config.table,
            "added": self.added.total(),
            "there_already": self.there.total(),
            "bytes": self.size,
            "seconds": self.seconds,
            "labels": dict(self.labels.items()),
            "pictures_by_label": dict(self.added + self.there),
            "formats": dict(self.formats),
            "skipped": self._folder.skipped.data(),
            "refused": self._folder.refused.data(),
        }

    def text(self, config: Config, arguments: argparse.Namespace) -> str:
        lines = [
            f"{config.where}: {self.added.total()} pictures added ({size_text(self.size)}), "
            f"{self.there.total()} were there already, in {self.seconds:.1f} s",
            "",
            *self._labels_text(),
            *(f"refused: {line}" for line in self._folder.refused.lines()),
            *(f"skipped: {line}" for line in self._folder.skipped.lines()),
            "next:",
            *(f"  {line}" for line in _next(config, arguments)),
        ]
        return "\n".join(lines)

    def _labels_text(self) -> Iterator[str]:
        counts = self.added + self.there
        rows = [(shown(name), number, counts[name]) for name, number in self.labels.items()]
        yield table(["label", "number", "pictures"], rows[:SHOWN_LABELS])
        if len(rows) > SHOWN_LABELS:
            yield f"and {len(rows) - SHOWN_LABELS} more labels, which --json lists"
        if len(rows) == 1:
            yield "all pictures have this label; subfolders or a labels.csv tell them apart"
        yield ""


def _next(config: Config, arguments: argparse.Namespace) -> Iterator[str]:
    """What to type now: without what the environment says already."""
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

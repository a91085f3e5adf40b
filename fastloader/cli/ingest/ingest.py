"""``fastloader ingest``."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...options.config import UNSET, Config, make_config
from ..command import DONE, FOUND, USAGE, CommandError, Outcome, progress, size_text, table
from ..database_files import DatabaseFiles
from .compare import NO_CLASS, Comparison, Difference
from .folder import SHOWN_NAMES, Folder, shown
from .labels import LABEL, Labels, read_classes
from .target import Row, Target, open_target

BATCH_ROWS, BATCH_BYTES = 500, 16 << 20
"""Of a transaction, whichever is reached first. The images of one batch are in memory."""

SHOWN_LABELS = 10

SPLITS = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing"}
)
"""What the folders of a data set that is divided are usually called."""


class Ingest:
    """Puts a folder of images into a table that FastLoader reads as it is.

    Without a list of labels, the class of an image is the first subfolder on the way to it, however
    deep it lies, as in torchvision's ImageFolder and in Keras. An image in no subfolder has no
    class and is refused; --one-class gives all images the same one. Folders called train, val or
    test are splits and no classes: ingest each into a table of its own, with --classes-of for the
    same numbers.

    FOLDER/labels.csv, or the file given with --labels, says in its columns file and label what the
    label of each image is. Labels that are all integers stay what they are. Labels that are all
    numbers stay floats. All others are classes.

    Classes are numbered in the order of their names, and their numbers are kept in the table
    TABLE_classes (id, name). A class never changes its number: a later ingest uses the numbers that
    are there and adds new classes behind them. --classes or --classes-of says what the classes are,
    and then another one is an error.

    A file is an image if its first bytes say so, whatever its suffix. None is decoded: "fastloader
    check" does that afterwards, on all cores, for tables that came another way too.

    The same command again resumes what was interrupted and adds what is new. Files that have not
    changed (size and time are the same, or else the bytes) are not stored again. Files that have
    changed, moved to another subfolder, or got another label are listed, and the table stays as it
    is; with --update the table follows the folder. Rows whose files are no longer in the folder are
    counted and never deleted.

    The exit code is 1 if files were refused (empty, too large, unreadable, missing, without a
    class), or if the table differs from the folder in a file that is in both.
    """

    name = "ingest"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("folder", help="with the images, in a subfolder for each class")
        parser.add_argument(
            "url",
            nargs="?",
            help="of the database: a path for a SQLite file, which is made if it is not there, or "
            "postgresql://user@host/database; without it, that of FASTLOADER_URL",
        )
        parser.add_argument("--table", help="made if it is not there (images)")
        parser.add_argument(
            "--update",
            action="store_true",
            help="replace the rows of files that have changed, moved or got another label",
        )
        labels = parser.add_argument_group("labels")
        labels.add_argument(
            "--labels", type=Path, metavar="CSV", help="with the columns file and label"
        )
        labels.add_argument(
            "--label-column", metavar="NAME", default=LABEL, help="of the CSV file (label)"
        )
        labels.add_argument(
            "--one-class", metavar="NAME", help="of all images, whatever subfolder they are in"
        )
        numbers = labels.add_mutually_exclusive_group()
        numbers.add_argument(
            "--classes",
            type=Path,
            metavar="FILE",
            help="with the name of a class on each line; the first one is number 0",
        )
        numbers.add_argument(
            "--classes-of",
            metavar="TABLE",
            help="of the same database, whose classes and numbers to take",
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
        database = DatabaseFiles(config)
        if arguments.labels is not None and arguments.one_class is not None:
            raise CommandError("--labels and --one-class: choose one of them")
        if arguments.classes is not None and arguments.classes in database:
            raise CommandError(f"{arguments.classes} belongs to the database; name a text file")
        folder = Folder(
            arguments.folder,
            labels=arguments.labels,
            label_column=arguments.label_column,
            one_class=arguments.one_class,
            max_blob_bytes=config.max_blob_bytes,
            database=database,
        )
        classes = read_classes(arguments.classes) if arguments.classes is not None else None
        with contextlib.closing(open_target(config)) as target:
            if arguments.classes_of is not None:
                classes = target.classes(arguments.classes_of)
            ingest = _Ingest(folder, target, classes, update=arguments.update)
            ingest.run()
        return Outcome(ingest.text(config, arguments), ingest.data(config), ingest.code)


class _Ingest:
    """One run, and what came of it.

    added, updated: images by label. size: of the added ones, in bytes.
    """

    def __init__(
        self, folder: Folder, target: Target, classes: Mapping[str, int] | None, *, update: bool
    ) -> None:
        self._folder = folder
        self._target = target
        self._classes = classes
        self._update = update
        self._found = Comparison(folder, target)
        self.added: Counter[str] = Counter()
        self.size = 0
        self.updated: Counter[str] = Counter()

    def run(self) -> None:
        start = time.monotonic()
        found = self._found
        found.run()
        rows = self._differences
        if not found.new and not found.there and not rows:
            raise self._nothing()
        # All files are looked at before the first is stored, so all labels are known by now, and
        # nothing is made for a folder without images.
        names = {*found.there, *(label for _, label in found.new), *(row.label for row in rows)}
        if self._folder.has_classes and self._classes is None:
            _check_splits(names, self._folder.path)
        listed = self._folder.labels is not None
        self.labels = Labels(names, listed=listed, fixed=self._classes)
        if found.new or (rows and self._update):
            self._target.settle(self.labels)
        else:
            self._target.fit(self.labels)
            self.labels.settle(self._target.classes())
        if self._update:
            self._replace(rows)
        bar = progress(found.new, "Storing", total=len(found.new), unit="images")
        for batch in self._batches((file, file, label) for file, label in bar):
            self._add([row for _, row in batch])
        if self.added:
            self._target.finish()
        self.seconds = time.monotonic() - start

    @property
    def _differences(self) -> list[Difference]:
        found = self._found
        return [*found.changed, *found.relabeled, *found.moved]

    def _batches(self, files: Iterable[tuple[str, str, str]]) -> Iterator[list[tuple[str, Row]]]:
        """(file, name in the table, label) become (name in the table, row)."""
        batch, size = list[tuple[str, Row]](), 0
        for file, name, label in files:
            read = self._folder.read(file)
            if read is None:
                continue
            image, modified = read
            batch.append((name, Row(file, label, modified, image)))
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
                self._found.compare(row.file, row.label, there[row.file])
            else:
                self.added[row.label] += 1
                self.size += len(row.image)

    def _replace(self, rows: Sequence[Difference]) -> None:
        bar = progress(rows, "Updating", total=len(rows), unit="rows")
        for batch in self._batches((row.file, row.stored, row.label) for row in bar):
            self._target.replace(batch, self.labels)
            self.updated.update(row.label for _, row in batch)

    def _nothing(self) -> CommandError:
        refused, skipped = self._folder.refused, self._folder.skipped
        left = "; ".join([*refused.lines(), *skipped.lines()])
        found = f": {left}" if left else ", it is empty"
        words = f"there are no images to store in {self._folder.path}{found}"
        if NO_CLASS not in refused.counts:
            return CommandError(words, FOUND)
        return CommandError(
            f"{words}. Put them into a subfolder for each class, or list them in a labels.csv with "
            f"the columns file and label, or give all of them one class with --one-class NAME",
            USAGE,
        )

    # ---- the summary -----------------------------------------------------------------------------

    @property
    def code(self) -> int:
        differs = bool(self._differences) and not self._update
        return FOUND if differs or self._folder.refused.counts else DONE

    @property
    def _unchanged(self) -> int:
        found = self._found
        return found.there.total() - len(found.changed) - len(found.relabeled)

    def data(self, config: Config) -> dict[str, Any]:
        found = self._found
        return {
            "folder": str(self._folder.path),
            "url": str(config.url),
            "table": config.table,
            "added": self.added.total(),
            "unchanged": self._unchanged,
            "changed": [row.file for row in found.changed],
            "relabeled": [row.file for row in found.relabeled],
            "moved": {row.stored: row.file for row in found.moved},
            "updated": self.updated.total(),
            "gone": found.gone,
            "bytes": self.size,
            "seconds": self.seconds,
            "labels": dict(self.labels.items()),
            "images_by_label": dict(self.added + self.updated + found.there),
            "formats": dict(found.formats),
            "unused_columns": self._folder.unused,
            "skipped": self._folder.skipped.data(),
            "refused": self._folder.refused.data(),
        }

    def text(self, config: Config, arguments: argparse.Namespace) -> str:
        lines = [
            f"{config.where}: {self.added.total()} images added ({size_text(self.size)}), "
            f"{self._unchanged} unchanged, in {self.seconds:.1f} s",
            "",
            *self._labels_text(),
            *self._differences_text(),
            *(f"refused: {line}" for line in self._folder.refused.lines()),
            *(f"skipped: {line}" for line in self._folder.skipped.lines()),
        ]
        if self._folder.unused:
            columns = ", ".join(map(shown, self._folder.unused))
            lines.append(f"not used: the columns {columns} of {self._folder.labels}")
        lines += ["next:", *(f"  {line}" for line in _next(config, arguments))]
        return "\n".join(lines)

    def _labels_text(self) -> Iterator[str]:
        counts = self.added + self.updated + self._found.there
        rows = [(shown(name), number, counts[name]) for name, number in self.labels.items()]
        if self.labels.are_floats:
            values = [number for _, number, _ in rows]
            yield f"labels: numbers from {values[0]} to {values[-1]}, {len(rows)} different ones"
        else:
            yield table(["label", "number", "images"], rows[:SHOWN_LABELS])
            if len(rows) > SHOWN_LABELS:
                yield f"and {len(rows) - SHOWN_LABELS} more labels, which --json lists"
        if len(rows) == 1:
            yield "all images have this label"
        yield ""

    def _differences_text(self) -> Iterator[str]:
        found = self._found
        kinds = [
            ("changed", found.changed, "differ from what is in the table"),
            ("relabeled", found.relabeled, "have another label in the table"),
            ("moved", found.moved, "are in the table under the name that they had before"),
        ]
        stays = "and were replaced" if self._update else "and were left so"
        for kind, rows, words in kinds:
            if rows:
                names = (
                    shown(row.file)
                    if row.file == row.stored
                    else f"{shown(row.stored)} is now {shown(row.file)}"
                    for row in rows[:SHOWN_NAMES]
                )
                more = ", ..." if len(rows) > SHOWN_NAMES else ""
                yield f"{kind}: {len(rows)} {words}, {stays} ({', '.join(names)}{more})"
        if self._differences and not self._update:
            yield "Run it again with --update to make the table follow the folder."
        if found.gone:
            names = (shown(file) for file in found.gone[:SHOWN_NAMES])
            more = ", ..." if len(found.gone) > SHOWN_NAMES else ""
            yield (
                f"not in the folder: {len(found.gone)} rows of the table, which stay "
                f"({', '.join(names)}{more})"
            )


def _check_splits(classes: Iterable[str], folder: Path) -> None:
    """Raises CommandError if the subfolders seem to divide a data set, and not to be classes."""
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
        f"{folder} has the subfolders {', '.join(splits)}, which look like the splits of a data "
        f"set and not like classes. Give each a table of its own: {'; '.join(commands)}. If they "
        f"are classes, list all classes with --classes FILE"
    )


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

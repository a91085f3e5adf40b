"""One run of ingest: compare the folder with the table, then store what is new.

Runs in the process of the command, one batch of images in memory at a time.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..command import DONE, FOUND, USAGE, CommandError, progress
from .compare import NO_CLASS, Comparison, Difference
from .folder import Folder
from .labels import Labels
from .splits import check_splits
from .target import Row, Target

BATCH_ROWS, BATCH_BYTES = 500, 16 << 20
"""The size of a transaction: whichever limit is reached first ends the batch."""


class Run:
    """One run of ingest, and its result.

    Parameters
    ----------
    folder
        The images.
    target
        The table that they are stored in.
    classes
        The numbers of all classes that are allowed, by name; None to number them here.
    update
        Whether to replace rows that differ from the folder.

    Attributes
    ----------
    found
        The difference between folder and table.
    labels
        The labels of the run with their values, once :meth:`run` has settled them.
    added, updated
        The number of images that were stored, by label.
    size
        The bytes of the added images.
    seconds
        The duration of the run.
    """

    labels: Labels
    seconds: float

    def __init__(
        self, folder: Folder, target: Target, classes: Mapping[str, int] | None, *, update: bool
    ) -> None:
        self.folder = folder
        self.update = update
        self.found = Comparison(folder, target)
        self.added: Counter[str] = Counter()
        self.size = 0
        self.updated: Counter[str] = Counter()
        self._target = target
        self._classes = classes

    def run(self) -> None:
        """Compare, and store what is new.

        Raises
        ------
        CommandError
            If there is nothing to store, or the labels do not fit the table.
        SourceError
            If the database refuses.
        """
        start = time.monotonic()
        found = self.found
        found.run()
        rows = self.differences
        if not found.new and not found.there and not rows:
            raise self._nothing()
        # The run looks at all files before it stores the first one. So it knows all labels by now,
        # and makes no table for a folder without images.
        names = {*found.there, *(label for _, label in found.new), *(row.label for row in rows)}
        if self.folder.has_classes and self._classes is None:
            check_splits(names, self.folder.path)
        listed = self.folder.labels is not None
        self.labels = Labels(names, listed=listed, fixed=self._classes)
        if found.new or (rows and self.update):
            self._target.settle(self.labels)
        else:
            self._target.fit(self.labels)
            self.labels.settle(self._target.classes())
        if self.update:
            self._replace(rows)
        bar = progress(found.new, "Storing", total=len(found.new), unit="images")
        for batch in self._batches((file, file, label) for file, label in bar):
            self.add([row for _, row in batch])
        if self.added:
            self._target.finish()
        self.seconds = time.monotonic() - start

    @property
    def differences(self) -> list[Difference]:
        """All rows that differ from the folder."""
        found = self.found
        return [*found.changed, *found.relabeled, *found.moved]

    @property
    def unchanged(self) -> int:
        """The number of rows that are what the folder has."""
        found = self.found
        return found.there.total() - len(found.changed) - len(found.relabeled)

    @property
    def code(self) -> int:
        """The exit code: FOUND if files were refused or the table still differs."""
        differs = bool(self.differences) and not self.update
        return FOUND if differs or self.folder.refused.counts else DONE

    def _batches(self, files: Iterable[tuple[str, str, str]]) -> Iterator[list[tuple[str, Row]]]:
        """Read (file, name in the table, label) into batches of (name in the table, row)."""
        batch, size = list[tuple[str, Row]](), 0
        for file, name, label in files:
            read = self.folder.read(file)
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

    def add(self, batch: list[Row]) -> None:
        """Store a batch in one transaction."""
        there = self._target.add(batch, self.labels)
        for row in batch:
            if row.file in there:  # a concurrent ingest has stored it
                self.found.compare(row.file, row.label, there[row.file])
            else:
                self.added[row.label] += 1
                self.size += len(row.image)

    def _replace(self, rows: Sequence[Difference]) -> None:
        bar = progress(rows, "Updating", total=len(rows), unit="rows")
        for batch in self._batches((row.file, row.stored, row.label) for row in bar):
            self._target.replace(batch, self.labels)
            self.updated.update(row.label for _, row in batch)

    def _nothing(self) -> CommandError:
        """Return the error of a folder without images to store."""
        refused, skipped = self.folder.refused, self.folder.skipped
        left = "; ".join([*refused.lines(), *skipped.lines()])
        found = f": {left}" if left else ", it is empty"
        words = f"there are no images to store in {self.folder.path}{found}"
        if NO_CLASS not in refused.counts:
            return CommandError(words, FOUND)
        return CommandError(
            f"{words}. Put them into a subfolder for each class, or list them in a labels.csv with "
            f"the columns file and label, or give all of them one class with --one-class NAME",
            USAGE,
        )

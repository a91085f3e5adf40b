"""The table that ingest fills. Each kind of database has a subclass in a file of its own."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import SourceError
from ...options.config import Config
from ..store import Store
from .labels import Labels

COLUMNS = ("id", "file", "label", "label_name", "image_data")
MODIFIED = "modified"
"""The one column that a table made by somebody else may lack.

The image is the last column, because SQLite reads through it to reach the columns after it: it
finds the labels of 790 rows of 80 KB in 2 ms before the images, and in 22 ms after them, all of it
in the page cache.
"""


class Row(NamedTuple):
    """A row to store.

    Attributes
    ----------
    file
        The file's path in the folder.
    label
        The name of its label.
    modified
        When the file was written, in nanoseconds; None if that is so recent that a later change
        could go unnoticed.
    image
        The file's bytes.
    """

    file: str
    label: str
    modified: int | None
    image: bytes


class Stored(NamedTuple):
    """A row that is in the table already.

    Attributes
    ----------
    label
        The name of its label.
    size
        The size of its image, in bytes.
    modified
        When its file was written, in nanoseconds, if that is known.
    """

    label: str
    size: int
    modified: int | None


class Target(Store):
    """A table, made when the first rows are stored. Its methods raise SourceError.

    Every batch is a transaction. Only one ingest at a time is in a transaction, so what it has
    looked up still holds when it commits. The classes are in a second table, ``NAME_classes``.
    """

    WHO = "ingest"

    KEY: str
    """The declaration of the id column."""
    TYPES: Mapping[str, str]
    """The SQL types that stand for ``int``, ``float``, ``text`` and ``bytes``."""
    SIZE: str
    """The SQL function that returns the size of a blob without reading it."""
    name: str
    classes_name: str
    """The names of both tables, quoted for SQL."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._is_there = False
        self._has_modified = True
        self._has_floats = False

    # ---- what the subclasses know ----------------------------------------------------------------

    def open(self) -> None:
        """Connect, and look at the table. Create nothing."""
        super().open()
        self._look()

    @abc.abstractmethod
    def _look(self) -> None:
        """Find out whether the table exists, and what it can hold."""

    @abc.abstractmethod
    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of file, label, label_name, modified (if the table has it), image_data."""

    @abc.abstractmethod
    def _update(self, file: str, values: Mapping[str, Any]) -> None:
        """Change columns of a file's row."""

    @abc.abstractmethod
    def _among(self, files: Sequence[str]) -> str:
        """Return the SQL condition that ``file`` is one of these."""

    def finish(self) -> None:  # SQLite has nothing to do
        """Do what is left after the last batch, if there was one."""

    # ---- the classes -----------------------------------------------------------------------------

    def classes(self, table: str | None = None) -> dict[str, int]:
        """Return the numbers of the classes, by name.

        Parameters
        ----------
        table
            Another table of this database, which has to exist; None for this one.
        """
        name, classes = self.name, self.classes_name
        if table is not None:
            name, classes = self._name_of(table), self._name_of(table + "_classes")
            if not self._has(name) and not self._has(classes):
                raise SourceError(f"{self._where}: no table {table!r} to take the classes from")
        if self._has(classes):
            try:
                found = self._execute(f"SELECT name, id FROM {classes}")
            except SourceError as error:
                raise SourceError(
                    f"{error}. The table {classes} keeps the names of classes in the columns id "
                    f"and name; rename yours, or name another table with --table"
                ) from None
        elif self._has(name) and not (table is None and self._has_floats):
            # Somebody else made the table, without a table of classes.
            found = self._execute(f"SELECT DISTINCT label_name, label FROM {name}")
        else:
            return {}
        known: dict[str, int] = {}
        for label, number in found:
            if not isinstance(label, str) or not isinstance(number, int):
                raise SourceError(
                    f"{self._where}: a label is {number!r} and has the name {label!r}; labels need "
                    f"an integer and a name"
                )
            if known.setdefault(label, number) != number:
                raise SourceError(
                    f"{self._where}: the label {label!r} has the numbers {known[label]} and "
                    f"{number}; give it one number"
                )
        return known

    def settle(self, labels: Labels) -> None:
        """Give the labels their values, make the tables if needed, and keep the new classes."""
        with self._transaction():
            if not self._is_there:
                self._look()  # a concurrent ingest may have made it
            self.fit(labels)
            if not self._is_there:
                self._execute(self._create(labels))
                self._is_there, self._has_floats = True, labels.are_floats
            known = self.classes()
            new = labels.settle(known)
            if labels.are_floats:
                return
            if not self._has(self.classes_name):
                self._execute(
                    f"CREATE TABLE {self.classes_name} (id {self.TYPES['int']} PRIMARY KEY, "
                    f"name {self.TYPES['text']} NOT NULL UNIQUE)"
                )
                new = known | new
            for name, number in new.items():
                self._execute(
                    f"INSERT INTO {self.classes_name} (id, name) "
                    f"VALUES ({number:d}, {self._literal(name)})"
                )

    def fit(self, labels: Labels) -> None:
        """Turn the labels into values that the table can hold.

        Raises
        ------
        SourceError, CommandError
            If the table holds floats and the labels are names, or the other way round.
        """
        if self._is_there and self._has_floats:
            labels.become_floats()
        elif self._is_there and labels.are_floats:
            raise SourceError(
                f"{self._where}: the column 'label' holds integers, but these labels are numbers "
                f"with fractions; name another table with --table"
            )

    def _create(self, labels: Labels) -> str:
        its = self.TYPES
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name} (id {self.KEY}, "
            f"file {its['text']} NOT NULL UNIQUE, "
            f"label {its['float' if labels.are_floats else 'int']} NOT NULL, "
            f"label_name {its['text']} NOT NULL, {MODIFIED} {its['int']}, "
            f"image_data {its['bytes']} NOT NULL)"
        )

    # ---- the rows --------------------------------------------------------------------------------

    def files(self) -> list[str]:
        """Return all files in the table."""
        if not self._is_there:
            return []
        return [file for (file,) in self._execute(f"SELECT file FROM {self.name} ORDER BY file")]

    def there(self, files: Sequence[str]) -> dict[str, Stored]:
        """Return the rows of those files that are in the table."""
        if not self._is_there or not files:
            return {}
        modified = MODIFIED if self._has_modified else "NULL"
        rows = self._execute(
            f"SELECT file, label_name, {self.SIZE}(image_data), {modified} FROM {self.name} "
            f"WHERE {self._among(files)}"
        )
        return {file: Stored(*values) for file, *values in rows}

    def image(self, file: str) -> bytes:
        """Return the image of a file in the table, or b"" if its row is gone by now."""
        where = self._among([file])
        rows = self._execute(f"SELECT image_data FROM {self.name} WHERE {where}")
        return bytes(rows[0][0]) if rows else b""

    def add(self, rows: Sequence[Row], labels: Labels) -> dict[str, Stored]:
        """Add the rows whose files are not in the table yet, all of them or none.

        Returns
        -------
        dict
            What the table has of the other files, as from :meth:`there`.
        """
        with self._transaction():
            there = self.there([row.file for row in rows])
            new = [row for row in rows if row.file not in there]
            self._insert([
                (row.file, labels[row.label], row.label,
                 *([row.modified] if self._has_modified else []), row.image)
                for row in new
            ])  # fmt: skip
        return there

    def replace(self, rows: Sequence[tuple[str, Row]], labels: Labels) -> None:
        """Replace the stored rows, each given by its name in the table, all of them or none."""
        with self._transaction():
            for file, row in rows:
                values: dict[str, Any] = {"label": labels[row.label], "label_name": row.label}
                if self._has_modified:
                    values[MODIFIED] = row.modified
                if row.file != file:
                    values["file"] = row.file
                self._update(file, values | {"image_data": row.image})

    @property
    def _columns(self) -> list[str]:
        """The columns that :meth:`_insert` gets."""
        skipped = {"id"} if self._has_modified else {"id", MODIFIED}
        names = (*COLUMNS[:-1], MODIFIED, COLUMNS[-1])
        return [name for name in names if name not in skipped]

    def _check_columns(self, there: Sequence[str]) -> None:
        missing = [name for name in COLUMNS if name not in there]
        if missing:
            raise SourceError(
                f"{self._where}: the table already exists without the column {missing[0]!r} (it "
                f"has {', '.join(there)}): name another table with --table, or add the column"
            )
        self._is_there = True
        self._has_modified = MODIFIED in there

    def _check_unique(self) -> None:
        """Check that a file cannot be in the table twice.

        Without a unique index on the file, the database refuses to explain this statement.
        """
        try:
            self._execute(
                f"EXPLAIN INSERT INTO {self.name} (file, label, label_name, image_data) "
                f"VALUES ('', 0, '', '') ON CONFLICT (file) DO NOTHING"
            )
        except SourceError as error:
            if "ON CONFLICT" not in str(error):
                raise
            raise SourceError(
                f"{self._where}: the column 'file' is not unique, so a file could be stored twice. "
                f"Run: CREATE UNIQUE INDEX ON {self.name} (file)"
            ) from None

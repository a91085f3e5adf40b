"""The table that images are put into, whichever database it is in. A subclass for each."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import SourceError
from ...options.config import Config
from .labels import Labels

COLUMNS = ("id", "file", "label", "label_name", "image_data")
MODIFIED = "modified"
"""A table of somebody else's may lack it. The image is the last column: SQLite goes through it to
what is behind. The labels of 790 rows of 80 KB it finds in 2 ms before the images and in 22 ms
behind them, all of it in the page cache."""

LOCKED_S = 60
"""How long to wait for another writer. A batch of another ingest takes less than a second."""


class Row(NamedTuple):
    """What is stored of a file.

    label: its name. modified: when the file was written, in nanoseconds; None if that is too
    recent to tell whether it has changed again since.
    """

    file: str
    label: str
    modified: int | None
    image: bytes


class Stored(NamedTuple):
    """What the table has of a file. size: of the image, in bytes."""

    label: str
    size: int
    modified: int | None


class Target(abc.ABC):
    """A table, made when the first rows come. Raises SourceError.

    Every batch is a transaction, and one ingest at a time is in one, so what is looked up in it is
    still so when it ends. The names of the classes are in a table beside it, ``NAME_classes``.
    """

    BEGIN: str
    KEY: str
    """What the id column is declared as."""
    TYPES: Mapping[str, str]
    """Of the other columns, by ``int``, ``float``, ``text`` and ``bytes``."""
    SIZE: str
    """The function that gives a blob's bytes without reading it."""
    name: str
    classes_name: str
    """As SQL has them."""

    def __init__(self, config: Config) -> None:
        self._where = config.where
        self._is_there = False
        self._has_modified = True
        self._has_floats = False

    # ---- what the subclasses know ----------------------------------------------------------------

    @abc.abstractmethod
    def open(self) -> None:
        """Connect, and look at the table. Makes nothing."""

    @abc.abstractmethod
    def _look(self) -> None:
        """Look whether there is such a table, and what it can hold."""

    @abc.abstractmethod
    def _execute(self, sql: str) -> list[tuple[Any, ...]]: ...

    @abc.abstractmethod
    def _has(self, name: str) -> bool:
        """Whether there is a table of that name, which is as SQL has it."""

    @abc.abstractmethod
    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows of file, label, label_name, modified (where there is one), image_data."""

    @abc.abstractmethod
    def _update(self, file: str, values: Mapping[str, Any]) -> None:
        """Change columns of a file's row."""

    @abc.abstractmethod
    def _among(self, files: Sequence[str]) -> str:
        """Return the condition that ``file`` is one of these."""

    @abc.abstractmethod
    def _literal(self, text: str) -> str:
        """Return the text as SQL has it."""

    @abc.abstractmethod
    def _name_of(self, table: str) -> str:
        """Return the name of a table as SQL has it."""

    @abc.abstractmethod
    def close(self) -> None:
        """May be called twice."""

    def finish(self) -> None:  # noqa: B027 # SQLite has nothing to do
        """After the last batch, if there was one."""

    # ---- the classes -----------------------------------------------------------------------------

    def classes(self, table: str | None = None) -> dict[str, int]:
        """Return the numbers of the classes, by name.

        table: another one of this database, which has to be there.
        """
        name, classes = self.name, self.classes_name
        if table is not None:
            name, classes = self._name_of(table), self._name_of(table + "_classes")
            if not self._has(name) and not self._has(classes):
                raise SourceError(f"{self._where}: there is no table {table!r} to take classes of")
        if self._has(classes):
            try:
                found = self._execute(f"SELECT name, id FROM {classes}")
            except SourceError as error:
                raise SourceError(
                    f"{error}. The table {classes} is where the names of classes are kept, in the "
                    f"columns id and name; rename yours, or name another table with --table"
                ) from None
        elif self._has(name) and not (table is None and self._has_floats):
            # Somebody else's table.
            found = self._execute(f"SELECT DISTINCT label_name, label FROM {name}")
        else:
            return {}
        known: dict[str, int] = {}
        for label, number in found:
            if not isinstance(label, str) or not isinstance(number, int):
                raise SourceError(
                    f"{self._where}: there is a label {number!r} with the name {label!r}; labels "
                    f"need an integer and a name"
                )
            if known.setdefault(label, number) != number:
                raise SourceError(
                    f"{self._where}: the label {label!r} has the numbers {known[label]} and "
                    f"{number}; make them one"
                )
        return known

    def settle(self, labels: Labels) -> None:
        """Give the labels their values, make the tables if needed, and keep the new classes."""
        with self._transaction():
            if not self._is_there:
                self._look()  # another ingest may have made it meanwhile
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
        """Make the labels such as the table can hold. Raises SourceError, or CommandError."""
        if self._is_there and self._has_floats:
            labels.become_floats()
        elif self._is_there and labels.are_floats:
            raise SourceError(
                f"{self._where}: the column 'label' holds integers, and these labels are numbers "
                f"with fractions; take a table of their own with --table"
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
        """All files in the table."""
        if not self._is_there:
            return []
        return [file for (file,) in self._execute(f"SELECT file FROM {self.name} ORDER BY file")]

    def there(self, files: Sequence[str]) -> dict[str, Stored]:
        """Those of the files that are in the table."""
        if not self._is_there or not files:
            return {}
        modified = MODIFIED if self._has_modified else "NULL"
        rows = self._execute(
            f"SELECT file, label_name, {self.SIZE}(image_data), {modified} FROM {self.name} "
            f"WHERE {self._among(files)}"
        )
        return {file: Stored(*values) for file, *values in rows}

    def image(self, file: str) -> bytes:
        """The image of a file that is in the table; nothing if it has gone."""
        where = self._among([file])
        rows = self._execute(f"SELECT image_data FROM {self.name} WHERE {where}")
        return bytes(rows[0][0]) if rows else b""

    def add(self, rows: Sequence[Row], labels: Labels) -> dict[str, Stored]:
        """Add those whose files are not there yet, all or none; the others, as :meth:`there`."""
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
        """Make what is stored of each file, by which name it is in the table, that of the row."""
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
        """Those that :meth:`_insert` gets."""
        skipped = {"id"} if self._has_modified else {"id", MODIFIED}
        names = (*COLUMNS[:-1], MODIFIED, COLUMNS[-1])
        return [name for name in names if name not in skipped]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._execute(self.BEGIN)
        try:
            yield
            self._execute("COMMIT")
        except BaseException:
            with contextlib.suppress(SourceError):
                self._execute("ROLLBACK")
            raise

    def _check_columns(self, there: Sequence[str]) -> None:
        missing = [name for name in COLUMNS if name not in there]
        if missing:
            raise SourceError(
                f"{self._where}: there is such a table already, without the column "
                f"{missing[0]!r} (it has {', '.join(there)}): name another table with --table, or "
                f"add the column"
            )
        self._is_there = True
        self._has_modified = MODIFIED in there

    def _check_unique(self) -> None:
        """The database refuses to explain this where nothing keeps a file from being there twice.
        Raises SourceError."""
        try:
            self._execute(
                f"EXPLAIN INSERT INTO {self.name} (file, label, label_name, image_data) "
                f"VALUES ('', 0, '', '') ON CONFLICT (file) DO NOTHING"
            )
        except SourceError as error:
            if "ON CONFLICT" not in str(error):
                raise
            raise SourceError(
                f"{self._where}: nothing keeps a file from being in the table twice. Run: "
                f"CREATE UNIQUE INDEX ON {self.name} (file)"
            ) from None

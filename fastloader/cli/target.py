"""The table that pictures are put into, whichever database it is in. A subclass for each."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..config import Config
from ..errors import SourceError
from .labels import Labels

COLUMNS = ("id", "file", "label", "label_name", "image_data")
"""The image is the last: SQLite goes through it to what is behind. The labels of 790 rows of 80 KB
it finds in 2 ms before the images and in 22 ms behind them, all of it in the page cache."""

LOCKED_S = 60
"""How long to wait for another writer. A batch of another ingest takes less than a second."""


class Row(NamedTuple):
    """label: its name."""

    file: str
    label: str
    image: bytes


class Target(abc.ABC):
    """A table, made when the first rows come. Raises SourceError.

    Every batch is a transaction, and one ingest at a time is in one, so that what is looked up in
    it, the files and the numbers of the labels, is still so when it ends.
    """

    BEGIN: str
    CREATE: str
    name: str
    """As SQL has it."""

    def __init__(self, config: Config) -> None:
        self._where = config.where
        self._is_there = False
        self._last_id = -(2**63)
        """The labels of rows up to here are known."""

    # ---- what the subclasses know ----------------------------------------------------------------

    @abc.abstractmethod
    def open(self) -> None:
        """Looks at the table, if there is one, and makes nothing."""

    @abc.abstractmethod
    def _execute(self, sql: str) -> list[tuple[Any, ...]]: ...

    @abc.abstractmethod
    def _insert(self, rows: Sequence[tuple[str, int, str, bytes]]) -> None:
        """Rows of file, label, label_name, image_data."""

    @abc.abstractmethod
    def _among(self, files: Sequence[str]) -> str:
        """The condition that ``file`` is one of these."""

    @abc.abstractmethod
    def close(self) -> None:
        """May be called twice."""

    def finish(self) -> None:  # noqa: B027 # SQLite has nothing to do
        """After the last batch, if there was one."""

    # ---- what they have in common ----------------------------------------------------------------

    def labels(self) -> list[tuple[str, int]]:
        """(name, number) of the table's labels, as far as they are not known from the call before.

        The last id is asked for first: what comes in between is looked at twice, not missed.
        """
        if not self._is_there:
            return []
        ((last,),) = self._execute(f"SELECT max(id) FROM {self.name}")
        found = self._execute(
            f"SELECT DISTINCT label_name, label FROM {self.name} WHERE id > {self._last_id}"
        )
        self._last_id = self._last_id if last is None else last
        return [(name, number) for name, number in found]

    def there(self, files: Sequence[str]) -> dict[str, str]:
        """The names of the labels of those files that are in the table."""
        if not self._is_there or not files:
            return {}
        rows = self._execute(f"SELECT file, label_name FROM {self.name} WHERE {self._among(files)}")
        return dict(rows)

    def add(self, rows: Sequence[Row], labels: Labels) -> dict[str, str]:
        """Adds those whose files are not there yet, all or none; the others, as :meth:`there`."""
        with self._transaction():
            if not self._is_there:
                self._execute(self.CREATE)
                self._is_there = True
            labels.learn(self.labels())  # those that another ingest has added meanwhile
            there = self.there([row.file for row in rows])
            new = [row for row in rows if row.file not in there]
            self._insert([(row.file, labels[row.label], row.label, row.image) for row in new])
        return there

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

    def _check_unique(self) -> None:
        """The database refuses to explain this where nothing keeps a file from being there twice.
        Raises SourceError."""
        self._execute(
            f"EXPLAIN INSERT INTO {self.name} (file, label, label_name, image_data) "
            f"VALUES ('', 0, '', '') ON CONFLICT (file) DO NOTHING"
        )

    def _not_unique(self) -> SourceError:
        return SourceError(
            f"{self._where}: nothing keeps a file from being in the table twice. Run: "
            f"CREATE UNIQUE INDEX ON {self.name} (file)"
        )


def open_target(config: Config) -> Target:
    """That of the configuration, opened. Raises SourceError."""
    target: Target
    if config.url.is_postgres:
        from .target_postgres import PostgresTarget

        target = PostgresTarget(config)
    else:
        from .target_sqlite import SQLiteTarget

        target = SQLiteTarget(config)
    try:
        target.open()
    except BaseException:
        target.close()
        raise
    return target

"""The table that ingest fills in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ...source.sqlite.types import affinity
from ..store_sqlite import SQLiteStore
from .target import Target


class SQLiteTarget(Target, SQLiteStore):
    """A table in SQLite, whose file is made with the first batch. See :class:`Target`."""

    KEY = "INTEGER PRIMARY KEY"
    TYPES = {"int": "INTEGER", "float": "REAL", "text": "TEXT", "bytes": "BLOB"}  # noqa: RUF012
    SIZE = "length"

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        assert config.table is not None
        self.name = self._name_of(config.table)
        self.classes_name = self._name_of(config.table + "_classes")

    def _look(self) -> None:
        columns = self._execute(f"PRAGMA table_xinfo({self.name})") if self._is_file else []
        if columns:
            declared = {name: kind for _, name, kind, *_ in columns}
            self._check_columns(list(declared))
            self._has_floats = affinity(declared["label"]) == "REAL"
            self._check_unique()

    def _insert(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._add(self._columns, rows)

    def _update(self, file: str, values: Mapping[str, Any]) -> None:
        sets = ", ".join(f"{column} = ?" for column in values)
        try:
            self._connect().execute(
                f"UPDATE {self.name} SET {sets} WHERE file = ?", (*values.values(), file)
            )
        except sqlite3.Error as error:
            raise SourceError(f"{self._where}: cannot change a row: {error}") from None

    def _among(self, files: Sequence[str]) -> str:
        return f"file IN ({', '.join(map(self._literal, files))})"

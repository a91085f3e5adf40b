"""The types of a PostgreSQL table's columns, and what to do about those that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import SourceError
from ...fields.not_images import POINTERS, kind_of, why_not_an_image
from ...options.config import Config
from ...options.labels import TEXT
from ..sql import identifier
from .key_types import cast_of, key_type
from .label_types import TEXTS, label_cast, label_type
from .types import BYTEA, BYTES, OID, Query, Type, decoding, first_text, text


class ColumnTypes:
    """The types of the columns of a table, view or query.

    All methods raise SourceError if a column has a type that cannot be used.

    Parameters
    ----------
    config
        The loader's options.
    table
        The table's name in SQL, or the query in parentheses.
    query
        Runs statements.
    condition
        The condition that rows must meet, or "".
    oids, modifiers
        The OID and the modifier of each column's type, by the column's name.
    """

    def __init__(
        self,
        config: Config,
        table: str,
        query: Query,
        *,
        condition: str,
        oids: Mapping[str, int],
        modifiers: Mapping[str, int],
    ) -> None:
        self._config = config
        self._table = table
        self._condition = condition
        self._oids, self._modifiers = oids, modifiers
        self._query = query

    def of_key(self, name: str) -> Type:
        """Return the type of a key column."""
        found = key_type(self._oids[name], self._modifiers[name], self._query)
        if found is not None:
            return found
        cast, can_be_indexed = cast_of(self._oids[name], self._name_of(name), self._query)
        advice = "No index serves this cast; a column that can be a key is faster"
        if can_be_indexed:
            advice = "Index the same expression"
            if self._config.query is None:
                columns = {key: identifier(key) for key in self._config.keys}
                columns[name] = f"({cast.format(identifier(name))})"
                advice += f": CREATE UNIQUE INDEX ON {self._table} ({', '.join(columns.values())})"
        why = "it cannot be a key"
        raise SourceError(f"{self._unusable(name, why, cast)}. {advice}")

    def of_split(self, column: str) -> Type:
        """Return the type of the column of ``split_by``."""
        found = key_type(self._oids[column], self._modifiers[column], self._query)
        if found is not None and not found.is_loose:
            return found
        why = "equal values of that type may differ as text, so they cannot decide about a split"
        if found is None:
            why = "it cannot decide about a split"
        raise self._unusable(column, why, "{}::text")

    def of_label(self, name: str, dtype: str | None) -> Type:
        """Return the type of a label column."""
        found = label_type(self._oids[name], self._query)
        if found is None:
            raise self._unusable(name, "it cannot be a label", "")
        if dtype is not None and (found.wire == TEXT) != (dtype == TEXT):
            cast = "{}::text" if dtype == TEXT else "{}::float8"
            raise self._unusable(name, f"it is not {dtype}", cast)
        return found

    def check_images(self) -> None:
        """Check the columns of images."""
        for image in self._config.image_columns:
            oid = self._oids[image]
            if oid not in (BYTEA, OID):
                why = "images must be bytea, or the oids of large objects"
                cast = "{}::bytea"
                if oid in TEXTS:
                    start = first_text(f"q.{identifier(image)}", f"{self._table} q", self._query)
                    if kind_of(start) in POINTERS:
                        words = why_not_an_image(start, image, is_postgres=True)
                        raise SourceError(f"{self._config.place}: {words}")
                    cast = decoding(start)
                raise self._unusable(image, why, cast)

    def check_paths(self) -> None:
        """Check the columns of paths."""
        for path in self._config.path_columns:
            found = label_type(self._oids[path], self._query)
            if found is None or found.wire not in (TEXT, BYTES):
                why = "paths must be text, or bytea"
                raise self._unusable(path, why, "{}::text")

    def _unusable(self, column: str, why: str, cast: str) -> SourceError:
        """Return the error for a column of the wrong type, with the query that casts it."""
        kind = self._name_of(column)
        cast = cast or label_cast(kind, self._modifiers[column])
        names = [*self._config.keys, *self._config.blob_limits, *self._config.value_columns]
        columns = {name: identifier(name) for name in names}
        columns[column] = f"{cast.format(identifier(column))} AS {identifier(column)}"
        select = f"SELECT {', '.join(columns.values())} FROM {self._table}"
        if self._config.query is not None:
            select += " q"
        advice = f"Cast it: query={select!r}"
        if self._condition:  # which may need other columns, and parameters
            cast_column, view = f"{column}_cast", f"{self._config.table}_cast"
            advice = (
                f"Cast it in a view and read its column {cast_column!r} with table={view!r}: "
                f"CREATE VIEW {identifier(*view.split('.'))} AS SELECT *, "
                f"{cast.format(identifier(column))} AS {identifier(cast_column)} FROM {self._table}"
            )
        where = f"{self._config.place}: column {column!r}"
        return SourceError(f"{where} has the type {kind}; {why}. {advice}")

    def _name_of(self, column: str) -> str:
        """Return the name of a column's type."""
        (found,) = self._query(f"SELECT format_type({self._oids[column]}, NULL)")
        return text(found.value(0, 0))

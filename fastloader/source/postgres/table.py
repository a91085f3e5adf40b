"""What is read from PostgreSQL: the columns with their types, and the SQL for keys and rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import PlanError, SourceError
from ...options.config import Config
from ...options.labels import TEXT
from ...plan.keys import Key, Keys, key_values, same
from ...plan.split import numbers_of
from ..protocol import no_column, no_group, no_table
from ..sql import as_subquery, identifier, row
from ._libpq import QueryError, Result
from .column_types import ColumnTypes
from .condition import checked
from .key_types import SETTINGS
from .literals import array_literal, literal
from .types import (
    BYTEA,
    BYTES,
    MOST_KEY_BYTES,
    OID,
    Bound,
    Query,
    Type,
    keys_of,
)

VIEW = "selected_images"
"""The name of the view in the advice for a query that is to be cached."""


class PostgresTable:
    """A table, view or query whose columns have been found.

    In its SQL, ``q`` is whatever is selected from.

    Parameters
    ----------
    config
        The loader's options.
    query
        Runs statements on an open connection. Later calls pass their own, because the connection
        may have been replaced.

    Attributes
    ----------
    name
        The name of the table in messages.
    is_named
        Whether it is a table or view rather than a query.
    table
        The table's name, or the query in parentheses.
    rows
        What to select from: the same, or the rows of the table that meet ``where``.
    params
        The parameters of statements that select from ``rows``, or None.
    config
        The loader's options.
    key
        The key in SQL: a column, or a row of several.
    keys
        The columns of the key in SQL.
    key_names, key_types
        The names of the key columns, and their types.
    image_oids
        The type OID of each column of images or paths, by name.
    labels
        Each label column with the dtype that all of its fields ask for, or None.
    label_types
        The type of each label column, by name.
    modifiers
        The modifier of each column's type, by name.
    split_type
        The type of the column of ``split_by``, or None if that is the key.
    settings
        Statements for the beginning of a transaction that reads keys.

    Raises
    ------
    SourceError
        If a column does not exist or cannot be used.
    """

    def __init__(self, config: Config, query: Query) -> None:
        self.config = config
        self.labels = [*config.value_columns.items()]
        self.name = config.place
        self.is_named = config.table is not None
        self.params: Bound | None = None
        self._condition = ""
        if config.query is not None:
            self.table = as_subquery(config.query)
        else:
            assert config.table is not None
            self.table = identifier(*config.table.split("."))  # a dot follows the schema
        self.rows = self.table
        self.key_names = config.keys
        self.keys = [f"q.{identifier(name)}" for name in config.keys]
        self.key = row(self.keys)
        there, self.modifiers = self._columns(query)
        if config.where is not None:
            self._condition, self.params = checked(config, self.table, query)
            self.rows = self.selected()
        split = () if config.split_column is None else (config.split_column,)
        labels = (name for name, _ in self.labels)
        for name in (*config.keys, *split, *config.blob_limits, *labels):
            if name not in there:
                raise SourceError(f"{self.name}: {no_column(config, name, there)}")
        types = ColumnTypes(
            config, self.table, query, condition=self._condition, oids=there,
            modifiers=self.modifiers,
        )  # fmt: skip
        self.key_types = [types.of_key(name) for name in config.keys]
        pairs = zip(self.key_types, self.keys, strict=True)
        self._keys_out = [kind.output.format(key) for kind, key in pairs]
        self.split_type: Type | None = None
        self._split_out: list[str] = []
        for name in split:
            self.split_type = types.of_split(name)
            self._split_out = [self.split_type.output.format(f"q.{identifier(name)}")]
        self.settings = SETTINGS if "::text" in str(self._keys_out + self._split_out) else ""
        types.check_images()
        types.check_paths()
        self.image_oids = {name: there[name] for name in config.blob_limits}
        self.label_types = {name: types.of_label(name, dtype) for name, dtype in self.labels}

    # ---- where -----------------------------------------------------------------------------------

    def selected(self, columns: str = "*", *, by_key: bool = False) -> str:
        """Return what to select from for some columns of the rows that meet ``where``.

        With ``by_key``, no index serves ``where``, so that the key's index is used.
        """
        condition = f" WHERE {self._condition}" if self._condition else ""
        if condition and by_key:
            condition += " IS TRUE"
        elif columns == "*" and not condition:
            return self.table
        return f"(SELECT {columns} FROM {self.table}{condition})"

    # ---- columns ---------------------------------------------------------------------------------

    def _columns(self, query: Query) -> tuple[dict[str, int], dict[str, int]]:
        """Return the type OIDs of the columns and the types' modifiers, both by name."""
        try:
            (result,) = query(f"SELECT * FROM {self.rows} q LIMIT 0")
        except QueryError as error:
            if error.sqlstate in ("42P01", "3F000") and self.is_named:
                raise no_table(self.config.url, self.config.table, _tables(query)) from None
            raise
        names = [name for name, _ in result.columns]
        return dict(result.columns), dict(zip(names, result.modifiers, strict=True))

    # ---- SQL for keys ----------------------------------------------------------------------------

    @property
    def keys_sql(self) -> str:
        """The statement for all keys in their order, NULLs last.

        If values of the key's type can be equal but differ as text, another column says whether
        each key equals the one before it. The last one is that of ``split_by``.
        """
        again = ""
        if self.is_loose:
            before = (f"{key} = lag({key}) OVER (ORDER BY {self.order})" for key in self.keys)
            again = f", {' AND '.join(before)}"
        columns, numbers = ", ".join(self._keys_out), "".join(f", {out}" for out in self._split_out)
        return f"SELECT {columns}{again}{numbers} FROM {self.rows} q ORDER BY {self.order}"

    def numbers(self, result: Result) -> NDArray[np.uint64]:
        """Return the numbers of rows of :attr:`keys_sql`, for the split. Raises PlanError."""
        column, kind = self.config.split_column, self.split_type
        assert column is not None
        assert kind is not None
        at = len(self.keys) + self.is_loose
        sizes = result.blobs(at)[:, 1]
        if (sizes < 0).any():
            where = f"{identifier(column)} IS NOT NULL"
            where = f"{self._condition} AND {where}" if self._condition else where
            advice = f"Use another column, or where={where!r}" if self.is_named else ""
            raise no_group(self.name, column, "is NULL in some rows", advice)
        if kind.wire == TEXT and sizes.max(initial=0) > MOST_KEY_BYTES:
            raise no_group(self.name, column, f"holds more than {MOST_KEY_BYTES} bytes")
        return numbers_of(keys_of(result, at, [kind]))

    @property
    def is_loose(self) -> bool:
        """Whether keys that are equal may differ as text."""
        return any(kind.is_loose for kind in self.key_types)

    @property
    def order(self) -> str:
        """What to order by, to have the rows in the order of their keys."""
        return ", ".join(self.keys)

    def key_widths(self, query: Query) -> list[int]:
        """Return the size of the longest text in each key column in bytes, 0 for other types."""
        texts = [i for i, kind in enumerate(self.key_types) if kind.wire == TEXT]
        widths = [0] * len(self.key_types)
        if texts:
            sizes = ", ".join(f"max(octet_length({self._keys_out[i]}))" for i in texts)
            (result,) = query(f"SELECT {sizes} FROM {self.rows} q", self.params)
            for at, i in enumerate(texts):
                widths[i] = int(result.value(0, at) or 1)
        return widths

    def null_keys(self, query: Query) -> PlanError:
        """Return the error for a key column that holds NULL, with the number of such rows."""
        counts = ", ".join(f"count(*) - count({key})" for key in self.keys)
        (result,) = query(f"SELECT {counts} FROM {self.rows} q", self.params)
        found = (int(result.value(0, i) or 0) for i in range(len(self.keys)))
        nulls, name = max(zip(found, self.key_names, strict=True))
        return PlanError(
            f"{self.name}: the key column {name!r} is NULL in {nulls} "
            f"{'row' if nulls == 1 else 'rows'}; every row needs a key. Use another column as key"
        )

    def check_different(self, keys: Keys, last: Keys | None, result: Result) -> None:
        """Raise PlanError if two keys differ as text but are equal in their own type.

        No key range could tell them apart.

        Parameters
        ----------
        keys
            The keys in ``result``.
        last
            The key before them, or None.
        result
            Rows of :attr:`keys_sql`.
        """
        before = np.concatenate((keys[:1] if last is None else last, keys[:-1]))
        equal = result.raw(len(self.keys), 1)[0][:, 0] != 0
        for i in np.flatnonzero(equal & ~same(keys, before))[:1].tolist():
            one, other = key_values(np.concatenate((before[i : i + 1], keys[i : i + 1])))
            raise PlanError(
                f"{self.name}: the keys {one!r} and {other!r} are equal to PostgreSQL; keys must "
                f"be unique. Use another column as key"
            )

    def constant(self, key: Key) -> str:
        """Return a key in SQL."""
        pairs = zip(_columns(key), self.key_types, strict=True)
        return row([f"{literal(str(value))}::{kind.name}" for value, kind in pairs])

    @property
    def indexed(self) -> str:
        """The columns of an index that serves the key."""
        return ", ".join(map(identifier, self.key_names))

    @property
    def materialized(self) -> str:
        """The statements that make a materialized view of a query, with an index for its key."""
        query = (self.config.query or "").strip().rstrip(";")
        return (
            f"CREATE MATERIALIZED VIEW {VIEW} AS {query}; "
            f"CREATE UNIQUE INDEX ON {VIEW} ({self.indexed})"
        )

    # ---- SQL for rows ----------------------------------------------------------------------------

    @property
    def plain_sql(self) -> str:
        """The statement for all columns of all rows, which is only ever explained."""
        names = (*self.config.blob_limits, *(name for name, _ in self.labels))
        columns = ", ".join([*self.keys, *(f"q.{identifier(name)}" for name in names)])
        return f"SELECT {columns} FROM {self.rows} q"

    def rows_sql(
        self, ranges: Sequence[tuple[Key, Key]], done: Key | None = None, *, bare: bool = False
    ) -> str:
        """Return the statement for the rows of some key ranges, in the order of the ranges.

        Its columns are the number of the range (from 1), the key's columns, size and image of each
        image column, and the labels. Its plan is a nested loop over the index.

        Parameters
        ----------
        ranges
            First and last key of each range, both inclusive.
        done
            The last key of the first range that has been read already.
        bare
            Select of images and labels only whether they are NULL, which leaves the plan as it is.
        """
        given: list[str] = []
        limits: tuple[list[str], list[str]] = ([], [])
        for i, kind in enumerate(self.key_types):
            for limit, name, end in zip(limits, ("lo", "hi"), (0, 1), strict=True):
                array = array_literal([_columns(ends[end])[i] for ends in ranges])
                given.append(f"{array}::{kind.name}[]")
                limit.append(f"{name}{i or ''}")
        names = [name for pair in zip(*limits, strict=True) for name in pair]
        low, high = (row([f"fl.{name}" for name in limit]) for limit in limits)
        images = [
            self._size_and_image(name, limit) for name, limit in self.config.blob_limits.items()
        ]
        labels = [self._label(name) for name, _ in self.labels]
        if bare:
            images = [f"q.{identifier(name)} IS NULL" for name in self.config.blob_limits]
            labels = [f"{label} IS NULL" for label in labels]
        columns = ", ".join([*self._keys_out, *images, *labels])
        rest = "" if done is None else f"AND (fl.n > 1 OR {self.key} > {self.constant(done)}) "
        return (
            f"SELECT fl.n, t.* FROM unnest({', '.join(given)}) WITH ORDINALITY "
            f"AS fl({', '.join(names)}, n) CROSS JOIN LATERAL (SELECT {columns} "
            f"FROM {self.selected(by_key=True)} q "
            f"WHERE {self.key} BETWEEN {low} AND {high} {rest}"
            f"ORDER BY {self.order}) t"
        )

    def _label(self, name: str) -> str:
        """Return the expression for a label. Of a blob that is too large, not much more is read."""
        kind, column = self.label_types[name], f"q.{identifier(name)}"
        if kind.wire == BYTES:
            limit = self.config.max_blob_bytes
            return (
                f"CASE WHEN octet_length({column}) <= {limit} THEN {column} "
                f"ELSE substring({column}, 1, {limit + 1}) END"
            )
        return kind.output.format(column)

    def _size_and_image(self, name: str, limit: int) -> str:
        """Return the expressions for the size of an image or path, and for the image or path.

        The image is NULL if it is too large, which the server knows without reading it. The size of
        a large object is always NULL, because the server would have to read the object for it.
        """
        image = f"q.{identifier(name)}"
        if name in self.config.path_columns and self.image_oids[name] != BYTEA:
            image += "::text"
        elif self.image_oids[name] == OID:
            return (
                f"NULL::int4, CASE WHEN EXISTS (SELECT FROM pg_largeobject_metadata m WHERE "
                f"m.oid = {image}) THEN lo_get({image}, 0, {limit + 1}) END"
            )
        size = f"octet_length({image})"
        return f"{size}, CASE WHEN {size} <= {limit} THEN {image} END"


def _columns(key: Key) -> tuple[int | str, ...]:
    return key if isinstance(key, tuple) else (key,)


def _tables(query: Query) -> str:
    """Return the names of up to 30 tables and views, for a message."""
    (result,) = query(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema') "
        "AND n.nspname NOT LIKE 'pg_toast%' ORDER BY 1 LIMIT 30"
    )
    names = (result.value(row, 0) or b"" for row in range(len(result)))
    return ", ".join(name.decode("utf-8", "replace") for name in names) or "none"

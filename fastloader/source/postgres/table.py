"""What is read from PostgreSQL: columns and their types, the SQL for keys and rows, and advice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from ...errors import ConfigError, PlanError, SourceError
from ...fields.columns import Column, blob_column
from ...options.config import Config
from ...options.labels import TEXT, split_label
from ...plan.keys import Key, Keys, key_values
from ..sql import as_subquery, identifier
from ._libpq import QueryError, Result
from .explain import calls, may_differ, nodes, takes_new_samples
from .key_types import SETTINGS, cast_of, key_type
from .literals import array_literal, literal
from .types import BYTEA, BYTES, CASTS, LABELS, OID, Query, Type, decoding, text

FIRST_ROWS = 100
"""Rows to look at for the length of an array, and for compressed images."""


TABLE_STATE = """
SELECT c.relkind IN ('r', 'm') AND NOT c.relhassubclass OR c.relkind = 'p' AND NOT EXISTS (
         SELECT FROM pg_partition_tree(c.oid) t JOIN pg_class leaf ON leaf.oid = t.relid
         WHERE t.isleaf AND leaf.relkind <> 'r'),
       concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),
                 (SELECT timeline_id FROM pg_control_checkpoint()),
                 (SELECT oid FROM pg_database WHERE datname = current_database()), c.oid),
       (SELECT string_agg(concat_ws(' ', attname, attnum, atttypid, a.xmin), ',' ORDER BY attnum)
        FROM pg_attribute a WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
FROM pg_class c WHERE c.oid = {table}
"""
"""Whether its rows have an xmin; which table it is; its columns."""

VOLATILE = """
SELECT min(p.oid::regprocedure::text), bool_or(n.nspname = 'pg_catalog')
FROM unnest({schemas}::text[], {names}::text[]) AS called(schema, name)
JOIN pg_proc p ON p.proname = called.name
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname = called.schema OR called.schema = '' AND pg_function_is_visible(p.oid)
GROUP BY called.schema, called.name
HAVING coalesce(bool_and(p.provolatile = 'v') FILTER (WHERE n.nspname = 'pg_catalog'),
                bool_and(p.provolatile = 'v'))
ORDER BY 1
"""
"""The volatile ones of these functions. A plan does not say which of several with one name is
meant: PostgreSQL's own, then, and if there is none, all must be volatile."""

HARMLESS = {"lo_get", "pg_read_binary_file", "pg_read_file", "pg_sleep"}
"""Functions that are volatile for another reason than chance."""


class PostgresTable:
    """A table, view or query whose columns have been found.

    key_type: of the key column. label_types: of the label columns, by name.
    settings: statements for the beginning of a transaction that reads keys.
    """

    def __init__(self, config: Config, query: Query) -> None:
        """Raises SourceError for a column that is not there or cannot be used."""
        self._config = config
        self._labels = [split_label(label) for label in config.labels]
        self.name = config.where
        # q is whatever is selected from; a dot in a table's name divides it from its schema.
        if config.query is not None:
            self._from = as_subquery(config.query)
        else:
            assert config.table is not None
            self._from = identifier(*config.table.split("."))
        self._key = f"q.{identifier(config.key)}"
        there, modifiers = self._columns(query)
        for name in (config.key, *config.images, *(name for name, _ in self._labels)):
            if name not in there:
                raise SourceError(f"{self.name}: no column {name!r}; there are {', '.join(there)}")
        self.key_type = self._key_type(there[config.key], modifiers[config.key], query)
        self._key_out = self.key_type.output.format(self._key)
        self.settings = SETTINGS if "::text" in self._key_out else ""
        self._check_types(there, query)
        self._image_oids = {name: there[name] for name in config.images}
        self.label_types: dict[str, Type] = {name: LABELS[there[name]] for name, _ in self._labels}

    # ---- columns ---------------------------------------------------------------------------------

    def _columns(self, query: Query) -> tuple[dict[str, int], dict[str, int]]:
        """The type OIDs of the columns, and the types' modifiers, by name."""
        try:
            (result,) = query(f"SELECT * FROM {self._from} q LIMIT 0")
        except QueryError as error:
            if error.sqlstate in ("42P01", "3F000") and self._config.table is not None:
                raise SourceError(
                    f"{self._config.url}: no table {self._config.table!r}; there are: "
                    f"{_tables(query)}"
                ) from None
            raise
        names = [name for name, _ in result.columns]
        return dict(result.columns), dict(zip(names, result.modifiers, strict=True))

    def _check_types(self, there: dict[str, int], query: Query) -> None:
        for image in self._config.images:
            oid = there[image]
            if oid not in (BYTEA, OID):
                why = "images must be bytea, or the oids of large objects"
                cast = "{}::bytea"
                if oid in LABELS and LABELS[oid].wire == TEXT:
                    cast = decoding(f"q.{identifier(image)}", f"{self._from} q", query)
                raise self._unusable(image, oid, why, cast, query)
        for name, dtype in self._labels:
            found = LABELS.get(there[name])
            if found is None:
                raise self._unusable(name, there[name], "that cannot be a label", "", query)
            if dtype is not None and (found.wire == TEXT) != (dtype == TEXT):
                cast = "{}::text" if dtype == TEXT else "{}::float8"
                raise self._unusable(name, there[name], f"that is not {dtype}", cast, query)

    def _key_type(self, oid: int, modifier: int, query: Query) -> Type:
        found = key_type(oid, modifier, query)
        if found is not None:
            return found
        key = self._config.key
        kind = text(query(f"SELECT format_type({oid}, NULL)")[0].value(0, 0))
        cast, can_be_indexed = cast_of(oid, kind, query)
        advice = "No index serves this cast; a column that can be a key is faster"
        if can_be_indexed:
            advice = "Index the same expression"
            if self._config.table is not None:
                expression = cast.format(identifier(key))
                advice += f": CREATE UNIQUE INDEX ON {self._from} (({expression}))"
        why = "that cannot be a key"
        raise SourceError(f"{self._unusable(key, oid, why, cast, query)}. {advice}")

    def _unusable(self, column: str, oid: int, why: str, cast: str, query: Query) -> SourceError:
        """Says what is wrong with a column and which query makes it right."""
        found = query(f"SELECT format_type({oid}, NULL)")[0].value(0, 0) or b"?"
        kind = found.decode("utf-8", "replace")
        cast = cast or CASTS.get(kind, "{}::text")
        names = [self._config.key, *self._config.images, *(name for name, _ in self._labels)]
        columns = {name: identifier(name) for name in names}
        columns[column] = f"{cast.format(identifier(column))} AS {identifier(column)}"
        select = f"SELECT {', '.join(columns.values())} FROM {self._from}"
        if self._config.query is not None:
            select += " q"
        return SourceError(
            f"{self.name}: column {column!r} has the type {kind}; {why}. Cast it: query={select!r}"
        )

    def label_columns(self, keys: Keys, query: Query) -> tuple[Column, ...]:
        """See :class:`fastloader.source.Source`."""
        return tuple(self._label_column(name, dtype, keys, query) for name, dtype in self._labels)

    def _label_column(self, name: str, dtype: str | None, keys: Keys, query: Query) -> Column:
        kind = self.label_types[name]
        if not kind.element and kind.wire != BYTES:
            return Column(name, dtype or kind.dtype)
        # The shape of the first that is not NULL has to be the shape of all.
        column = f"q.{identifier(name)}"
        shape = f"octet_length({column})"
        if kind.element:
            dimensions = f"generate_series(1, array_ndims({column})) n"
            shape = (
                f"array_to_string(ARRAY(SELECT array_length({column}, n) FROM {dimensions}), ' ')"
            )
        first, last = key_values(keys[[0, min(FIRST_ROWS, len(keys)) - 1]])
        (result,) = query(
            f"SELECT {shape} FROM {self._from} q WHERE {self._key} BETWEEN {self._constant(first)} "
            f"AND {self._constant(last)} AND {column} IS NOT NULL ORDER BY {self._key} LIMIT 1"
        )
        if len(result) == 0:
            raise SourceError(
                f"{self.name}: column {name!r} is NULL in the first {FIRST_ROWS} rows, so its "
                f"shape is not known; leave such rows out with query="
            )
        found = tuple(map(int, text(result.value(0, 0)).split())) or (0,)
        if kind.wire == BYTES:
            return blob_column(name, dtype, found[0])
        return Column(name, dtype or kind.dtype, found)

    def state(self, query: Query) -> str:
        """See :class:`fastloader.source.Source`.

        A version of a row has the number of the transaction that made it, xmin; so keys and xmins
        together tell of every change to any row. (VACUUM leaves xmin as it is.) Beside them which
        table of which server this is, and which columns: one that is dropped and made anew has
        another number. All of it is the same on a physical replica.
        """
        advice = "do without the cache, or read a table or a materialized view"
        if self._config.table is None:
            raise ConfigError(f"{self.name}: nobody can say when a query's rows change; {advice}")
        if OID in self._image_oids.values():
            raise ConfigError(
                f"{self.name}: nobody can say when a large object changes; do without the cache, "
                f"or keep the pictures in a bytea column"
            )
        table = f"{literal(self._from)}::regclass"
        (result,) = query(TABLE_STATE.format(table=table))
        about = [text(result.value(0, i)) for i in range(3)]
        if about[0] != "t":
            raise ConfigError(
                f"{self.name}: nobody can say when the rows of a view or a foreign table change; "
                f"{advice}"
            )
        (result,) = query(
            f"SET LOCAL enable_seqscan = on; "
            f"SELECT concat(count(*), ' ', sum(hashtextextended("
            f"concat({self._key}::text, ' ', q.xmin, ' ', q.tableoid), 0))) FROM {self._from} q"
        )
        query("SET LOCAL enable_seqscan = off")
        return " ".join([*about[1:], text(result.value(0, 0))])

    def check_repeatable(self, query: Query) -> bool:
        """Return whether its rows may differ when they are read again. Raises SourceError if they
        certainly do: each key range is read by a query of its own."""
        columns = [self._key, *(f"q.{identifier(name)}" for name in self._config.images)]
        columns += [f"q.{identifier(name)}" for name, _ in self._labels]
        (result,) = query(
            f"EXPLAIN (VERBOSE, FORMAT JSON) SELECT {', '.join(columns)} FROM {self._from} q"
        )
        plan = json.loads(result.value(0, 0) or b"[]")
        if takes_new_samples(plan):
            raise SourceError(
                f"{self.name}: TABLESAMPLE takes other rows each time the query is read, and it is "
                f"read for each key range. Use TABLESAMPLE system (...) REPEATABLE (1), or "
                f"bernoulli"
            )
        called = sorted((schema, name) for schema, name in calls(plan) if name not in HARMLESS)
        schemas, names = (array_literal([one[i] for one in called]) for i in (0, 1))
        (result,) = query(VOLATILE.format(schemas=schemas, names=names))
        if len(result):
            function, is_builtin = (text(result.value(0, i)) for i in (0, 1))
            remedy = (
                "For a random order pass shuffle=True; for a part of the rows, select by the key, "
                "for example WHERE abs(hashint8(id) % 10) < 8"
                if is_builtin == "t"
                else f"If it always gives the same for the same rows, tell PostgreSQL so: "
                f"ALTER FUNCTION {function} STABLE"
            )
            raise SourceError(
                f"{self.name}: {function} is volatile, so the query may give other rows each time "
                f"it is read, and it is read for each key range. {remedy}"
            )
        return may_differ(plan)

    # ---- SQL -------------------------------------------------------------------------------------

    @property
    def keys_sql(self) -> str:
        """The keys in their order, NULLs last; of a loose type also whether each equals the one
        before."""
        again = ""
        if self.key_type.is_loose:
            again = f", {self._key} = lag({self._key}) OVER (ORDER BY {self._key})"
        return f"SELECT {self._key_out}{again} FROM {self._from} q ORDER BY {self._key}"

    def key_width(self, query: Query) -> int:
        """Bytes of the longest key that is text, at least 1."""
        (result,) = query(f"SELECT max(octet_length({self._key_out})) FROM {self._from} q")
        return int(result.value(0, 0) or 1)

    def null_keys(self, query: Query) -> PlanError:
        (result,) = query(f"SELECT count(*) FROM {self._from} q WHERE {self._key} IS NULL")
        nulls = int(result.value(0, 0) or 0)
        return PlanError(
            f"{self.name}: the key column {self._config.key!r} is NULL in {nulls} "
            f"{'row' if nulls == 1 else 'rows'}; every row needs a key. Use another column as key"
        )

    def check_different(self, keys: Keys, last: Keys | None, result: Result) -> None:
        """Raises PlanError for keys that are equal in their own type and not as text: a key range
        could not tell them apart. last: the key before them. result: of ``keys_sql``."""
        before = np.concatenate((keys[:1] if last is None else last, keys[:-1]))
        equal = result.raw(1, 1)[0][:, 0] != 0
        for i in np.flatnonzero(equal & (keys != before))[:1].tolist():
            one, other = key_values(np.stack((before[i], keys[i])))
            raise PlanError(
                f"{self.name}: the keys {one!r} and {other!r} are equal to PostgreSQL; keys must "
                f"be unique. Use another column as key"
            )

    def rows_sql(
        self, ranges: Sequence[tuple[Key, Key]], done: Key | None = None, *, bare: bool = False
    ) -> str:
        """Number of the range (from 1), key, for each image column size and image, and labels of
        the rows of the ranges, in their order: a nested loop over the index. done: the last key
        that is known of the first. bare: of images and labels only whether they are NULL, which
        leaves the plan as it is.
        """
        low, high = (array_literal([ends[i] for ends in ranges]) for i in (0, 1))
        kind = self.key_type.name
        images = [self._size_and_image(name) for name in self._config.images]
        labels = [f"q.{identifier(name)}" for name, _ in self._labels]
        if bare:
            images = [f"q.{identifier(name)} IS NULL" for name in self._config.images]
            labels = [f"{label} IS NULL" for label in labels]
        columns = ", ".join([self._key_out, *images, *labels])
        rest = "" if done is None else f"AND (fl.n > 1 OR {self._key} > {self._constant(done)}) "
        return (
            f"SELECT fl.n, t.* FROM unnest({low}::{kind}[], {high}::{kind}[]) WITH ORDINALITY "
            f"AS fl(lo, hi, n) CROSS JOIN LATERAL (SELECT {columns} "
            f"FROM {self._from} q WHERE {self._key} BETWEEN fl.lo AND fl.hi {rest}"
            f"ORDER BY {self._key}) t"
        )

    def _size_and_image(self, name: str) -> str:
        """The image is NULL where its size, which the server knows without reading it, is too
        large. The size of a large object, which would have to be read for it, is always NULL."""
        image, limit = f"q.{identifier(name)}", self._config.max_blob_bytes
        if self._image_oids[name] == OID:
            return (
                f"NULL::int4, CASE WHEN EXISTS (SELECT FROM pg_largeobject_metadata m WHERE "
                f"m.oid = {image}) THEN lo_get({image}, 0, {limit + 1}) END"
            )
        size = f"octet_length({image})"
        return f"{size}, CASE WHEN {size} <= {limit} THEN {image} END"

    def missing_image(self, name: str) -> str:
        """What is said of an image that is NULL in this column."""
        if self._image_oids[name] == OID:
            return "NULL, or the oid of a large object that does not exist"
        return "NULL"

    def _constant(self, key: Key) -> str:
        return f"{literal(str(key))}::{self.key_type.name}"

    # ---- advice ----------------------------------------------------------------------------------

    def advice(self, keys: Keys, query: Query) -> Iterator[str]:
        """What makes reading slow, and what to do. keys: some of them."""
        first, last = key_values(keys[[0, -1]])
        (result,) = query(f"EXPLAIN (FORMAT JSON) {self.rows_sql([(first, last)])}")
        plan = json.loads(result.value(0, 0) or b"[]")
        if not any("fl.lo" in str(node.get("Index Cond", "")) for node in nodes(plan)):
            yield self._no_index()
        for name, oid in self._image_oids.items():
            if self._config.table is not None and oid == BYTEA and self._compressed(name, query):
                table, image = self._from, identifier(name)
                yield (
                    f"{self.name}: PostgreSQL has compressed the column {name!r}, which takes it "
                    f"more time to undo than it saves for pictures. Run: ALTER TABLE {table} "
                    f"ALTER COLUMN {image} SET STORAGE EXTERNAL; and write the rows anew: UPDATE "
                    f"{table} SET {image} = {image} || ''"
                )

    def _compressed(self, name: str, query: Query) -> bool:
        """Whether most of the column's first images are."""
        image = f"q.{identifier(name)}"
        (result,) = query(
            f"SELECT count(*), count(*) FILTER (WHERE pg_column_size(i) < octet_length(i)) FROM "
            f"(SELECT {image} AS i FROM {self._from} q WHERE {image} IS NOT NULL "
            f"LIMIT {FIRST_ROWS}) q"
        )
        rows, compressed = (int(result.value(0, column) or 0) for column in (0, 1))
        return compressed * 2 > rows

    def _no_index(self) -> str:
        advice = "Select a key that is indexed in its table, or index its expression"
        if self._config.table is not None:
            advice = f"Run: CREATE UNIQUE INDEX ON {self._from} ({identifier(self._config.key)})"
        return (
            f"{self.name}: no index serves the key column {self._config.key!r}, so every key range "
            f"scans the whole table. {advice}"
        )


def _tables(query: Query) -> str:
    (result,) = query(
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') "
        "AND n.nspname NOT IN ('pg_catalog', 'information_schema') "
        "AND n.nspname NOT LIKE 'pg_toast%' ORDER BY 1 LIMIT 30"
    )
    names = (result.value(row, 0) or b"" for row in range(len(result)))
    return ", ".join(name.decode("utf-8", "replace") for name in names) or "none"

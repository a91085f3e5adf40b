"""Find out what the label columns of a table hold: types, shapes, sizes, and classes."""

from __future__ import annotations

from dataclasses import replace

from ...errors import SourceError
from ...fields.blobs import blob_column
from ...fields.columns import Column
from ...fields.npy import MOST_HEADER_BYTES
from ...options.labels import TEXT
from ...plan.keys import Keys, key_values
from ...plan.order import spread
from ..sql import identifier
from .table import PostgresTable
from .types import ARRAY, BYTES, Query, text

SPREAD_ROWS = 32
"""The number of rows, spread over all keys, that are looked at for the sizes of values."""

FIRST_ROWS = 100
"""The number of rows that are looked at for the shape of an array, and for compressed images."""


def label_columns(table: PostgresTable, keys: Keys, query: Query) -> tuple[Column, ...]:
    """Return the columns of :meth:`fastloader.source.protocol.Source.label_columns`."""
    sizes = _sizes(table, keys, query)
    columns = (_label_column(table, name, dtype, keys, query) for name, dtype in table.labels)
    return tuple(
        replace(its, mean=sizes[its.name][0], deviation=sizes[its.name][1])
        if its.name in sizes
        else its
        for its in columns
    )


def _sizes(table: PostgresTable, keys: Keys, query: Query) -> dict[str, tuple[float, float]]:
    """Return mean and standard deviation of how large values are that may differ in size.

    They are bytes, or numbers for arrays.
    """
    sizes = {}
    for name, kind in table.label_types.items():
        column = f"q.{identifier(name)}"
        if kind.wire == TEXT:
            sizes[name] = f"octet_length(({kind.output.format(column)})::text)"
        elif name in table.config.ragged_columns and kind.wire in (ARRAY, BYTES):
            sizes[name] = {
                "pg_array": f"cardinality({column})",
                "pg_vector": f"array_length({column}::float4[], 1)",
                "": f"octet_length({column})",
            }[kind.form.kind if kind.form is not None else ""]
    if not sizes:
        return {}
    some = ", ".join(map(table.constant, key_values(keys[spread(len(keys), SPREAD_ROWS)])))
    both = ", ".join(f"avg({size}), stddev_pop({size})" for size in sizes.values())
    (result,) = query(f"SELECT {both} FROM {table.table} q WHERE {table.key} IN ({some})")
    found = [float(result.value(0, i) or 0) for i in range(2 * len(sizes))]
    return dict(zip(sizes, zip(found[::2], found[1::2], strict=True), strict=True))


def _label_column(
    table: PostgresTable, name: str, dtype: str | None, keys: Keys, query: Query
) -> Column:
    kind = table.label_types[name]
    if kind.wire not in (ARRAY, BYTES):
        return Column(name, dtype or kind.dtype)
    is_vector = kind.form is not None and kind.form.kind == "pg_vector"
    if is_vector and table.modifiers[name] > 0:  # the number of dimensions
        return Column(name, dtype or kind.dtype, (table.modifiers[name],))
    # The shape of the first value that is not NULL has to be the shape of all.
    column = f"q.{identifier(name)}"
    shape = f"octet_length({column}), substring({column}, 1, {MOST_HEADER_BYTES})"
    if is_vector:
        shape = f"array_length({column}::float4[], 1)"
    elif kind.form is not None:
        dimensions = f"generate_series(1, array_ndims({column})) n"
        shape = f"array_to_string(ARRAY(SELECT array_length({column}, n) FROM {dimensions}), ' ')"
    first, last = key_values(keys[[0, min(FIRST_ROWS, len(keys)) - 1]])
    (result,) = query(
        f"SELECT {shape} FROM {table.rows} q WHERE {table.key} BETWEEN {table.constant(first)} "
        f"AND {table.constant(last)} AND {column} IS NOT NULL ORDER BY {table.order} LIMIT 1",
        table.params,
    )
    if len(result) == 0 and name in table.config.ragged_columns:
        return Column(name, kind.dtype, (0,), "raw" if kind.wire == BYTES else "")
    if len(result) == 0:
        raise SourceError(
            f"{table.name}: column {name!r} is NULL in the first {FIRST_ROWS} rows, so its "
            f"shape is not known; leave such rows out with query="
        )
    found = tuple(map(int, text(result.value(0, 0)).split())) or (0,)
    if kind.wire == BYTES:
        start = bytes.fromhex(text(result.value(0, 1)).removeprefix("\\x"))
        return blob_column(name, start, found[0])
    return Column(name, dtype or kind.dtype, found)


def classes_of(table: PostgresTable, name: str, most: int, query: Query) -> list[str | int]:
    """Return the different values of a column by the first key of each; NULL is left out."""
    kind = table.label_types[name]
    value = kind.output.format(f"q.{identifier(name)}")
    order = ", ".join(f"k{i}" for i in range(len(table.keys)))
    keys = ", ".join(f"{key} AS k{i}" for i, key in enumerate(table.keys))
    (result,) = query(
        f"SELECT v FROM (SELECT DISTINCT ON (v) {value} AS v, {keys} FROM {table.table} q "
        f"WHERE q.{identifier(name)} IS NOT NULL ORDER BY 1, {table.order}) c "
        f"ORDER BY {order} LIMIT {most}"
    )
    texts = [text(result.value(row, 0)) for row in range(len(result))]
    if kind.dtype == TEXT:
        return [*texts]
    return [int({"t": 1, "f": 0}.get(one, one)) for one in texts]

"""The PostgreSQL types that can be labels, and what to do about one that cannot."""

from __future__ import annotations

from ...fields.values import Form
from ...options.labels import TEXT
from .types import ARRAY, BYTEA, BYTES, OID, Query, Type, text

DAY_US, EPOCH_DAYS, EPOCH_US = 86_400_000_000, 10_957, 946_684_800_000_000
"""PostgreSQL counts days and microseconds from 2000. We count microseconds from 1970."""


def _array(element: str, dtype: str, oid: int) -> Type:
    return Type(f"{element}[]", ARRAY, dtype, Form("pg_array", dtype, oid))


LABELS = {
    16: Type("bool", "?", "bool"),
    21: Type("int2", ">i2", "int64"),
    23: Type("int4", ">i4", "int64"),
    20: Type("int8", ">i8", "int64"),
    OID: Type("oid", ">u4", "int64"),
    700: Type("float4", ">f4", "float64"),
    701: Type("float8", ">f8", "float64"),
    25: Type("text", TEXT, TEXT),
    1043: Type("varchar", TEXT, TEXT),
    1042: Type("bpchar", TEXT, TEXT),
    19: Type("name", TEXT, TEXT),
    1082: Type("date", ">i4", "int64", None, DAY_US, EPOCH_DAYS),
    1114: Type("timestamp", ">i8", "int64", None, 1, EPOCH_US),
    1184: Type("timestamptz", ">i8", "int64", None, 1, EPOCH_US),
    1000: _array("bool", "bool", 16),
    1005: _array("int2", "int16", 21),
    1007: _array("int4", "int32", 23),
    1016: _array("int8", "int64", 20),
    1021: _array("float4", "float32", 700),
    1022: _array("float8", "float64", 701),
    BYTEA: Type("bytea", BYTES, "uint8"),
}
"""The types that can be labels, by OID."""

VECTORS = {
    "vector": Type("vector", ARRAY, "float32", Form("pg_vector", "float32")),
    "halfvec": Type("halfvec", ARRAY, "float16", Form("pg_vector", "float16")),
}
"""The types of pgvector, by their names, because their OIDs differ from database to database."""

CASTS = {
    "numeric": "{}::float8",
    "numeric[]": "{}::float8[]",
    "money": "{}::numeric::float8",
    "interval": "extract(epoch FROM {})::float8",
    "bit": "{}::int8",
}
"""Casts that turn another type into a label, by the type's name. For the rest it is ``::text``."""


def label_type(oid: int, query: Query) -> Type | None:
    """Return how a label of this type is read, or None if it cannot be a label.

    A domain never gets here: to clients, PostgreSQL shows the type below it.

    Parameters
    ----------
    oid
        The type's OID.
    query
        Runs statements.
    """
    if oid in LABELS:
        return LABELS[oid]
    # Only a superuser can make a base type. Anybody can make others with these names.
    (result,) = query(f"SELECT typname FROM pg_type WHERE oid = {oid} AND typtype = 'b'")
    return VECTORS.get(text(result.value(0, 0))) if len(result) else None


def label_cast(kind: str) -> str:
    """Return an expression that makes a label of a column ``{}`` of the type with this name."""
    if kind.endswith("sparsevec"):  # with the schema in front of it, if it is not in the path
        return f"{{}}::{kind.removesuffix('sparsevec')}vector"
    return CASTS.get(kind, "{}::text")

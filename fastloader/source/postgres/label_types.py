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
    114: Type("json", TEXT, TEXT),
    3802: Type("jsonb", TEXT, TEXT, output="{}::text"),
    142: Type("xml", TEXT, TEXT, output="{}::text"),
    2950: Type("uuid", TEXT, TEXT, output="{}::text"),
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

TEXTS = {25, 1043, 1042, 19}
"""The OIDs of the types that are nothing but text."""

CASTS = {
    "numeric": "{0}::float8",
    "numeric[]": "{0}::float8[]",
    "money": "{0}::numeric::float8",
    **dict.fromkeys(
        ("interval", "time without time zone", "time with time zone"),
        "extract(epoch FROM {0})::float8",
    ),
    "point": "ARRAY[{0}[0], {0}[1]]",
}
"""Casts that turn another type into a label, by the type's name. For the rest it is ``::text``."""

MOST_BITS = 64
"""The length of the longest bit string that is cast to a number."""


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
    (result,) = query(f"SELECT typname, typtype FROM pg_type WHERE oid = {oid}")
    name, what = (text(result.value(0, i)) for i in (0, 1)) if len(result) else ("", "")
    if what == "e" or (name, what) == ("citext", "b"):
        return LABELS[25]
    # Only a superuser can make a base type. Anybody can make others with these names.
    return VECTORS.get(name) if what == "b" else None


def label_cast(kind: str, modifier: int) -> str:
    """Return an expression that makes a label of a column ``{0}``.

    Parameters
    ----------
    kind, modifier
        The type's name and modifier.
    """
    if kind.endswith("sparsevec"):  # with the schema in front of it, if it is not in the path
        return f"{{0}}::{kind.removesuffix('sparsevec')}vector"
    if kind == "bit" and modifier <= MOST_BITS:
        return "{0}::int8"
    return CASTS.get(kind, "{0}::text")

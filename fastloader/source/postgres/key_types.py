"""The PostgreSQL types that can be keys, and what to do about one that cannot.

A key is compared, sorted and found in its own type, so that its index is used. Between processes it
travels as an integer, or as text that stands for exactly this value and is always the same.
"""

from __future__ import annotations

from ...options.labels import TEXT
from ...plan.keys import INTEGER, UUID
from .types import BYTEA, OID, Query, Type, text

NUMERIC, MOST_DIGITS = 1700, 18
"""The OID of numeric, and the number of decimal digits that always fit int64."""

SETTINGS = (
    "SET LOCAL datestyle = 'ISO'; SET LOCAL extra_float_digits = 1; "
    "SET LOCAL bytea_output = 'hex'; "
)
"""Settings that make the text of a key exact and the same on all hosts."""

KEYS = {
    21: Type("int2", ">i2", INTEGER),
    23: Type("int4", ">i4", INTEGER),
    20: Type("int8", ">i8", INTEGER),
    OID: Type("oid", ">u4", INTEGER),
    2950: Type("uuid", UUID, UUID),
    25: Type("text", TEXT, TEXT),
    1043: Type("text", TEXT, TEXT),
    # No cast to text, which would strip the blanks at the end.
    1042: Type("bpchar", TEXT, TEXT, is_loose=True),
    19: Type("name", TEXT, TEXT, output="{}::text"),
    NUMERIC: Type("numeric", TEXT, TEXT, output="{}::text", is_loose=True),
    700: Type("float4", TEXT, TEXT, output="{}::text", is_loose=True),
    701: Type("float8", TEXT, TEXT, output="{}::text", is_loose=True),
    1082: Type("date", TEXT, TEXT, output="{}::text"),
    1114: Type("timestamp", TEXT, TEXT, output="{}::text"),
    BYTEA: Type("bytea", TEXT, TEXT, output="{}::text"),
}

CASTS = {
    "timestamp with time zone": "{} AT TIME ZONE 'UTC'",
    "interval": "extract(epoch FROM {})::float8",
    "boolean": "{}::int4",
}
"""Casts that turn another type into a key and can be indexed, by the type's name."""


def key_type(oid: int, modifier: int, query: Query) -> Type | None:
    """Return how a key of this type is read, or None if it cannot be a key.

    Parameters
    ----------
    oid
        The type's OID.
    modifier
        The type's modifier, which has the precision and scale of a numeric.
    query
        Runs statements.
    """
    if oid == NUMERIC and modifier >= 4:
        precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0xFFFF
        if scale == 0 and precision <= MOST_DIGITS:
            return Type("numeric", ">i8", INTEGER, output="{}::int8")
    if oid in KEYS:
        return KEYS[oid]
    (result,) = query(
        f"SELECT format_type(oid, NULL), typtype = 'e' OR typname = 'citext' "
        f"AND pg_type_is_visible(oid), typtype = 'e' FROM pg_type WHERE oid = {oid}"
    )
    # citext counts only if its schema is in the search path; it is compared as text otherwise.
    if len(result) and result.value(0, 1) == b"t":
        is_enum = result.value(0, 2) == b"t"
        name = text(result.value(0, 0))
        return Type(name, TEXT, TEXT, output="{}::text", is_loose=not is_enum)
    return None


def cast_of(oid: int, kind: str, query: Query) -> tuple[str, bool]:
    """Return an expression that makes a key of a column ``{}``, and whether it can be indexed.

    Parameters
    ----------
    oid, kind
        The type's OID and name.
    query
        Runs statements.
    """
    if kind in CASTS:
        return CASTS[kind], True
    (result,) = query(
        f"SELECT p.provolatile = 'i' FROM pg_type t JOIN pg_proc p ON p.oid = t.typoutput "
        f"WHERE t.oid = {oid}"
    )
    return "{}::text", len(result) > 0 and result.value(0, 0) == b"t"

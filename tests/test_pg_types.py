"""Every kind of column of PostgreSQL's documentation, chapter 8, as a label.

It is delivered, or refused with a query that casts it; the tests run the query.
"""

from __future__ import annotations

import ast
import warnings
from typing import Any

import psycopg2
import pytest

from fastloader import FastLoader, SourceError

from .servers.postgres import Database
from .support import jpeg

OPTIONS = {"size": (8, 8), "batch_size": 4, "workers": 0}

UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"

DELIVERED: dict[str, tuple[str, Any]] = {
    # 8.1 numeric
    "int2": ("-5", -5),
    "int4": ("-5", -5),
    "int8": ("-5", -5),
    "smallserial": ("1", 1),
    "serial": ("1", 1),
    "bigserial": ("1", 1),
    "float4": ("0.5", 0.5),
    "float8": ("0.1", 0.1),
    "float(20)": ("0.5", 0.5),
    # 8.3 character
    "text": ("é", "é"),
    "varchar(5)": ("é", "é"),
    "char(3)": ("a", "a  "),
    "bpchar": ("a ", "a "),
    "name": ("a", "a"),
    # 8.4 binary
    "bytea": ("\\x0102", [1, 2]),
    # 8.5 date and time
    "date": ("1970-01-02", 86_400_000_000),
    "timestamp": ("1970-01-01 00:00:01", 1_000_000),
    "timestamptz": ("1970-01-01 01:00:01+01", 1_000_000),
    "timestamp(0)": ("1970-01-01 00:00:01.2", 1_000_000),
    # 8.6 boolean, 8.7 enumerated, 8.12 UUID, 8.13 XML, 8.14 JSON
    "boolean": ("yes", True),
    "mood": ("happy", "happy"),
    "uuid": (UUID, UUID),
    "xml": ("<a>é</a>", "<a>é</a>"),
    "json": ('{"a" : 1}', '{"a" : 1}'),
    "jsonb": ('{"a" : 1}', '{"a": 1}'),
    # 8.15 arrays
    "int4[]": ("{1,2}", [1, 2]),
    "float8[][]": ("{{1,2},{3,4}}", [[1, 2], [3, 4]]),
    "bool[2]": ("{t,f}", [True, False]),
    # 8.18 domains, 8.19 object identifiers
    "positive": ("5", 5),
    "more_positive": ("5", 5),
    "embedding": ("{1,2}", [1, 2]),
    "feeling": ("sad", "sad"),
    "oid": ("4294967295", 2**32 - 1),
}

CAST: dict[str, tuple[str, Any]] = {
    # 8.1 numeric, 8.2 monetary
    "numeric": ("1.5", 1.5),
    "numeric(10,2)": ("1.5", 1.5),
    "numeric[]": ("{1,2}", [1.0, 2.0]),
    "money": ("$2.50", 2.5),
    # 8.3 character
    '"char"': ("a", "a"),
    # 8.5 date and time
    "time": ("00:01:00.5", 60.5),
    "timetz": ("00:01:00+00", 60.0),
    "interval": ("1 minute", 60.0),
    "interval year to month": ("1 month", 30 * 86_400.0),
    # 8.8 geometric
    "point": ("(1,2)", [1.0, 2.0]),
    "line": ("{1,2,3}", "{1,2,3}"),
    "lseg": ("[(1,2),(3,4)]", "[(1,2),(3,4)]"),
    "box": ("(3,4),(1,2)", "(3,4),(1,2)"),
    "path": ("[(1,2),(3,4)]", "[(1,2),(3,4)]"),
    "polygon": ("((1,2),(3,4))", "((1,2),(3,4))"),
    "circle": ("<(1,2),3>", "<(1,2),3>"),
    # 8.9 network addresses
    "inet": ("10.0.0.1", "10.0.0.1/32"),
    "cidr": ("10.0.0.0/8", "10.0.0.0/8"),
    "macaddr": ("08:00:2b:01:02:03", "08:00:2b:01:02:03"),
    "macaddr8": ("08:00:2b:01:02:03:04:05", "08:00:2b:01:02:03:04:05"),
    # 8.10 bit strings
    "bit(4)": ("0101", 5),
    "bit(64)": ("0" * 62 + "11", 3),
    "bit(65)": ("0" * 64 + "1", "0" * 64 + "1"),
    "bit varying(5)": ("101", "101"),
    # 8.11 text search
    "tsvector": ("a b", "'a' 'b'"),
    "tsquery": ("a & b", "'a' & 'b'"),
    # 8.14.7 jsonpath, 8.15 arrays
    "jsonpath": ("$.a", '$."a"'),
    "text[]": ("{a}", "{a}"),
    "date[]": ("{2000-01-01}", "{2000-01-01}"),
    "positive[]": ("{1,2}", "{1,2}"),
    # 8.16 composite, 8.17 ranges
    "pair": ("(1,a)", "(1,a)"),
    "int4range": ("[1,3)", "[1,3)"),
    "tsrange": ("[2000-01-01,2000-01-02)", '["2000-01-01 00:00:00","2000-01-02 00:00:00")'),
    "int4multirange": ("{[1,3)}", "{[1,3)}"),
    "span": ("[1,2)", "[1,2)"),
    # 8.18 domains over them, 8.19 object identifiers, 8.20 pg_lsn
    "price": ("1.50", 1.5),
    "regclass": ("pg_class", "pg_class"),
    "regtype": ("integer", "integer"),
    "xid": ("5", "5"),
    "xid8": ("5", "5"),
    "tid": ("(1,2)", "(1,2)"),
    "pg_lsn": ("0/10", "0/10"),
    "pg_snapshot": ("10:20:", "10:20:"),
}

MADE = """
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE DOMAIN positive AS int4 CHECK (VALUE > 0);
CREATE DOMAIN more_positive AS positive CHECK (VALUE > 1);
CREATE DOMAIN embedding AS float4[];
CREATE DOMAIN feeling AS mood;
CREATE DOMAIN price AS numeric(10, 2);
CREATE TYPE pair AS (a int4, b text);
CREATE TYPE span AS RANGE (subtype = float4);
"""


def table_of(database: Database, kinds: dict[str, tuple[str, Any]], version: int) -> dict[str, str]:
    """Create a table with a column of each kind, and return the kinds by column."""
    if version < 14:
        kinds = {kind: its for kind, its in kinds.items() if "multirange" not in kind}
    try:
        database.execute("SELECT '<a/>'::xml")
    except psycopg2.errors.FeatureNotSupported:
        kinds = {kind: its for kind, its in kinds.items() if kind != "xml"}
    database.execute(MADE)
    names = {f"the {kind}": kind for kind in kinds}
    columns = ", ".join(f'"{name.replace(chr(34), chr(34) * 2)}" {kind}'
                        for name, kind in names.items())  # fmt: skip
    row = (1, jpeg(), *(kinds[kind][0] for kind in names.values()))
    database.table([row], columns=f"id int4 PRIMARY KEY, image_data bytea, {columns}")
    return names


def test_every_kind_of_column_is_a_label_or_becomes_one_by_the_advice(database: Database) -> None:
    kinds = {**DELIVERED, **CAST}
    for name, kind in table_of(database, kinds, database.cluster.version).items():
        url, query, table = database.url(), None, "images"
        if kind in CAST:
            with pytest.raises(
                SourceError, match="it cannot be a label. Cast it: query="
            ) as caught:
                FastLoader(url, label=name, **OPTIONS)
            query, table = ast.literal_eval(str(caught.value).split("query=")[1]), None
        with FastLoader(url, table=table, query=query, label=name, **OPTIONS) as loader:
            ((_, labels),) = loader
            assert labels.tolist() == [kinds[kind][1]], kind


@pytest.mark.parametrize(
    ("kind", "value", "delivered"),
    [("citext", "Aé", "Aé"), ("hstore", "a=>1", '"a"=>"1"'), ("ltree", "a.b", "a.b"),
     ("cube", "(1,2)", "(1, 2)")],
)  # fmt: skip
def test_types_of_extensions_are_labels_or_become_them_by_the_advice(
    database: Database, kind: str, value: str, delivered: Any
) -> None:
    if not database.execute("SELECT 1 FROM pg_available_extensions WHERE name = %s", (kind,)):
        pytest.skip(f"this server has no {kind}")
    database.execute(f"CREATE SCHEMA ext; CREATE EXTENSION {kind} SCHEMA ext")
    columns = f"id int4 PRIMARY KEY, image_data bytea, v ext.{kind}"
    assert label_of(database.table([(1, jpeg(), value)], columns=columns)) == delivered


@pytest.mark.parametrize(
    ("kind", "value", "delivered"),
    [
        ("vector", "[1,2]", [1.0, 2.0]),
        ("halfvec", "[1,2]", [1.0, 2.0]),
        ("sparsevec", "{1:1,3:2}/3", [1.0, 0.0, 2.0]),
    ],
)
def test_types_of_pgvector_are_labels_or_become_them_by_the_advice(
    database: Database, kind: str, value: str, delivered: Any
) -> None:
    if not database.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("this server has no pgvector")
    database.execute("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext")
    columns = f"id int4 PRIMARY KEY, image_data bytea, v ext.{kind}"
    assert label_of(database.table([(1, jpeg(), value)], columns=columns)) == delivered


def label_of(url: str) -> Any:
    """Return the label of the only row, cast as the error says if there is one."""
    how: dict[str, Any] = {"table": "images"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            try:
                with FastLoader(url, label="v", **how, **OPTIONS) as loader:
                    ((_, labels),) = loader
                    return labels.tolist()[0]
            except SourceError as error:
                how = {"query": ast.literal_eval(str(error).split("query=")[1])}
    return None

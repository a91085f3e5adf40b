"""Keys of PostgreSQL's other types: read as they are, through their index, or what else to do."""

from __future__ import annotations

import ast
import contextlib
import re

import numpy as np
import pytest

from fastloader import FastLoader, PlanError, SourceError
from fastloader.options.config import make_config
from fastloader.source.postgres.source import PostgresSource

from .servers.postgres import Database
from .support import all_keys, jpeg, unpacked
from .tiers import few

OPTIONS = {"size": (8, 8), "batch_size": 3, "with_keys": True, "fetch_bytes": 1}

TYPES = {
    # type: values in their order, as the database takes them; the keys, where they are others
    "oid": (["1", "2147483648", "4294967295"], [1, 2**31, 2**32 - 1]),
    "numeric(18,0)": (["-999999999999999999", "0", "999999999999999999"],
                      [-(10**18) + 1, 0, 10**18 - 1]),
    "numeric(38,0)": (["-1", "12345678901234567890123"], None),
    "numeric": (["-1.50", "0", "1e-20", "1.000", "2.5", "NaN"],
                ["-1.50", "0", "0.00000000000000000001", "1.000", "2.5", "NaN"]),
    "float4": (["-1.5", "0.1", "1e+20", "Infinity", "NaN"], None),
    "float8": (["-Infinity", "0.1", "0.30000000000000004", "1e+300"], None),
    "char(3)": (["a  ", "ab ", "abc"], None),
    "bpchar": (["a", "ab"], None),
    "name": (["a", "a'b", 'a"b', "a\\b"], None),
    "citext": (["A", "b", "B c", "ä", "É"], None),
    "mood": (["happy", "So so", "sad, it's"], None),
    "date": (["4714-11-24 BC", "0044-03-15 BC", "2024-02-29", "12000-01-01", "infinity"], None),
    "timestamp": (["-infinity", "0001-01-01 00:00:00", "2024-02-29 12:00:00.000001"], None),
    "bytea": (["\\x", "\\x00", "\\x00ff", "\\xff5c27"], None),
}  # fmt: skip


def prepared(database: Database, kind: str, values: list[str]) -> str:
    """Create a table with these keys, in another order, and labels that are their numbers."""
    database.execute("CREATE EXTENSION IF NOT EXISTS citext")
    database.execute("CREATE SCHEMA IF NOT EXISTS s")
    database.execute("CREATE TYPE mood AS ENUM ('happy', 'So so', 'sad, it''s')")
    rows = [(value, jpeg(seed=n % 3), n) for n, value in enumerate(values)]
    np.random.default_rng(1).shuffle(rows)  # type: ignore[arg-type]
    columns = f"id {kind} PRIMARY KEY, image_data bytea, label int8"
    return database.table(rows, columns=columns)


@few(4)
@pytest.mark.parametrize("consistency", ["snapshot", "latest"])
@pytest.mark.parametrize("kind", TYPES)
def test_keys_of_other_types_come_once_and_in_their_order(
    database: Database, kind: str, consistency: str
) -> None:
    values, keys = TYPES[kind]
    if kind == "citext" and not has_citext(database):
        pytest.skip("this server has no citext")
    url = prepared(database, kind, values)
    # What a role or a database may have set, which our text must not depend on.
    for setting in ("datestyle = 'German, DMY'", "extra_float_digits = 0", "bytea_output = escape"):
        database.execute(f"ALTER DATABASE {database.name} SET {setting}")
    options = {**OPTIONS, "consistency": consistency, "shuffle": True, "batch_size": 2}
    with FastLoader(url, workers=1, **options) as loader:  # warns if no index serves
        found = [
            row for *_, a, b in unpacked(loader) for row in zip(b.tolist(), a.tolist(), strict=True)
        ]
        assert sorted(found, key=lambda row: row[1]) == [
            (key, n) for n, key in enumerate(keys or values)
        ]
    source = PostgresSource(make_config({"url": url}, {}), None, who="test")
    with contextlib.closing(source):
        all_keys(source)
        lines = source.explain([(key, key) for key in (keys or values)])[1]
    assert "fl.lo" in lines[lines.index("Index Cond") :]


def has_citext(database: Database) -> bool:
    found = database.execute("SELECT name FROM pg_available_extensions WHERE name = 'citext'")
    return bool(found)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        ("numeric", "1.0", "1.00"),
        ("float8", "0", "-0"),
        ("citext", "a", "A"),
        ("bpchar", "a", "a "),
    ],
)
def test_keys_that_are_equal_in_their_type_only_are_refused(
    database: Database, kind: str, one: str, other: str
) -> None:
    if kind == "citext" and not has_citext(database):
        pytest.skip("this server has no citext")
    url = prepared(database, kind, [])
    database.execute("ALTER TABLE images DROP CONSTRAINT images_pkey")
    for value in (one, other):
        database.execute("INSERT INTO images VALUES (%s, %s, 0)", (value, jpeg()))
    with pytest.raises(PlanError, match=f"'({one}|{other})' and '({one}|{other})' are equal"):
        FastLoader(url, workers=0, **OPTIONS)


# ---- others --------------------------------------------------------------------------------------

CASTS = {
    "timestamptz": (["2024-02-29 12:00:00+00", "2024-02-29 15:00:00+01"], True),
    "interval": (["1 day", "1 month"], True),
    "bool": (["false", "true"], True),
    "inet": (["10.0.0.1", "10.0.0.2"], True),
    "bit(4)": (["0001", "1000"], True),
    "jsonb": (['{"a": 1}', '{"a": 2}'], True),
    "s.citext": (["a", "B"], True),
    "int4[]": (["{1,2}", "{3}"], False),
    "money": (["$1.00", "$2.00"], False),
}


@pytest.mark.parametrize("kind", CASTS)
def test_another_type_is_refused_with_a_query_and_an_index_that_serve(
    database: Database, kind: str
) -> None:
    values, can_be_indexed = CASTS[kind]
    if "citext" in kind:
        if not has_citext(database):
            pytest.skip("this server has no citext")
        database.execute("CREATE SCHEMA s; CREATE EXTENSION citext SCHEMA s")
    columns = f'"The key" {kind}, image_data bytea, label int4'
    url = database.table([(value, jpeg(), n) for n, value in enumerate(values)], columns=columns)
    with pytest.raises(SourceError, match="cannot be a key") as caught:
        FastLoader(url, key="The key", workers=0, **OPTIONS)
    said = str(caught.value)
    query = re.search(r"query=(.*)\. (?:Index|No) ", said)
    assert query is not None
    options = {**OPTIONS, "key": "The key", "query": ast.literal_eval(query[1]), "workers": 0}
    options["with_keys"] = False
    index = re.search("CREATE UNIQUE INDEX.*", said)
    assert (index is not None) == can_be_indexed
    if index is None:
        assert "No index serves this cast" in said
        with pytest.warns(match="no index serves"):
            FastLoader(url, **options).close()
        return
    database.execute(index[0])
    with FastLoader(url, **options) as loader:  # warns if the index does not serve
        assert sorted(n for _, labels in loader for n in labels.tolist()) == [0, 1]

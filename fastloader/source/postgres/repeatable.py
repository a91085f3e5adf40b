"""Whether a query returns the same rows each time it runs.

Each key range is read by a query of its own, so the rows must not depend on chance, nor on an order
that the query leaves open.
"""

from __future__ import annotations

import json

from ...errors import SourceError
from .explain import calls, may_differ, takes_new_samples
from .literals import array_literal
from .table import PostgresTable
from .types import Query, text

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
"""Returns those of the given functions that are volatile. A plan does not say which of several
functions with one name it calls. PostgreSQL's own counts; if there is none, all must be volatile.
"""

HARMLESS = {"lo_get", "pg_read_binary_file", "pg_read_file", "pg_sleep"}
"""Functions that are declared volatile although they do not return random values."""


def check_repeatable(table: PostgresTable, query: Query) -> bool:
    """Return whether the rows may differ when they are read again.

    Raises
    ------
    SourceError
        If they certainly do, because of a volatile function or a random sample.
    """
    (result,) = query(f"EXPLAIN (VERBOSE, FORMAT JSON) {table.plain_sql}", table.params)
    plan = json.loads(result.value(0, 0) or b"[]")
    if takes_new_samples(plan):
        raise SourceError(
            f"{table.name}: TABLESAMPLE takes other rows each time the query is read, and it is "
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
            else f"If it always returns the same value for the same row, tell PostgreSQL so: "
            f"ALTER FUNCTION {function} STABLE"
        )
        raise SourceError(
            f"{table.name}: {function} is volatile, so the query may return other rows each time "
            f"it is read, and it is read for each key range. {remedy}"
        )
    return may_differ(plan)

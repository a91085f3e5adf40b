"""What PostgreSQL's plan for a query tells about the query.

Plans come from EXPLAIN (VERBOSE, FORMAT JSON). The functions here are pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_IDENTIFIER = r'(?:"(?:""|[^"])+"|[a-z_][a-z0-9_]*)'
_TOKEN = re.compile(
    rf"""'(?:''|[^'])*'
      |(?<![\w"$])(?:(?P<schema>{_IDENTIFIER})\.)?(?P<name>{_IDENTIFIER})\(
      |"(?:""|[^"])+"|\w+""",
    re.VERBOSE,
)
"""A string, a call, or another word. EXPLAIN quotes names that are not in lower case. SQL's own
constructs, such as COALESCE(, are in upper case."""

ORDERED = {"Limit", "WindowAgg", "Unique"}
"""Nodes whose rows depend on the order of the rows below them, which a query may leave open."""


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """Yield all nodes of a plan."""
    if isinstance(plan, dict):
        yield plan
    for child in plan.values() if isinstance(plan, dict) else plan:
        if isinstance(child, (dict, list)):
            yield from nodes(child)


def uses_index(plan: Any) -> list[bool]:
    """Return, for each table in a plan of ``rows_sql()``, whether an index finds a key range in it.

    A table that is joined to the one with the key has no condition on key ranges.
    """
    return [
        "fl.lo" in f"{node.get('Index Cond')} {node.get('Recheck Cond')}"
        for node in nodes(plan)
        if "Relation Name" in node
    ]


def begins_anywhere(plan: Any) -> bool:
    """Return whether a plan of ``rows_sql()`` finds the first row of any key range at once.

    It does not if other tables have to be read, or if rows before it decide what the row is.
    """
    found = uses_index(plan)
    return bool(found) and all(found) and not may_differ(plan)


def calls(plan: Any) -> set[tuple[str, str]]:
    """Return schema and name of all functions that a plan calls.

    Views are resolved. The schema is "" if the search path finds the function. Some of the names
    may belong to no function.
    """
    found = set()
    for words in _strings(plan):
        for token in _TOKEN.finditer(words):
            if token["name"] is not None:
                found.add((_unquoted(token["schema"] or ""), _unquoted(token["name"])))
    return found


def takes_new_samples(plan: Any) -> bool:
    """Return whether the plan has a TABLESAMPLE without REPEATABLE."""
    return any(
        node.get("Node Type") == "Sample Scan" and "Repeatable Seed" not in node
        for node in nodes(plan)
    )


def may_differ(plan: Any) -> bool:
    """Return whether the query may return other rows when it runs again.

    It may, even without volatile functions, where the order of rows matters or where another server
    answers.
    """
    return any(node.get("Node Type") in ORDERED | {"Foreign Scan"} for node in nodes(plan))


def _strings(plan: Any) -> Iterator[str]:
    for node in nodes(plan):
        for value in node.values():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, str):
                    yield item


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name

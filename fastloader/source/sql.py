"""Pieces of SQL text that every database understands."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TOKEN = re.compile(
    r"""(?P<nothing>\s+|--[^\n]*|/\*.*?\*/|;)
      |[eE]'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|"(?:""|[^"])*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
      |\w+|.""",
    re.DOTALL | re.VERBOSE,
)


def identifier(*names: str) -> str:
    """Return a quoted name, with dots between its parts: ``"schema"."table"``."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def row(columns: Sequence[str]) -> str:
    """Return a row of SQL expressions, or the expression if there is one."""
    return columns[0] if len(columns) == 1 else f"({', '.join(columns)})"


def as_subquery(query: str) -> str:
    """Return the query in parentheses.

    Semicolons and comments at its end are left out, because they would hide the closing
    parenthesis.
    """
    end = 0
    for token in _TOKEN.finditer(query):
        if token["nothing"] is None:
            end = token.end()
    return f"({query[:end]})"

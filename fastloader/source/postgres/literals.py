"""Values as PostgreSQL string constants.

Keys and names go into the statements, because several of them go to the server at once, through
libpq's simple query protocol, which has no parameters. The values of ``params`` never do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence


def literal(value: str) -> str:
    """Return a string constant that is the same whatever ``standard_conforming_strings`` is."""
    quoted = value.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in value else f"'{quoted}'"


def array_literal(values: Sequence[int | str]) -> str:
    """Return a string constant that can be cast to an array of these values."""
    items = (
        str(value) if isinstance(value, int) else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
        for value in values
    )
    return literal("{" + ",".join(items) + "}")

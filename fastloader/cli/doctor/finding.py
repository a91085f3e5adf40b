"""What a check of ``fastloader doctor`` has found."""

from __future__ import annotations

from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """One line of the report.

    Attributes
    ----------
    what
        The thing that was checked, in one or two words.
    status
        OK, WARN or FAIL.
    words
        The result, and what to do about it.
    """

    what: str
    status: str
    words: str

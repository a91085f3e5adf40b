"""Which tests run in which tier.

``make test`` runs some cases of each kind of test. ``.ci/run`` adds the tests that are marked
``full``, and a case with another PostgreSQL. ``make test-full`` runs everything. The markers come
from here:

* ``@full`` marks a single test, or a file by ``pytestmark = full``.
* A parametrized test that makes files or needs a server starts processes, and these take most of
  the time. Of its cases, one is in ``make test``, or in ``.ci/run`` if the test is ``full``; and if
  there are several servers, one with another server is in ``.ci/run``. The rest are marked
  ``every``, which only ``make test-full`` runs. Which ones is a hash of their names, so that
  together the tests go through all databases and numbers of workers.
* ``@few(3)`` takes three in place of one. Of a test without processes it leaves three in
  ``make test``, and makes the rest ``full``. ``@few(1, first="README")`` prefers the cases that
  have this in their name.
* ``needs_data`` (support.py) marks what reads the large corpora.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import pytest

full = pytest.mark.full
few = pytest.mark.few

PROCESSES = {"tmp_path", "tmp_path_factory", "servers"}
"""Fixtures that a test has, maybe by way of others, if it makes files or needs a server."""


def mark_tiers(items: Iterable[pytest.Item]) -> None:
    """Add the markers ``full`` and ``every`` to the cases that a tier leaves out."""
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        tests.setdefault(item.nodeid.split("[")[0], []).append(item)
    for cases in tests.values():
        marker = cases[0].get_closest_marker("few")
        starts_processes = PROCESSES.intersection(getattr(cases[0], "fixturenames", ()))
        if len(cases) == 1 or not (marker or starts_processes):
            continue
        count = marker.args[0] if marker else 1
        first = marker.kwargs.get("first", "") if marker else ""
        cases.sort(key=_hash)
        cases.sort(key=lambda case: _is_other_server(case) or first not in case.nodeid)
        cases[count:] = sorted(cases[count:], key=_hash)
        others = [case for case in cases[count:] if _is_other_server(case)][:count]
        for case in cases[count:]:
            case.add_marker("full")
            if starts_processes and case not in others:
                case.add_marker("every")


def _is_other_server(case: pytest.Item) -> bool:
    """Return whether the case needs another PostgreSQL than the first, which always is there."""
    return "postgres-2" in case.nodeid


def _hash(case: pytest.Item) -> int:
    return zlib.crc32(case.nodeid.encode())

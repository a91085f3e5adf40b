"""Which tests run in which tier.

``make test`` runs a few cases of each kind of test; ``make test-full`` runs all of them. What only
the full tier runs has the marker ``full``. It comes from here:

* ``@full`` marks a single test, or a file by ``pytestmark = full``.
* ``@few(2)`` marks all cases of a parametrized test but two, which are spread over the list.
* ``needs_data`` (support.py) marks what reads the large corpora.
* ``all_servers`` (servers/postgres.py) marks all PostgreSQL servers but the first.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

full = pytest.mark.full
few = pytest.mark.few


def mark_all_but_few(items: Iterable[pytest.Item]) -> None:
    """Add the marker ``full`` to the cases that ``@few`` leaves out of ``make test``.

    The first and the last case are among those that stay, because stacked parameters differ in all
    of their values there. If only one stays it is the last, which has the larger numbers.
    """
    tests: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("few") and not item.get_closest_marker("full"):
            tests.setdefault(item.nodeid.split("[")[0], []).append(item)
    for cases in tests.values():
        (count,) = next(cases[0].iter_markers("few")).args
        last = len(cases) - 1
        stay = {round(i * last / (count - 1)) for i in range(count)} if count > 1 else {last}
        for number, case in enumerate(cases):
            if number not in stay:
                case.add_marker("full")

"""Fixtures: a small table, and the promise that a test leaves no worker behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import simple_rows, table, wait_until, worker_processes


@pytest.fixture
def small(tmp_path: Path) -> str:
    """100 rows with keys 3, 6, ..., 300 and labels 0, 10, ..., 990."""
    return table(tmp_path / "small.db", simple_rows(100, gap=3))


@pytest.fixture(autouse=True)
def no_worker_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not worker_processes(), timeout_s=5)

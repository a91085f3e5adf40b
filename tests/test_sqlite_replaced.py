"""A loader reads one database file. Another file in its place is an error, never other rows."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader, SourceError
from fastloader.source.sqlite.file import check_identity, identity_of

from .support import simple_rows, table, wait_until, worker_processes

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 10, "slots": 2}
REPLACED = "the file was replaced by another one.*Make a new loader"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return table(tmp_path / "t.db", simple_rows(200))


@pytest.fixture
def other(tmp_path: Path) -> str:
    """Return a table with the same keys, other labels, and a type of its own."""
    rows = [(key, blob, label + 0.5) for key, blob, label in simple_rows(200)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label REAL"
    return table(tmp_path / "other.db", rows, columns=columns)


def rename(other: str, path: str) -> None:
    os.rename(other, path)


def delete_and_copy(other: str, path: str) -> None:
    """Replace the file; the new one may get the inode of the old one, if nothing holds that."""
    os.remove(path)
    shutil.copy(other, path)


REPLACE = pytest.mark.parametrize("replace", [rename, delete_and_copy])


@REPLACE
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_before_the_first_batch(path: str, other: str, workers: int, replace: Any) -> None:
    with FastLoader(path, workers=workers, **OPTIONS) as loader:
        replace(other, path)
        with pytest.raises(SourceError, match=REPLACED):
            list(loader)


@REPLACE
def test_a_worker_that_is_replaced_never_reads_the_new_file(
    path: str, other: str, replace: Any
) -> None:
    with FastLoader(path, workers=1, **OPTIONS) as loader:
        batches = iter(loader)
        labels = [*next(batches)[1]]
        replace(other, path)
        (worker,) = worker_processes()
        worker.send_signal(signal.SIGKILL)
        with pytest.raises(SourceError, match=REPLACED):
            labels += [label for _, more in batches for label in more]
        assert labels == [*range(0, 10 * len(labels), 10)]


def test_workers_that_go_on_read_the_old_file_to_its_end(path: str, other: str) -> None:
    with FastLoader(path, workers=2, cache="ram", **OPTIONS) as loader:
        list(loader)
        os.rename(other, path)
        for _ in range(2):
            labels = [label for _, more in loader for label in more.tolist()]
            assert labels == [*range(0, 2000, 10)]


def test_the_file_that_was_read_is_let_go_in_the_end(path: str) -> None:
    def held() -> list[str]:
        links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
        return [link for link in links if os.path.exists(link) and os.path.samefile(link, path)]

    with FastLoader(path, workers=1, **OPTIONS):
        assert len(held()) == 1
    wait_until(lambda: not held())


def test_a_copy_that_another_machine_has_is_not_compared(path: str) -> None:
    ours = identity_of(path)
    check_identity(path, ours, ours)
    check_identity(path, ours, "another-machine:1 2:3")
    observer = ours.split(" ")[0]
    with pytest.raises(SourceError, match=REPLACED):
        check_identity(path, ours, f"{observer} 2:3")

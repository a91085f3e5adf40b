"""A shrink that is killed at any moment and run again makes the same table, byte for byte."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastloader import cli

from .small_tables import make_table, rows_of, run_sql
from .support import jpeg
from .test_cli_shrink import Pair, pair
from .tiers import few

__all__ = ["pair"]

ROWS = 120

SMALL_BATCHES = """
import sys, time
from fastloader.cli import main
from fastloader.cli.shrink import run
from fastloader.cli.shrink.target import SmallTable
run.BATCH_ROWS = 3
add = SmallTable.add
SmallTable.add = lambda *rows: (add(*rows), time.sleep(0.01))  # time to be killed
sys.exit(main(["shrink", *sys.argv[1:]]))
"""


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-c", SMALL_BATCHES, *map(str, arguments)]


def count(url: str, table: str = "images") -> int:
    try:
        return int(run_sql(url, f'SELECT count(*) FROM "{table}"')[0][0])
    except Exception:  # no table yet, or no file
        return 0


@few(1)
@pytest.mark.parametrize("where", ["same", "other"])
def test_a_killed_run_is_resumed_and_makes_the_same_table(
    pair: Pair, tmp_path: Path, where: str
) -> None:
    """In the same database, where the killed writer may leave a journal to its reader, or not."""
    rng = random.Random(where)
    blobs = [jpeg(rng.randrange(50, 200), rng.randrange(50, 200), seed=i) for i in range(ROWS)]
    blobs[7], blobs[60] = b"no image", blobs[60][:500]
    rows = [(i * i, i, blob, f"n{i}") for i, blob in enumerate(blobs)]
    make_table(pair.source, pair.columns, rows)
    whole = str(tmp_path / "whole.db")
    assert cli.main(["shrink", pair.source, "--to", whole, "--side", "40"]) == 1
    expected = rows_of(whole, "images")
    assert len(expected) == ROWS - 2
    url, table = (pair.source, "images_40") if where == "same" else (pair.target, "images")
    arguments = [pair.source, "--side", 40]
    arguments += ["--to", pair.target] if where == "other" else []
    kills = 0
    while kills < 5:
        before = count(url, table)
        with subprocess.Popen(
            command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            # At a random moment after it has stored something, or while it starts.
            wanted = rng.choice([0, before + 1, before + rng.randrange(1, 15)])
            deadline = time.monotonic() + 60
            while process.poll() is None and count(url, table) < wanted:
                assert time.monotonic() < deadline
            time.sleep(rng.random() * (0.02 if wanted else 0.3))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        there = rows_of(url, table) if count(url, table) else []
        assert there == [row for row in expected if row in there], "only whole rows are there"
        if process.returncode == 1:  # done, with two bad rows
            break
    assert kills >= 2
    done = subprocess.run(command(*arguments), check=False, timeout=100, stdout=subprocess.DEVNULL)
    assert done.returncode == 1
    assert rows_of(url, table) == expected


def test_ctrl_c_ends_it_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    target = str(tmp_path / "b.db")
    rows = [(i, jpeg(900, 700, seed=i % 3)) for i in range(150)]
    make_table(path, "id INTEGER PRIMARY KEY, image_data BLOB", rows)
    with subprocess.Popen(
        command(path, "--to", target), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while count(target) < 3:
            assert process.poll() is None
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "fastloader shrink: interrupted\n")
    done = count(target)
    assert 3 <= done < 150
    assert subprocess.run(command(path, "--to", target), check=False, timeout=100).returncode == 0
    assert count(target) == 150


def test_two_at_once_end_with_every_row_once(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    target = str(tmp_path / "b.db")
    make_table(path, "id INTEGER PRIMARY KEY, image_data BLOB", [(i, jpeg()) for i in range(90)])
    both = [
        subprocess.Popen(
            command(path, "--to", target), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        _, error = process.communicate(timeout=100)
        assert process.returncode == 0 or "another shrink" in error.lower() or "exists" in error
    subprocess.run(command(path, "--to", target), check=True, timeout=100)
    assert [row[0] for row in rows_of(target, "images")] == list(range(90))

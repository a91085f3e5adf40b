"""However a program ends, it leaves no process, descriptor, shared memory or file."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from fastloader import FastLoader, RowError

from .support import is_worker, open_files, simple_rows, table, wait_until
from .tiers import full

OPTIONS = {"size": (64, 64), "batch_size": 8, "workers": 2}

PROGRAM = """
import sys, time
from fastloader import FastLoader
loader = FastLoader(sys.argv[1], size=(64, 64), batch_size=8, workers=2)
iterator = iter(loader)
kept = [next(iterator) for _ in range(3)]
print("running", *(feeder.process.pid for feeder in loader.delivery.feeders), flush=True)
{end}
"""

ENDS = {
    "normal end": ("loader.close()", None, 0),
    "end without close": ("pass", None, 0),
    "exception": ("raise SystemExit(3)", None, 3),
    "Ctrl-C": ("time.sleep(30)", signal.SIGINT, -signal.SIGINT),
    "SIGTERM": ("time.sleep(30)", signal.SIGTERM, -signal.SIGTERM),
    "SIGKILL": ("time.sleep(30)", signal.SIGKILL, -signal.SIGKILL),
}


def shared_memory() -> set[str]:
    """Return what is in /dev/shm, except for the servers of other tests, which come and go."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("PostgreSQL.")}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_left_of_a_program(end: str, small: str, tmp_path: Path) -> None:
    code, sent, expected = ENDS[end]
    shm = shared_memory()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(end=code), small],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=temporary,
        env={**os.environ, "TMPDIR": str(temporary)},
        start_new_session=True,
    )
    assert program.stdout is not None
    word, *pids = program.stdout.readline().split()
    assert word == b"running"
    workers = [psutil.Process(int(pid)) for pid in pids] if sent else []
    if sent is signal.SIGINT:
        os.killpg(program.pid, sent)  # as a terminal does: the workers get it too
        time.sleep(0.1)
    elif sent:
        program.send_signal(sent)
    _, errors = program.communicate(timeout=60)
    assert program.returncode == expected, errors.decode()
    assert b"fastloader" not in errors.replace(b"KeyboardInterrupt", b""), errors.decode()
    wait_until(lambda: not any(is_worker(p) for p in workers if p.is_running()))
    wait_until(lambda: not [p for p in psutil.process_iter() if str(p.pid).encode() in pids])
    assert list(temporary.iterdir()) == []
    assert shared_memory() <= shm


@full
@pytest.mark.parametrize("workers", [0, 2])
def test_closing_gives_every_descriptor_back(small: str, workers: int) -> None:
    before, threads = open_files(), psutil.Process().num_threads()
    for _ in range(3):
        with FastLoader(small, **{**OPTIONS, "workers": workers}) as loader:
            list(loader)
            next(iter(loader))
    gc.collect()
    assert open_files() == before
    assert [thread.name for thread in threading.enumerate() if "fastloader" in thread.name] == []
    # Threads of frameworks that other tests have used may end meanwhile.
    wait_until(lambda: psutil.Process().num_threads() <= threads)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_cannot_be_made_gives_every_descriptor_back(
    tmp_path: Path, workers: int
) -> None:
    path = table(tmp_path / "t.db", simple_rows(3))
    before = open_files()
    for options in ({"table": "no"}, {"size": (60000, 60000)}, {"label": "no"}):
        with pytest.raises(Exception, match=r"no table|no column|MiB"):
            FastLoader(path, **{"workers": workers, **options})
    gc.collect()
    assert open_files() == before


def test_an_error_in_the_middle_leaves_nothing_after_close(tmp_path: Path) -> None:
    rows = simple_rows(40)
    rows[20] = (21, b"", 0)
    path = table(tmp_path / "t.db", rows)
    before = open_files()
    with FastLoader(path, **OPTIONS) as loader:
        for _ in range(3):
            with pytest.raises(RowError):
                list(loader)
    assert open_files() == before


THREE_TIMES = """
import gc, json, sys
import psutil
from fastloader import FastLoader

def after_some_epochs(loader):
    for _ in range(20):
        for _ in loader:
            pass
    gc.collect()
    processes = [psutil.Process(), *psutil.Process().children()]
    return [
        sum(p.memory_full_info().uss for p in processes),
        sum(p.num_fds() for p in processes),
        sum(p.num_threads() for p in processes),
    ]

with FastLoader(sys.argv[1], size=(64, 64), batch_size=8, workers=int(sys.argv[2])) as loader:
    print(json.dumps([after_some_epochs(loader) for _ in range(3)]))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_third_epoch_needs_no_more_than_the_second(small: str, workers: int) -> None:
    # In a process of its own: threads of other tests' frameworks take and free memory in this one.
    command = [sys.executable, "-c", THREE_TIMES, small, str(workers)]
    _, second, third = json.loads(subprocess.check_output(command, text=True, timeout=200))
    assert third[1:] == second[1:]
    assert third[0] - second[0] < 2 << 20

"""How a loader, the training process and the interpreter end."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastloader import FastLoader
from fastloader.transport import process

from .programs import PREAMBLE, run
from .servers.postgres import Database
from .servers.proxy import Proxy
from .support import jpeg, open_files, simple_rows, table, wait_until, worker_processes
from .tiers import full

either_way = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return table(tmp_path / "t.db", simple_rows(200))


@pytest.fixture
def slow(tmp_path: Path) -> str:
    """Rows that take tens of milliseconds each."""
    image = jpeg(2000, 1500)
    return table(tmp_path / "slow.db", [(key, image, key) for key in range(1, 41)])


# ---- of a loader ---------------------------------------------------------------------------------


@pytest.mark.parametrize("is_forked", [False, True])
def test_busy_workers_end_by_themselves_all_at_once(slow: str, is_forked: bool) -> None:
    """They do so even if a library has forked and the descriptors stay open in the fork."""
    loader = FastLoader(slow, workers=4, batch_size=10, size=(224, 224), max_restarts=0)
    iterator = iter(loader)
    fork = 0
    if is_forked:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fastloader.system.descriptors._owned", {})
            fork = os.fork()
        if fork == 0:
            time.sleep(60)
            os._exit(0)
    try:
        processes = [feeder.process for feeder in loader.delivery.feeders]
        assert next(iterator)
        loader.close()
        assert [process.how for process in processes] == ["ended with exit code 0"] * 4
    finally:
        if fork:
            os.kill(fork, signal.SIGKILL)
            os.waitpid(fork, 0)


def test_one_time_limit_holds_for_all_workers(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    wait = process._wait

    def noted(processes: Any, timeout_s: float) -> bool:
        if timeout_s == process.CLOSE_TIMEOUT_S and processes:
            waits.append(timeout_s)
        return wait(processes, timeout_s)

    loader = FastLoader(path, workers=5, batch_size=4, size=(8, 8))
    next(iter(loader))
    for worker in worker_processes():
        worker.suspend()  # so none of them can end by itself
    monkeypatch.setattr("fastloader.transport.process._wait", noted)
    processes = [feeder.process for feeder in loader.delivery.feeders]
    loader.close()
    assert waits == [process.CLOSE_TIMEOUT_S]
    assert [process.how for process in processes] == ["was killed by SIGKILL"] * 5


def test_a_process_that_cannot_be_killed_is_left_to_itself(
    path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands for a process that waits for a dead disk: here nobody kills it."""
    loader = FastLoader(path, workers=1, batch_size=4, size=(8, 8))
    next(iter(loader))
    (worker,) = worker_processes()
    worker.suspend()
    before = open_files()
    with monkeypatch.context() as patch:
        patch.setattr("os.kill", lambda *_: None)
        patch.setattr("fastloader.transport.process.KILL_TIMEOUT_S", 0.2)
        loader.close()
    assert f"processes [{worker.pid}] were killed 0.2 s ago and have not ended" in caplog.text
    assert len(open_files()) < len(before)
    worker.kill()
    loader.close()
    assert not psutil.pid_exists(worker.pid)


@full
@either_way
def test_many_loaders_can_be_made_and_closed(path: str, workers: int) -> None:
    before, others = open_files(), psutil.Process().children()
    for _ in range(200 if workers == 0 else 20):
        with FastLoader(path, workers=workers, batch_size=50, size=(8, 8)) as loader:
            next(iter(loader))
    assert open_files() == before
    assert psutil.Process().children() == others


# ---- of the training process ---------------------------------------------------------------------


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_of_a_silent_server_do_not_outlive_their_parent(
    database: Database, sent: signal.Signals
) -> None:
    """Neither does the process that holds the snapshot."""
    database.table([(key, jpeg(200, 150), key) for key in range(1, 400)])
    with Proxy(database.cluster.port) as proxy:
        url = database.url(host="127.0.0.1", port=proxy.port)
        script = """
options = {"batch_size": 4, "slots": 2, "fetch_bytes": 1000, "stall_timeout_s": 60}
loader = make(**options)
iterator = iter(loader)
next(iterator)
import psutil
print(*(process.pid for process in psutil.Process().children()), flush=True)
for _ in iterator:
    pass
"""
        program = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + script, url, "2"],
            stdout=subprocess.PIPE,
        )
        assert program.stdout is not None
        pids = [*map(int, program.stdout.readline().split())]
        assert len(pids) == 3
        proxy.stall()
        time.sleep(0.5)  # until all of them wait for it
        program.send_signal(sent)
        program.communicate(timeout=60)
        wait_until(lambda: not any(map(psutil.pid_exists, pids)))


# ---- of the interpreter --------------------------------------------------------------------------

ENDS = {
    "atexit": """
import atexit
loader = make()
def at_exit():
    print(sum(len(labels) for _, labels in loader))
    loader.close()
atexit.register(at_exit)
next(iter(loader))
""",
    "a finalizer": """
class Owner:
    def __init__(self): self.loader = make()
    def __del__(self): self.loader.close()
owner = Owner()
next(iter(owner.loader))
print(200)
""",
    "a finalizer of a module": """
import types
class Owner:
    def __init__(self): self.loader = make()
    def __del__(self): self.loader.close()
module = types.ModuleType("kept_by_itself"); module.owner = Owner(); module.itself = module
sys.modules["kept_by_itself"] = module
next(iter(module.owner.loader))
print(200)
""",
    "an iteration in a finalizer": """
class Owner:
    def __init__(self): self.loader = make(); self.itself = self
    def __del__(self):
        try: list(self.loader)
        except Exception: pass
owner = Owner()
next(iter(owner.loader))
print(200)
""",
    "a thread that outlives main": """
loader = make()
def train():
    threading.main_thread().join()
    for _ in range(3):
        rows = sum(len(labels) for _, labels in loader)
    loader.close()
    print(rows)
threading.Thread(target=train).start()
""",
    "a daemon thread": """
loader = make()
def train():
    while True:
        for _ in loader: pass
threading.Thread(target=train, daemon=True).start()
time.sleep(0.2)
print(200)
""",
    "a live iterator": """
loader = make()
iterator = iter(loader)
kept = [next(iterator) for _ in range(2)]
print(200)
""",
}


@either_way
@pytest.mark.parametrize("end", ENDS)
def test_the_interpreter_may_end_in_any_way(path: str, workers: int, end: str) -> None:
    preamble = PREAMBLE + "import warnings; warnings.simplefilter('ignore', ResourceWarning)\n"
    assert run(ENDS[end], path, workers, preamble=preamble) == "200\n"


@either_way
@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_a_program_may_have_closed_its_standard_files(
    path: str, workers: int, closed: str, tmp_path: Path
) -> None:
    """Otherwise the memory of a plan would become its standard input."""
    script = """
rows = []
for _ in range(2):
    with make(max_restarts=9) as loader:
        for _ in range(2):
            iterator = iter(loader)
            next(iterator)
            for feeder in loader.delivery.feeders:
                if feeder.process: os.kill(feeder.process.pid, signal.SIGKILL)
            rows.append(4 + sum(len(labels) for _, labels in iterator))
open(path + ".rows", "w").write(repr(rows))
found = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)
         if os.path.exists(f"/proc/self/fd/{fd}")}
open(path + ".found", "w").write(repr(found))
"""
    (tmp_path / "program.py").write_text(PREAMBLE + script)
    closing = " ".join(f"{fd}{'<' if fd == '0' else '>'}&-" for fd in closed.split())
    subprocess.run(
        ["sh", "-c", f'exec "$0" "$1" "$2" "$3" {closing}', sys.executable,
         str(tmp_path / "program.py"), path, str(workers)],
        check=True, timeout=200,
    )  # fmt: skip
    assert Path(path + ".rows").read_text() == "[200, 200, 200, 200]"
    found = ast.literal_eval(Path(path + ".found").read_text())
    for fd in map(int, closed.split()):
        assert found.get(fd, "/dev/null") == "/dev/null", "which SQLite puts there"

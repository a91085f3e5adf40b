"""Handlers that save and close, signals to the whole job, and a pipe without a reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from fastloader import FastLoader

from .conftest import Either
from .programs import PREAMBLE, run
from .support import simple_rows, survey_processes, table, wait_until, worker_processes
from .tiers import full

counts_of_workers = pytest.mark.parametrize("workers", [0, 1, 3])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return table(tmp_path / "t.db", simple_rows(200))


@counts_of_workers
def test_a_handler_may_ask_for_state_and_statistics_at_any_moment(path: str, workers: int) -> None:
    script = """
    calls = 0
    def handler(*_):
        global calls
        calls += 1
        state, stats = loader.state_dict(), loader.stats()
        assert state["batch"] + len(loader) * state["epoch"] <= stats.batches + 1, (state, stats)
        assert loader.bad_rows == loader.partial_rows == []
    with make() as loader:
        loader.state_dict()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(10):
            assert sum(len(labels) for _, labels in loader) == 200
        while calls < 100:
            sum(len(labels) for _, labels in loader)
        signal.setitimer(signal.ITIMER_REAL, 0)
    print("ended")
    """
    assert run(script, path, workers) == "ended\n"


@counts_of_workers
@pytest.mark.parametrize("then", ["pass", "sys.exit(0)"])
def test_a_handler_may_save_and_close_at_any_moment(path: str, workers: int, then: str) -> None:
    """It runs a thousand times a second, so also in the middle of the call before."""
    script = f"""
    def handler(*_):
        if not loader.closed:
            loader.state_dict()
        loader.stats()
        loader.close()
        {then}
    signal.signal(signal.SIGALRM, handler)
    rng = random.Random(1)
    for _ in range(6):
        loader = make()
        loader.state_dict()
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.05), 0.001)
            while True:
                for _ in loader:
                    pass
        except (fastloader.ClosedError, SystemExit):
            pass
        finally:
            while True:
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    break
                except SystemExit:
                    pass
        loader.close()
    print(len(os.listdir("/proc/self/fd")) < 20)
    """
    assert run(script, path, workers) == "True\n"


@counts_of_workers
def test_a_finalizer_of_the_garbage_collector_takes_no_lock(path: str, workers: int) -> None:
    """The collector may end an iterator in the middle of anything that holds the loader's lock.

    Here only the traceback of an exception keeps the iterator alive.
    """
    script = """
    class Lock:                 # collects garbage wherever the loader holds its lock
        def __init__(self, lock): self.lock = lock
        def __enter__(self):
            self.lock.__enter__(); gc.collect()
        def __exit__(self, *error):
            gc.collect(); self.lock.__exit__(*error)
    def leave_early():
        iterator = iter(loader)
        try:
            for _ in iterator:
                raise ValueError
        except ValueError as error:
            kept = error       # whose traceback refers to this frame, and that to the iterator
    trace = path + ".trace"
    gc.disable()
    with make(trace=trace, batch_size=20) as loader:
        loader.delivery.lock = Lock(loader.delivery.lock)
        for _ in range(3):
            leave_early()
            assert sum(len(labels) for _, labels in loader) == 200
        assert loader.stats().consumer_s > 0
    print("ended")
    """
    assert run(script, path, workers) == "ended\n"


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_for_the_training_process_do_not_end_its_workers(
    either: Either, sent: signal.Signals
) -> None:
    """Slurm, systemd and containers send them to every process of a job."""
    url = either.table(simple_rows(100))
    options = {"size": (16, 16), "batch_size": 8, "workers": 2, "slots": 2, "max_restarts": 0}
    with FastLoader(url, **options) as loader:
        iterator = iter(loader)
        next(iterator)
        for process in worker_processes() + survey_processes():
            process.send_signal(sent)
        assert 8 + sum(len(labels) for _, labels in iterator) == 100
        assert sum(len(labels) for _, labels in loader) == 100
        assert loader.stats().restarts == 0


def test_a_signal_to_the_process_group_does_not_reach_the_workers(either: Either) -> None:
    """Torchrun and Jupyter call killpg; Ctrl-C in a terminal does the same."""
    url = either.table(simple_rows(100))
    with FastLoader(url, size=(16, 16), batch_size=8, workers=2) as loader:
        next(iter(loader))
        for process in worker_processes() + survey_processes():
            assert os.getpgid(process.pid) != os.getpgid(0)
            assert os.getsid(process.pid) != os.getsid(0)


def test_a_program_that_is_interrupted_while_it_makes_a_loader_ends_of_that(path: str) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + "print('making', flush=True)\nmake()", path, "4"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == b"making\n"
    time.sleep(0.03)  # the processes are starting
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate(timeout=60)
    assert b"SourceError" not in errors
    if program.returncode:  # or it was quicker than the signal
        assert program.returncode == -signal.SIGINT, errors


@full
def test_a_dead_worker_is_no_sigpipe(path: str) -> None:
    """Command-line tools restore the default action of SIGPIPE, which ends the program."""
    script = """
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with make(max_restarts=20) as loader:
        for _ in range(5):
            taken = 0
            for _, labels in loader:
                taken += len(labels)
                for feeder in loader.delivery.feeders:
                    if taken == 40:
                        os.kill(feeder.process.pid, signal.SIGKILL)
            assert taken == 200
    print("ended")
    """
    assert run(script, path, 2) == "ended\n"


# ---- the death of the training process -----------------------------------------------------------


def test_a_stopped_worker_does_not_outlive_its_parent(path: str) -> None:
    script = """
    loader = make()
    next(iter(loader))
    for feeder in loader.delivery.feeders:
        os.kill(feeder.process.pid, signal.SIGSTOP)
    print(*(feeder.process.pid for feeder in loader.delivery.feeders), flush=True)
    os._exit(0)
    """
    pids = [*map(int, run(script, path, 2).split())]
    assert len(pids) == 2
    wait_until(lambda: not any(map(psutil.pid_exists, pids)))

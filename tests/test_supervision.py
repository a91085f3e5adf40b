"""Workers die, and rows still arrive once each and in order."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from fastloader import FastLoader, SourceError, SupersededError, WorkerDied
from fastloader.transport import messages
from fastloader.transport.messages import Record

from .support import jpeg, table, unpacked, wait_until, worker_processes
from .tiers import full

ROWS = 400


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """400 rows that take about half a second to decode."""
    images = [jpeg(600, 400, seed=seed) for seed in range(4)]
    rows = [(key, images[key % 4], key) for key in range(ROWS)]
    return table(tmp_path_factory.mktemp("supervision") / "t.db", rows)


@pytest.fixture
def loader(path: str) -> Iterator[FastLoader]:
    options = {"size": (32, 32), "batch_size": 8, "workers": 2, "with_keys": True}
    with FastLoader(path, slots=3, max_restarts=20, **options) as loader:
        yield loader


def keys_of(loader: FastLoader) -> list[int]:
    return [key for *_, keys in unpacked(loader) for key in keys.tolist()]


@pytest.mark.parametrize("seed", range(20))
def test_keys_come_once_in_order_though_workers_are_killed_at_random(
    loader: FastLoader, seed: int
) -> None:
    rng = random.Random(seed)
    stop = threading.Event()
    killed = 0

    def kill() -> None:
        nonlocal killed
        while not stop.wait(rng.uniform(0.0, 0.2 if killed else 0.05)) and killed < 15:
            processes = worker_processes()
            with contextlib.suppress(psutil.NoSuchProcess, IndexError):
                rng.choice(processes).kill()
                killed += 1

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        assert keys_of(loader) == list(range(ROWS))
    finally:
        stop.set()
        killer.join()
    assert killed > 0
    assert keys_of(loader) == list(range(ROWS))
    assert 1 <= loader.stats().restarts <= killed


def test_an_exit_with_code_0_in_the_middle_is_a_death_too(loader: FastLoader) -> None:
    iterator = iter(loader)
    seen = next(unpacked(iterator))[2].tolist()
    # A worker ends with code 0 when the loader's end of the pipe closes.
    supervisor = loader.delivery.feeders[0]
    supervisor.process.channel.shut_down()
    wait_until(supervisor.process.has_ended)
    assert supervisor.process.how == "ended with exit code 0"
    seen += [key for *_, keys in unpacked(iterator) for key in keys.tolist()]
    assert seen == list(range(ROWS))
    assert loader.stats().restarts == 1


def test_leased_and_announced_batches_survive_their_worker(loader: FastLoader) -> None:
    iterator = iter(loader)
    images, labels, keys = next(unpacked(iterator))
    before = images.copy()
    wait_until(lambda: not any(p.status() == psutil.STATUS_RUNNING for p in worker_processes()))
    for process in worker_processes():
        process.kill()
    rest = [key for *_, more in unpacked(iterator) for key in more.tolist()]
    assert keys.tolist() + rest == list(range(ROWS))
    assert (images == before).all()
    assert labels.tolist() == keys.tolist()


def test_too_many_deaths_are_an_error_with_batch_signal_and_last_words(path: str) -> None:
    with FastLoader(path, workers=2, size=(32, 32), batch_size=8, max_restarts=1) as loader:
        iterator = iter(loader)
        next(iterator)

        def kill_the_first() -> None:
            process = loader.delivery.feeders[0].process
            os.write(process._output.fileno(), b"out of cheese\n")
            process.kill()

        kill_the_first()
        with pytest.raises(WorkerDied) as caught:
            for i, _ in enumerate(iterator):
                if i % 2:
                    kill_the_first()
        assert caught.value.worker == 0
        assert caught.value.how == "was killed by SIGKILL"
        assert caught.value.batch % 2 == 0
        assert "out of cheese" in str(caught.value)
        assert "use fewer workers" in str(caught.value)
        assert sum(len(images) for images, _ in loader) == ROWS, "the next epoch starts afresh"


def test_a_crash_leaves_its_traceback_in_the_last_words(path: str) -> None:
    with FastLoader(path, workers=1, size=(32, 32), batch_size=8, max_restarts=0) as loader:
        iterator = iter(loader)
        next(iterator)
        os.kill(loader.delivery.feeders[0].process.pid, signal.SIGSEGV)
        with pytest.raises(WorkerDied, match="killed by SIGSEGV") as caught:
            for _ in iterator:
                pass
        assert "Fatal Python error: Segmentation fault" in caught.value.last_words


def test_a_worker_that_cannot_start_is_an_error(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastloader.transport.process.BOOT", "raise SystemExit('no such module')")
    with pytest.raises(SourceError, match=r"ended with exit code 1(.|\n)*no such module"):
        FastLoader(path, workers=2)


def test_an_iterator_that_waits_is_woken_when_a_newer_one_begins(loader: FastLoader) -> None:
    outcome: list[BaseException | None] = []
    older = iter(loader)
    next(older)
    for process in worker_processes():
        process.suspend()

    def drain() -> None:
        try:
            for _ in older:
                pass
            outcome.append(None)
        except SupersededError as error:
            outcome.append(error)

    waiting = threading.Thread(target=drain)
    waiting.start()
    time.sleep(0.2)
    newer = iter(loader)
    for process in worker_processes():
        process.resume()
    assert [key for *_, keys in unpacked(newer) for key in keys.tolist()] == list(range(ROWS))
    waiting.join(60)
    assert isinstance(outcome[0], SupersededError)


def test_closing_wakes_who_waits(loader: FastLoader) -> None:
    outcome: list[str] = []

    def drain() -> None:
        try:
            for _ in loader:
                pass
        except Exception as error:
            outcome.append(type(error).__name__)

    for process in worker_processes():
        process.suspend()
    waiting = threading.Thread(target=drain)
    waiting.start()
    time.sleep(0.2)
    loader.close()
    waiting.join(30)
    assert outcome == ["ClosedError"]


@full
def test_an_interrupt_in_any_place_does_not_spoil_the_next_epoch(loader: FastLoader) -> None:
    """Ctrl-C comes at random moments, as in a notebook, and the next iteration is whole."""
    rng = random.Random(1)
    interrupted = 0
    for _ in range(15):
        timer = threading.Timer(rng.uniform(0, 0.15), os.kill, (os.getpid(), signal.SIGINT))
        deadline = time.monotonic() + 2
        try:
            timer.start()
            while time.monotonic() < deadline:
                for _ in loader:
                    pass
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        assert keys_of(loader) == list(range(ROWS))
    assert interrupted > 0


def test_workers_do_not_mind_the_ctrl_c_that_a_terminal_sends_them_too(loader: FastLoader) -> None:
    list(loader)
    for process in worker_processes():
        process.send_signal(signal.SIGINT)
    assert keys_of(loader) == list(range(ROWS))
    assert loader.stats().restarts == 0


def test_an_idle_worker_notices_that_its_parent_is_gone_though_a_fork_holds_the_pipes(
    path: str, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pids"
    parent = os.fork()
    if parent == 0:
        try:
            loader = FastLoader(path, workers=1, size=(32, 32), batch_size=8)
            next(iter(loader))
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            worker = loader.delivery.feeders[0].process.pid
            fork = next(
                p.pid
                for p in psutil.Process().children()
                if p.pid != worker and p.status() != psutil.STATUS_ZOMBIE
            )
            pid_file.write_text(f"{worker} {fork}")
            time.sleep(20)
        finally:
            os._exit(1)
    wait_until(lambda: pid_file.exists() and len(pid_file.read_text().split()) == 2)
    worker, fork = map(int, pid_file.read_text().split())
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        assert psutil.pid_exists(fork)
        wait_until(lambda: not psutil.pid_exists(worker))
    finally:
        os.kill(fork, signal.SIGKILL)


def test_a_consumer_that_pauses_does_not_lock_writers_out(path: str) -> None:
    """Workers hold no lock on the database while they wait for a slot."""
    with FastLoader(path, workers=2, size=(32, 32), batch_size=8, slots=2) as loader:
        iterator = iter(loader)
        next(iterator)
        connection = sqlite3.connect(path, timeout=5)
        with connection:
            connection.execute("UPDATE images SET label = label WHERE id = 0")
        connection.close()
        assert sum(len(images) for images, _ in iterator) == ROWS - 8


@pytest.mark.parametrize("nonsense", [Record(77, 1, 0, 2), Record(messages.READY, 1, slot=999)])
def test_a_worker_that_sends_nonsense_is_replaced(
    loader: FastLoader, monkeypatch: pytest.MonkeyPatch, nonsense: Record
) -> None:
    """``test_inbox.py`` says what nonsense is."""
    iterator = iter(loader)
    kept = next(iterator)
    channel = loader.delivery.feeders[0].process.channel
    # As if the worker had sent that in place of what it sends next.
    monkeypatch.setattr(channel, "received", lambda: iter([nonsense]))
    seen = [key for *_, keys in unpacked([kept, *iterator]) for key in keys.tolist()]
    assert seen == list(range(ROWS))
    assert loader.stats().restarts == 1


def test_a_program_may_set_a_default_timeout_for_sockets(path: str) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.01)
    try:
        # The texts are larger than what a socket holds, so the worker has to wait for the loader.
        query = "SELECT id, image_data, printf('%.*c', 100000, 'x') AS label FROM images"
        options = {"size": (8, 8), "batch_size": 16, "workers": 1, "max_restarts": 0}
        with FastLoader(path, query=query, **options) as loader:
            iterator = iter(loader)
            rows = len(next(iterator)[1])
            time.sleep(0.3)
            rows += sum(len(labels) for _, labels in iterator)
    finally:
        socket.setdefaulttimeout(before)
    assert rows == ROWS


def test_no_descriptor_is_duplicated_onto_itself(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before glibc 2.29 it would stay close-on-exec, so the worker would not get it."""
    spawn, seen = os.posix_spawn, []

    def noted(*args: Any, file_actions: Any, **more: Any) -> int:
        seen.extend(file_actions)
        return spawn(*args, file_actions=file_actions, **more)

    monkeypatch.setattr("os.posix_spawn", noted)
    with FastLoader(path, workers=2, size=(8, 8)) as loader:
        assert next(iter(loader))
    pairs = [action[1:] for action in seen if action[0] == os.POSIX_SPAWN_DUP2]
    assert len(pairs) == 2 + 2 + 2 * (3 + 2)
    assert all(fd != there for fd, there in pairs)


@full
def test_neither_side_waits_for_room_in_the_pipe_while_the_other_one_does(path: str) -> None:
    """A worker sends megabytes of text while the loader begins one epoch after the other."""
    query = "SELECT id, image_data, printf('%.*c', 100000, 'x') AS label FROM images WHERE id < 64"
    options = {"size": (8, 8), "batch_size": 16, "workers": 1, "slots": 4, "max_restarts": 0}
    with FastLoader(path, query=query, **options) as loader:
        iter(loader)
        supervisor = loader.delivery.feeders[0]
        wait_until(lambda: supervisor.process.channel.wait(0))  # it sends, and nobody reads
        deadline = time.monotonic() + 2
        while not supervisor.process.channel._unsent:  # faster than the worker can read
            iter(loader)
            assert time.monotonic() < deadline
        assert sum(len(labels) for _, labels in loader) == 64
        assert sum(len(labels) for _, labels in loader) == 64
        assert loader.stats().restarts == 0

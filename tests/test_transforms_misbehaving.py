"""Whatever a function of the user does, training gets an error that says where, or goes on."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastloader import ConfigError, FastLoader, SourceError, TransformError, WorkerDied, per_batch

from .support import wait_until, worker_processes
from .tiers import few, full

Row = dict[str, Any]
OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 16, "workers": 2, "max_restarts": 1}

AT = 370
"""The label of the row at which the functions misbehave. Its key is 114. The rows that are tried
when a loader is made are others."""


def labels(url: str, transform: Any, **options: Any) -> list[int]:
    with FastLoader(url, **{**OPTIONS, **options}, transform=transform) as loader:
        return [label for _, its in loader for label in its.tolist()]


# ---- what is an error of the row -----------------------------------------------------------------


def raises(row: Row) -> None:
    if row["label"] == AT:
        raise KeyError("no such thing")


class SaysNothing(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def raises_what_cannot_be_shown(row: Row) -> None:
    if row["label"] == AT:
        raise SaysNothing


def raises_a_very_long_message(row: Row) -> None:
    if row["label"] == AT:
        raise ValueError("x" * 10_000_000)


def raises_what_is_no_text(row: Row) -> None:
    if row["label"] == AT:
        raise ValueError("\udcff\0\x1b[31m")


def leaves(row: Row) -> None:
    if row["label"] == AT:
        sys.exit("enough")


def recurses(row: Row) -> None:
    if row["label"] == AT:
        recurses(row)


def wants_all_memory(row: Row) -> None:
    if row["label"] == AT:
        np.ones(1 << 55, np.uint8)


def opens_too_many_files(row: Row) -> None:
    if row["label"] == AT:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
        files = [os.open(os.devnull, os.O_RDONLY) for _ in range(300)]
        assert not files


def asks_a_question(row: Row) -> None:
    if row["label"] == AT:
        input("Well?")


def returns_a_number(row: Row) -> Any:
    return 5 if row["label"] == AT else None


def returns_a_coroutine(row: Row) -> Any:
    async def later() -> None:
        pass

    return later() if row["label"] == AT else None


def returns_drop(row: Row) -> Any:
    from fastloader import DROP

    return DROP if row["label"] == AT else None


def returns_another_shape(row: Row) -> None:
    if row["label"] == AT:
        row["image_data"] = row["image_data"][:4]


def returns_another_type(row: Row) -> None:
    if row["label"] == AT:
        row["image_data"] = row["image_data"] / 255


def returns_a_value_that_does_not_fit(row: Row) -> None:
    if row["label"] == AT:
        row["label"] = 0.5


def returns_an_object(row: Row) -> None:
    if row["label"] == AT:
        row["label"] = object()


def leaves_out_an_entry(row: Row) -> None:
    if row["label"] == AT:
        del row["image_data"]


def adds_an_entry(row: Row) -> None:
    if row["label"] == AT:
        row["more"] = 5


ERRORS: dict[Callable[[Row], Any], str] = {
    raises: "raises raised KeyError: 'no such thing'",
    raises_what_cannot_be_shown: "SaysNothing: <exception str() failed>",
    raises_a_very_long_message: "raised ValueError: xxx",
    raises_what_is_no_text: "raised ValueError: \\udcff\\x00\\x1b[31m",
    leaves: "leaves raised SystemExit: enough",
    recurses: "raised RecursionError: maximum recursion depth exceeded",
    wants_all_memory: "MemoryError: Unable to allocate 32.0 PiB",
    opens_too_many_files: "OSError: [Errno 24] Too many open files",
    asks_a_question: "EOFError: EOF when reading a line",
    returns_a_number: "returns_a_number returned a int: return the dict",
    returns_a_coroutine: "an async function cannot be used",
    returns_drop: "returned DROP: pass per_row(returns_drop, drops=True)",
    returns_another_shape: "'image_data' has shape (4, 8, 3), not (8, 8, 3)",
    returns_another_type: "'image_data' is float64, and its values do not fit uint8",
    returns_a_value_that_does_not_fit: "'label' is float64, and its values do not fit int64",
    returns_an_object: "'label' is a object, not an array of numbers",
    leaves_out_an_entry: "'image_data' is missing from what it returned",
    adds_an_entry: "'more' is new, and was not in the first rows",
}


@few(6)
@pytest.mark.parametrize("function", ERRORS, ids=lambda function: function.__name__)
def test_an_error_has_the_key_and_says_what_is_wrong(
    small: str, function: Callable[[Row], Any]
) -> None:
    with pytest.raises(TransformError) as caught:
        labels(small, function)
    assert caught.value.key == 114
    assert ERRORS[function] in caught.value.reason
    assert len(str(caught.value)) < 20_000
    with FastLoader(small, **OPTIONS, on_error="skip", transform=function) as loader:
        found = [label for _, its in loader for label in its.tolist()]
        assert found == [10 * i for i in range(100) if 10 * i != AT]
        assert [key for key, _ in loader.bad_rows] == [114]
        assert loader.stats().restarts == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_of_batches_names_the_first_row(small: str, workers: int) -> None:
    def fails(batch: Row) -> None:
        if AT in batch["label"]:
            raise ValueError("not this batch")

    def loses_a_row(batch: Row) -> None:
        if AT in batch["label"]:
            batch["label"] = batch["label"][1:]

    for function, reason in (
        (fails, "ValueError: not this batch"),
        (loses_a_row, "'label' has shape (15,), not (16,), for 16 rows"),
    ):
        with pytest.raises(TransformError) as caught:
            labels(small, per_batch(function), workers=workers)
        assert caught.value.key == 3 * 33
        assert reason in caught.value.reason
        found = labels(small, per_batch(function), workers=workers, on_error="skip")
        assert found == [10 * i for i in range(100) if i // 16 != 2]


def test_an_error_on_the_rows_that_are_tried_is_one_of_the_constructor(small: str) -> None:
    def fails(row: Row) -> None:
        raise ValueError(f"not {row['label']}")

    with pytest.raises(TransformError, match="row with key 3: fails raised ValueError: not 0"):
        FastLoader(small, **OPTIONS, transform=fails)
    with FastLoader(small, **OPTIONS, transform=fails, on_error="fill") as loader:
        assert not any(images.any() for images, _ in loader)


# ---- what ends the worker ------------------------------------------------------------------------


def crashes(row: Row) -> None:
    if row["label"] == AT:
        ctypes.string_at(1)


def is_killed(row: Row) -> None:
    if row["label"] == AT:
        os.kill(os.getpid(), signal.SIGKILL)


def ends_the_process(row: Row) -> None:
    if row["label"] == AT:
        os._exit(7)


def closes_all_files(row: Row) -> None:
    if row["label"] == AT:
        os.closerange(3, 1000)


def raises_an_alarm(row: Row) -> None:
    if row["label"] == AT:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        time.sleep(60)


DEATHS = {
    crashes: ("was killed by SIGSEGV", "in crashes"),
    is_killed: ("was killed by SIGKILL", ""),
    ends_the_process: ("ended with exit code 7", ""),
    closes_all_files: ("ended with exit code", ""),
    raises_an_alarm: ("was killed by SIGALRM", ""),
}


@few(2)
@pytest.mark.parametrize("function", DEATHS, ids=lambda function: function.__name__)
def test_a_worker_that_dies_is_replaced_and_then_the_error_has_the_key(
    small: str, function: Callable[[Row], Any]
) -> None:
    how, said = DEATHS[function]
    with FastLoader(small, **OPTIONS, transform=function) as loader:
        with pytest.raises(WorkerDied) as caught:
            list(loader)
        assert how in caught.value.how
        assert said in caught.value.last_words
        if function is not closes_all_files:  # which returns, and dies later
            assert caught.value.key == 114
            assert "while a function of transform had the row with key 114" in str(caught.value)
        assert loader.stats().restarts == 1


def hangs(row: Row) -> None:
    if row["label"] == AT:
        time.sleep(1000)


def hangs_with_the_lock_of_the_interpreter(row: Row) -> None:
    if row["label"] == AT:
        ctypes.PyDLL(None).sleep(1000)


def hangs_in_a_lock(row: Row) -> None:
    if row["label"] == AT:
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()


@few(1)
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize(
    "function", [hangs, hangs_with_the_lock_of_the_interpreter, hangs_in_a_lock]
)
def test_a_function_that_never_returns_is_ended_and_says_where_it_is(
    small: str, function: Callable[[Row], Any], deterministic: bool
) -> None:
    with FastLoader(
        small, **{**OPTIONS, "max_restarts": 0}, transform=function, transform_timeout_s=5,
        deterministic=deterministic,
    ) as loader:  # fmt: skip
        with pytest.raises(WorkerDied, match="ended after 5 s .transform_timeout_s") as caught:
            list(loader)
        assert caught.value.key == 114
        assert f"in {function.__name__}" in caught.value.last_words


def test_a_slow_function_is_left_alone(small: str) -> None:
    def is_slow(_row: Row) -> None:
        time.sleep(0.1)

    assert len(labels(small, is_slow, transform_timeout_s=5, max_restarts=0)) == 100


@full
def test_one_that_hangs_on_the_rows_that_are_tried_is_ended(small: str) -> None:
    def hangs_at_once(_row: Row) -> None:
        time.sleep(1000)

    with pytest.raises(SourceError, match=r"(?s)Timeout.*in hangs_at_once"):
        FastLoader(small, **OPTIONS, transform=hangs_at_once, transform_timeout_s=2)


def test_a_worker_that_died_once_loses_no_row(small: str, tmp_path: Any) -> None:
    marker = str(tmp_path / "died")

    def dies_once(row: Row) -> None:
        if row["label"] == AT and not os.path.exists(marker):
            with open(marker, "w"):
                os._exit(1)

    assert labels(small, dies_once) == [10 * i for i in range(100)]


# ---- what does no harm ---------------------------------------------------------------------------


def test_a_fork_that_returns_does_not_become_a_second_worker(small: str) -> None:
    def forks(row: Row) -> None:
        if row["label"] == AT and os.fork() == 0:
            row["label"] = 5  # it returns, and would go on

    assert labels(small, forks, max_restarts=0) == [10 * i for i in range(100)]


def test_processes_and_threads_of_its_own_can_be_used(small: str) -> None:
    def uses_them(row: Row) -> None:
        if row["label"] == AT:
            subprocess.run([sys.executable, "-c", "pass"], check=True)
            process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
            process.start()
            process.join()
            assert process.exitcode == 0
            thread = threading.Thread(target=time.sleep, args=(0,))
            thread.start()
            thread.join()

    assert labels(small, uses_them, max_restarts=0) == [10 * i for i in range(100)]


def test_a_child_that_it_leaves_behind_holds_nothing_open(small: str) -> None:
    def leaves_a_child(row: Row) -> None:
        if row["label"] == AT and os.fork() == 0:
            time.sleep(5)
            os._exit(0)

    start = time.monotonic()
    assert labels(small, leaves_a_child) == [10 * i for i in range(100)]
    wait_until(lambda: not worker_processes())
    assert time.monotonic() - start < 600


def test_what_it_prints_is_on_standard_error_line_by_line(
    small: str, capfd: pytest.CaptureFixture[str]
) -> None:
    has_printed = []

    def prints(row: Row) -> None:
        # Once, as the worker may begin the next epoch.
        if row["label"] == AT and not has_printed:
            has_printed.append(True)
            print("one\ntwo \x1b[31m", flush=False)
            os.write(2, b"three\n")

    labels(small, prints, workers=1)
    printed = capfd.readouterr()
    lines = [line for line in printed.err.splitlines() if line.startswith("worker")]
    assert len(lines) == 3
    assert {line.split(": ", 1)[1] for line in lines} == {"one", "two \\x1b[31m", "three"}
    assert printed.out == ""


def test_one_that_leaves_nothing_is_refused(small: str) -> None:
    with pytest.raises(ConfigError, match="lambda.*no entry is left"):
        FastLoader(small, **OPTIONS, transform=lambda row: row.clear())


def test_libraries_have_one_thread_in_each_worker(small: str) -> None:
    def count(row: Row) -> None:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
        row["threads"] = [int(os.environ[name]) for name in names]

    with FastLoader(small, **OPTIONS, transform=count) as loader:
        assert all((x["threads"] == 1).all() for x, _ in loader)

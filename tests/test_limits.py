"""When a limit of the system is reached, an error names it."""

from __future__ import annotations

import io
import logging
import os
import struct
from pathlib import Path

import pytest
from PIL import Image

from fastloader import FastLoader
from fastloader.transport.process import LAST_WORDS_BYTES

from .programs import run
from .support import jpeg, simple_rows, table
from .tiers import full

SCRIPT = """
import resource
limit = getattr(resource, {name!r})
hard = resource.getrlimit(limit)[1]
outcomes = {{}}
for value in {values}:
    resource.setrlimit(limit, (value, hard))
    try:
        with make(size=(224, 224), slots=4) as loader:
            for _ in range(2):
                outcomes[value] = str(sum(len(labels) for _, labels in loader))
    except fastloader.FastloaderError as error:
        outcomes[value] = f"{{type(error).__name__}}: {{error}}"
    finally:
        resource.setrlimit(limit, (hard, hard))
for outcome in outcomes.values():
    print(repr(outcome))
"""

either_way = pytest.mark.parametrize("workers", [0, 2])


@pytest.fixture
def path(tmp_path: Path) -> str:
    return table(tmp_path / "t.db", simple_rows(20))


def outcomes(name: str, values: str, path: str, workers: int) -> list[str]:
    """Return what a loader does under each value of the limit. Only our own errors may occur."""
    script = SCRIPT.format(name=name, values=values)
    return [eval(line) for line in run(script, path, workers).splitlines()]


@full
@either_way
def test_too_few_descriptors_are_an_error_that_says_so(path: str, workers: int) -> None:
    found = outcomes("RLIMIT_NOFILE", "range(5, 46, 4)", path, workers)
    assert found[-1] == "20"
    named = [text for text in found if "RLIMIT_NOFILE" in text]
    assert named
    for text in named:
        assert text.startswith("ConfigError: cannot ")
        assert "Raise the limit (ulimit -n)" in text


@full
@either_way
def test_too_little_address_space_is_an_error_that_says_so(path: str, workers: int) -> None:
    values = """[int(open("/proc/self/statm").read().split()[0]) * 4096 + (mib << 20)
                 for mib in (0, 1, 2, 3, 5, 8, 12, 20, 50, 3000)]"""
    found = outcomes("RLIMIT_AS", values, path, workers)
    assert found[-1] == "20"
    assert any("RLIMIT_AS" in text for text in found)
    for text in found:
        # Of a process that cannot even import what it needs, there are only the last words.
        assert text == "20" or "RLIMIT_AS" in text or "Its last words" in text, text


@full
@either_way
def test_too_small_files_are_an_error_that_says_so(path: str, workers: int) -> None:
    """To the kernel, shared memory is a file."""
    found = outcomes("RLIMIT_FSIZE", "(10, 4096, 100_000, 1 << 20, 1 << 30)", path, workers)
    assert found[-1] == "20"
    for text in found[:-1]:
        assert text.startswith("ConfigError: cannot "), text
        assert "RLIMIT_FSIZE" in text


@full
def test_thirty_loaders_fit_into_the_usual_limit(path: str) -> None:
    """A plan, the database's file, and of each worker: pipe, output, ring and its mapping."""
    script = """
    import resource
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    before = len(os.listdir("/proc/self/fd"))
    loaders = [make(size=(8, 8)) for _ in range(30)]
    for _ in range(2):
        for loader in loaders:
            assert sum(len(labels) for _, labels in loader) == 20
    print((len(os.listdir("/proc/self/fd")) - before) / 30)
    for loader in loaders:
        loader.close()
    """
    assert float(run(script, path, 1)) <= 6


@full
def test_too_few_descriptors_for_another_worker_are_an_error_that_says_so(path: str) -> None:
    script = """
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with make(max_restarts=99, slots=2) as loader:
        for limit in range(4, 30):
            iterator = iter(loader)
            next(iterator)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            os.kill(loader.delivery.feeders[0].process.pid, signal.SIGKILL)
            try:
                for _ in iterator: pass
            except fastloader.ConfigError as error:
                assert "RLIMIT_NOFILE" in str(error), error
                print("named")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert sum(len(labels) for _, labels in loader) == 20
    """
    assert run(script, path, 1).count("named") >= 3


# ---- what workers write --------------------------------------------------------------------------


def broken_tiff() -> bytes:
    """Return an image about which libtiff prints many warnings."""
    out = io.BytesIO()
    Image.open(io.BytesIO(jpeg(64, 64))).save(out, "TIFF", compression="tiff_lzw")
    data = bytearray(out.getvalue())
    (directory,) = struct.unpack_from("<I", data, 4)
    for i in range(8, min(directory, len(data)), 7):  # its compressed strips
        data[i] ^= 0xFF
    return bytes(data)


def test_what_workers_write_goes_to_the_log_and_takes_no_memory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(tmp_path / "t.db", [(key, broken_tiff(), key) for key in range(1, 201)])
    options = {"size": (8, 8), "batch_size": 4, "slots": 2, "workers": 1, "on_error": "fill"}
    caplog.set_level(logging.DEBUG, "fastloader")
    with FastLoader(path, **options) as loader:
        process = loader.delivery.feeders[0].process
        largest = 0
        for _ in range(5):
            for _ in loader:
                largest = max(largest, os.fstat(process._output.fileno()).st_size)
        assert len(process.last_words) <= LAST_WORDS_BYTES
    said = [record.message for record in caplog.records if record.levelno == logging.DEBUG]
    assert [line for line in said if line.startswith("worker 0: ")]
    written = sum(len(line) - len("worker 0: ") + 1 for line in said)
    assert written > 20_000
    assert largest < written / 20


# ---- traces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fault", ["deleted", "a folder", "a full disk"])
def test_a_trace_that_cannot_be_written_any_more_ends_and_the_training_goes_on(
    path: str, tmp_path: Path, workers: int, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    trace = tmp_path / "trace.json"
    with FastLoader(path, trace=trace, workers=workers, size=(8, 8), batch_size=1) as loader:
        assert sum(len(labels) for _, labels in loader) == 20
        trace.unlink()
        if fault == "a folder":
            trace.mkdir()
        elif fault == "a full disk":
            trace.symlink_to("/dev/full")
        for _ in range(10):
            assert sum(len(labels) for _, labels in loader) == 20
        assert len(loader.delivery._trace._file._events) == 0, "nobody collects for it any more"
    (said,) = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert f"trace='{trace}' ends here" in said

"""Functions reach the workers, from wherever they are, or the error says what in them cannot."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import DROP, ConfigError, FastLoader, per_row
from fastloader.transforms.sending import pickled, unpickled

from . import small_transforms as functions
from .conftest import Either
from .support import ROOT, simple_rows


class Adder:
    """A callable object, as a pipeline of a library is."""

    def __init__(self, amount: int) -> None:
        self.amount = amount

    def __call__(self, row: dict[str, Any]) -> None:
        row["label"] = row["label"] + self.amount

    def method(self, row: dict[str, Any]) -> None:
        self(row)


def labels(small: str, transform: Any, **options: Any) -> list[int]:
    with FastLoader(small, size=(8, 8), workers=2, transform=transform, **options) as loader:
        return [label for _, its in loader for label in its.tolist()]


def test_functions_of_all_kinds_reach_the_workers(small: str) -> None:
    amount = 5

    def closure(row: dict[str, Any]) -> None:
        row["label"] = row["label"] + amount

    def add(number: int, row: dict[str, Any]) -> None:
        row["label"] = row["label"] + number

    kinds = (
        closure,
        lambda row: {**row, "label": row["label"] + amount},
        Adder(5),
        Adder(5).method,
        functools.partial(add, 5),
    )
    for function in kinds:
        assert labels(small, function) == [10 * i + 5 for i in range(100)], function


def test_a_function_of_a_module_goes_by_its_name() -> None:
    assert len(pickled(functions.jitter)) < 100
    assert unpickled(pickled(functions.jitter)) is functions.jitter
    assert unpickled(pickled(DROP)) is DROP


SCRIPT = """
import numpy as np
from fastloader import FastLoader

SHIFT = 5

def helper(label):
    return label + SHIFT

def shift(row):
    row["label"] = helper(row["label"])

loader = FastLoader({url!r}, size=(8, 8), workers=2, transform=shift)
print(sum(int(labels.sum()) for images, labels in loader))
loader.close()
"""


def run(*command: str, folder: Path, given: str | None = None) -> str:
    done = subprocess.run(
        command, cwd=folder, input=given, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_script_needs_no_guard_of_its_main_module(small: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(url=small))
    assert run(sys.executable, str(script), folder=tmp_path).split() == ["50000"]
    assert run(sys.executable, "-", folder=tmp_path, given=SCRIPT.format(url=small)) == "50000\n"


def test_the_traceback_of_a_function_of_a_script_has_its_file_and_line(
    small: str, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(url=small).replace("label + SHIFT", "label.nothing"))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "shift raised AttributeError: 'numpy.int64' object has no attribute" in done.stderr
    assert f'File "{script}", line 8, in helper' in done.stderr
    assert "return label.nothing" in done.stderr.split("shift raised")[1]


def test_a_notebook_can_define_it(small: str, tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    script = tmp_path / "cells.ipy"
    script.write_text(SCRIPT.format(url=small))
    assert "50000" in run(sys.executable, "-m", "IPython", str(script), folder=tmp_path)


def test_the_error_names_what_cannot_be_sent(small: str) -> None:
    lock = threading.Lock()
    generator = (i for i in range(3))

    def uses_a_lock(row: dict[str, Any]) -> None:
        with lock:
            row["label"] = 1

    def uses_a_generator(row: dict[str, Any]) -> None:
        row["label"] = next(generator)

    holder = Adder(5)
    holder.lock = lock  # type: ignore[attr-defined]
    for function, culprit in (
        (uses_a_lock, "its variable 'lock' is a lock"),
        (uses_a_generator, "its variable 'generator' is a generator"),
        (holder, "its variable 'self.lock' is a lock"),
        (holder.method, "its variable 'self.lock' is a lock"),
        (functools.partial(uses_a_lock, other=lock), "its variable 'other' is a lock"),
    ):
        with pytest.raises(ConfigError, match="cannot be sent to the workers") as caught:
            FastLoader(small, transform=function)
        assert culprit in str(caught.value)
        assert "inside the function" in str(caught.value)


def test_a_module_that_only_this_process_finds_is_an_error_when_the_loader_is_made(
    small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A worker gets sys.path as it is when the loader is made.
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path) != ROOT])
    with pytest.raises(ConfigError, match="a worker cannot load mean .ModuleNotFoundError"):
        FastLoader(small, workers=1, transform=per_row(functions.mean))


def test_the_driver_of_the_database_is_imported_first(either: Either) -> None:
    """TensorFlow's own copies of SQLite and TLS would get its calls otherwise."""

    class Loaded:  # not of the module, whose import brings the drivers along
        drivers = -1

        def __setstate__(self, state: Any) -> None:
            import sys

            names = ("psycopg2", "fastloader.source.sqlite._sqlite")
            self.drivers = sum(name in sys.modules for name in names)

        def __getstate__(self) -> Any:
            return {"x": 1}

        def __call__(self, row: dict[str, Any]) -> None:
            row["label"] = self.drivers

    url = either.table(simple_rows(20))
    with FastLoader(url, size=(8, 8), workers=1, transform=Loaded()) as loader:
        for _, labels in loader:
            assert labels.tolist() == [1] * 20


def test_nothing_of_numpy_is_copied_to_find_the_parameters() -> None:
    assert np.add is unpickled(pickled(np.add))

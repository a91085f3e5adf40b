"""``as_keras()`` on each backend of Keras, of which PyTorch and JAX have no TensorFlow there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import FastLoader

from .keras_backends import EPOCHS
from .support import ROOT, simple_rows, table
from .tiers import few, full

pytestmark = full
pytest.importorskip("keras", reason="Keras is not installed: as_keras() is untested")


@pytest.fixture
def url(tmp_path: Path) -> str:
    rows = [(key, image, n / 1000) for key, image, n in simple_rows(100)]
    columns = "id INTEGER PRIMARY KEY, image_data BLOB, label REAL"
    return table(tmp_path / "t.db", rows, columns=columns)


def run(backend: str, url: str, folder: Path, steps: int | None) -> dict[str, Any] | None:
    """Train for some steps and kill the training then; or to its end, and return the result."""
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.keras_backends", backend, url, str(folder)],
        cwd=ROOT, text=True, bufsize=1, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    if steps is None:
        _, words = process.communicate(timeout=200)
        assert process.returncode == 0, words
        found: dict[str, Any] = json.loads((folder / "found.json").read_text())
        return found
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n" * steps)
    taken = 0
    while taken < steps:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        taken = int(line)
    process.kill()
    process.communicate()
    return None


@few(1)
@pytest.mark.timeout(600)  # frameworks are imported several times
@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_a_killed_fit_resumes_with_the_batches_of_an_uninterrupted_one(
    backend: str, url: str, tmp_path: Path
) -> None:
    pytest.importorskip(backend)
    whole = run(backend, url, tmp_path / "whole", None)
    assert whole is not None
    assert whole["predicted"]
    assert whole["evaluated"]
    assert whole["rows"] == EPOCHS * 100
    assert whole["tensorflow"] == (backend == "tensorflow")
    run(backend, url, tmp_path / "killed", 19)  # in the second epoch, some steps after a save
    killed = run(backend, url, tmp_path / "killed", None)
    assert killed is not None
    assert killed["rows"] < whole["rows"], "it has resumed"
    assert np.allclose(
        np.concatenate([np.ravel(its) for its in killed["weights"]]),
        np.concatenate([np.ravel(its) for its in whole["weights"]]),
        atol=1e-6,
    )


def test_values_of_different_sizes_are_refused(tmp_path: Path) -> None:
    script = """
import os, sys
os.environ["KERAS_BACKEND"] = "torch"
from fastloader import ConfigError, FastLoader
with FastLoader(sys.argv[1], size=(8, 8), workers=0, label="label:text") as loader:
    try:
        loader.as_keras()
    except ConfigError as error:
        print(error)
"""
    pytest.importorskip("torch")
    rows = [(key, image, str(n)) for key, image, n in simple_rows(8)]
    path = table(
        tmp_path / "t.db", rows, columns="id INTEGER PRIMARY KEY, image_data BLOB, label TEXT"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=False
    )
    assert "'label' has values of different sizes" in done.stdout, done.stderr


def test_the_adapter_is_an_iterable_of_numpy_batches(small: str) -> None:
    with FastLoader(small, size=(8, 8), batch_size=8, workers=0) as loader:
        batches = loader.as_keras()
        assert len(batches) == 13
        assert repr(batches) == f"as_keras({loader!r})"
        assert [len(labels) for _, labels in batches] == [8] * 12 + [4]
        assert (batches.num_batches, batches.batch_size) == (13, 8)
    with FastLoader(small, size=(8, 8), workers=0, on_error="skip") as loader:
        assert loader.as_keras().num_batches is None

"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastloader
from fastloader import FastLoader

from .support import simple_rows, table

MODULES = {
    "fastloader": None, "fastloader.loader": None, "fastloader.base": None,
    "fastloader.mixture": None, "fastloader.frameworks": None,
    "fastloader.errors": None,
    "fastloader.consumer.epoch": None, "fastloader.observe.stats": None,
    "fastloader.options.config": None, "fastloader.fields.columns": None,
    "fastloader.adapters.tensorflow": "tensorflow", "fastloader.adapters.keras": "tensorflow",
    "fastloader.adapters.torch": "torch", "fastloader.adapters.jax": "jax",
    "fastloader.adapters.prometheus": "prometheus_client",
}  # fmt: skip
"""Modules with examples, and what they need. Ray's are in its page, which takes a cluster."""

NEEDS = {
    "as_dataset": "tensorflow",
    "as_keras": "tensorflow",
    "output_": "tensorflow",
    "as_torch": "torch",
    "as_jax": "jax",
}

EXPECTED = (
    "FastLoader", "Loader.epoch", "Loader.peek", "Loader.state_dict",
    "Loader.stats", "Loader.config", "Loader.columns", "Loader.bad_rows",
    "Frameworks.as_dataset", "Frameworks.as_keras", "Frameworks.as_torch", "Frameworks.as_jax",
    "errors.RowError", "mixture.mix",
    "keras.Resume", "keras.Throughput", "prometheus.LoaderCollector",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder that the examples run in."""
    rows = simple_rows(70)
    table(tmp_path / "photos.db", rows)
    table(tmp_path / "damaged.db", [(k, b"" if k == 3 else image, n) for k, image, n in rows])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def is_missing(name: str | None) -> bool:
    return name is not None and importlib.util.find_spec(name) is None


def examples() -> Iterator[tuple[doctest.DocTest, str | None]]:
    """Yield the examples of each docstring, with the package that they need."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name, needed in MODULES.items():
        if not is_missing(needed):
            for test in finder.find(importlib.import_module(name), name):
                if test.examples:
                    method = next((its for part, its in NEEDS.items() if part in test.name), None)
                    yield test, needed or method


# fit() says shuffle=True by itself, of which Keras warns that it means nothing here.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own
def test_the_examples_in_docstrings_print_what_they_say(folder: Path) -> None:
    found, left_out = [], []
    for test, needed in examples():
        if is_missing(needed):
            left_out.append(test.name)
            continue
        with FastLoader("photos.db") as loader:
            test.globs = {**vars(fastloader), **test.globs, "loader": loader}
            if needed == "tensorflow":
                from .small_models import model_of_the_documents

                test.globs["model"] = model_of_the_documents()
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            said: list[str] = []
            runner.run(test, out=said.append)
            assert not runner.failures, f"{test.name}\n{''.join(said)}"
        found.append(test.name)
    assert not (folder / "backup").exists()
    missing = [name for name in EXPECTED if not any(test.endswith(name) for test in found)]
    assert missing == [] or left_out


def test_every_public_method_of_the_loader_says_what_it_does_in_a_sentence() -> None:
    for name, member in inspect.getmembers(FastLoader):
        if not name.startswith("_"):
            summary = (inspect.getdoc(member) or "").partition("\n\n")[0]
            assert summary.endswith("."), name
            assert len(summary.split()) >= 3, name

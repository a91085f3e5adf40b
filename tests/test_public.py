"""What users find: public names, signatures, and errors that say what to write instead."""

from __future__ import annotations

import inspect
import os
import pickle
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastloader
from fastloader import ConfigError, FastLoader, FastloaderWarning, UsageError, errors
from fastloader.cli.command import EXIT_CODES
from fastloader.options import variables

from .support import ROOT, needs_sources, simple_rows, table

OPTIONS: dict[str, Any] = {"size": (16, 16), "batch_size": 8, "workers": 0}


@pytest.fixture(autouse=True)
def nothing_was_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variables, "_warned", set())


# ---- names ---------------------------------------------------------------------------------------


def test_all_has_every_public_name_and_every_exception() -> None:
    there = {
        name
        for name, value in vars(fastloader).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert there | {"__version__"} == set(fastloader.__all__)
    # Constants first, as ruff sorts them.
    in_order = sorted(fastloader.__all__, key=lambda name: (not name.isupper(), name))
    assert list(fastloader.__all__) == in_order
    raised = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, (Exception, Warning))
    }
    assert raised <= set(fastloader.__all__)


def test_what_the_loader_returns_has_public_types() -> None:
    """A user can name them in annotations."""
    public = {getattr(fastloader, name) for name in fastloader.__all__}
    for name, member in vars(FastLoader).items():
        returned = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(returned):
            continue
        found = str(inspect.signature(returned).return_annotation)
        ours = {one.__name__ for one in public if isinstance(one, type)}
        for word in ("Config", "Column", "Stats", "Epoch"):
            if word in found:
                assert word in ours
        assert found != str(inspect.Signature.empty), name


def test_every_public_name_is_described() -> None:
    for name in fastloader.__all__:
        value = getattr(fastloader, name)
        if isinstance(value, type):
            assert inspect.getdoc(value), name
            for member, its in vars(value).items():
                if not member.startswith("_") and (callable(its) or isinstance(its, property)):
                    assert inspect.getdoc(its), f"{name}.{member}"


def test_the_options_in_force_and_the_columns_can_be_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(20))
    with FastLoader(path, **OPTIONS, label="label:int32", with_keys=True) as loader:
        config: fastloader.Config = loader.config
        columns: tuple[fastloader.Column, ...] = loader.columns
        assert (config.batch_size, config.size, config.shuffle) == (8, (16, 16), False)
        assert columns == (fastloader.Column("label", "int32"),)
        assert [column.dtype for column in loader.key_columns] == ["int64"]


@needs_sources
def test_the_types_of_the_options_are_checked(tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text(
        "from fastloader import FastLoader\n"
        'FastLoader("a.db", labels="b")\n'
        'FastLoader("a.db", on_error="ignore")\n'
        'FastLoader("a.db", on_error="skip", fit={"a": "crop"}, shuffle=True)\n'
        'reveal_type(FastLoader("a.db").config)\n'
        'reveal_type(FastLoader("a.db").epoch(3))\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", ROOT / "pyproject.toml",
         tmp_path / "ours.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = done.stdout
    assert 'ours.py:2: error: Unexpected keyword argument "labels"' in found
    assert 'ours.py:3: error: Argument "on_error"' in found
    assert "ours.py:4" not in found
    assert 'Revealed type is "fastloader.options.config.Config"' in found
    assert 'Revealed type is "fastloader.consumer.epoch.Epoch"' in found


@needs_sources
def test_the_pages_of_the_reference_have_every_public_name_and_every_exit_code() -> None:
    api = (ROOT / "docs" / "reference" / "api.md").read_text()
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    for name in set(fastloader.__all__) - {"__version__"}:
        assert re.search(rf":: fastloader\.{name}\b", api), name
    for name in vars(FastLoader):
        if not name.startswith("_") and name != "delivery":
            listed = re.search(rf":: fastloader\.FastLoader\.{name}\b|:members:.*\b{name}\b", api)
            assert listed, name
    for name, its in vars(errors).items():
        if isinstance(its, type) and issubclass(its, (errors.FastloaderError, Warning)):
            assert name == "FastloaderError" or re.search(rf"^###? {name}$", page, re.MULTILINE), (
                name
            )
    found = dict(re.findall(r"^\| (\d+) \| (.*?) \|", page, re.MULTILINE))
    assert found == {
        str(code): meaning.replace("-v", "`-v`") for code, meaning in EXIT_CODES.items()
    }


# ---- what is misspelled --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("labels", "did you mean label=?"),
        ("batchsize", "did you mean batch_size=?"),
        ("num_workers", "did you mean workers=?"),
        ("image_size", "did you mean size=?"),
        ("transforms", "did you mean transform=?"),
        ("augment", "did you mean transform=?"),
        ("collate_fn", "the loader makes whole batches: pass transform=per_batch(function)"),
        ("sampler", "or random with shuffle=True; where= chooses the rows"),
        ("epochs", "each iteration is the next epoch"),
        ("epochs", "model.fit(loader.as_dataset(), epochs=3)"),
        ("xyzzy", "the options are url, table, query"),
    ],
)
def test_an_argument_that_is_no_option_is_an_error_with_a_suggestion(name: str, hint: str) -> None:
    for kind in (TypeError, ConfigError, UsageError):
        with pytest.raises(kind, match="there is no option") as caught:
            FastLoader("none.db", **{name: 1})
        assert hint in str(caught.value)


def test_a_second_argument_without_a_name_is_told_how_to_name_the_table() -> None:
    with pytest.raises(UsageError, match="if 'items' is the table, write table='items'"):
        FastLoader("none.db", "items")  # type: ignore[misc]


def test_the_signature_is_typed_although_it_is_checked() -> None:
    hints = typing.get_type_hints(FastLoader.__init__, vars(fastloader.loader))
    assert hints["batch_size"] is int
    assert "options" not in inspect.signature(FastLoader).parameters


def test_a_variable_that_is_no_option_is_a_warning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = table(tmp_path / "t.db", simple_rows(20))
    for name in ("WORKRS", "NUM_WORKERS", "TEST_PG", "EXPECT_SANITIZED", "SANITIZE", "SEED"):
        monkeypatch.setenv(f"FASTLOADER_{name}", "1")
    with pytest.warns(FastloaderWarning) as caught, FastLoader(path, **OPTIONS):
        pass
    effect = "is not an option and has no effect; did you mean FASTLOADER_WORKERS?"
    assert [str(warning.message) for warning in caught] == [
        f"FASTLOADER_NUM_WORKERS {effect}",
        f"FASTLOADER_WORKRS {effect}",
    ]
    assert {warning.filename for warning in caught} == {__file__}
    with FastLoader(path, **OPTIONS):  # another warning would be an error
        pass


def test_the_command_line_warns_of_such_a_variable(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(20))
    done = subprocess.run(
        [sys.executable, "-m", "fastloader", "check", path, "--workers", "0"],
        env={**os.environ, "FASTLOADER_BATCHSIZE": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == (
        "warning: FASTLOADER_BATCHSIZE is not an option and has no effect; did you mean "
        "FASTLOADER_BATCH_SIZE?\n"
    )


# ---- what is taken for something else ------------------------------------------------------------


def test_a_loader_is_neither_an_array_nor_a_list(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(20))
    with FastLoader(path, **OPTIONS) as loader:
        for it in (loader, loader.epoch(0)):
            with pytest.raises(UsageError, match=r"model\.fit\(loader\.as_dataset\("):
                np.asarray(it)
            with pytest.raises(
                TypeError, match=r"DataLoader\(loader\.as_torch\(\), batch_size=None"
            ):
                it[0]
            assert not hasattr(it, "shape")
            with pytest.raises(UsageError, match=r"predict\(\) and evaluate\(\)") as caught:
                it.shape  # noqa: B018
            kind = caught.type
            assert (kind.__module__, kind.__qualname__) == ("fastloader.errors", "UsageError")
            assert type(pickle.loads(pickle.dumps(caught.value))) is UsageError
        assert len(list(loader)) == 3


def test_keras_and_pytorch_say_what_to_pass_instead(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(20))
    keras = pytest.importorskip("keras")
    data = pytest.importorskip("torch.utils.data")
    model = keras.Sequential([keras.layers.Input((16, 16, 3)), keras.layers.Flatten()])
    model.compile("sgd", "mse")
    with FastLoader(path, **OPTIONS) as loader:
        for use in (model.fit, model.predict, model.evaluate):
            with pytest.raises(UsageError, match=r"loader\.as_dataset\(\)"):
                use(loader)
        for options in ({}, {"batch_size": None}, {"batch_size": 4, "shuffle": True}):
            with pytest.raises(UsageError, match=r"loader\.as_torch\(\), batch_size=None"):
                next(iter(data.DataLoader(loader, **options)))


@needs_sources
def test_the_extras_of_the_package_have_their_names() -> None:
    tomllib = pytest.importorskip("tomllib", reason="of Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert [name.partition(">")[0] for name in extras["pillow"]] == ["pillow"]
    assert [name.partition(">")[0] for name in extras["pillow-simd"]] == ["pillow-simd"]
    assert extras["pictures"] == ["fastloader[pillow]"], "its old name keeps working"
    words = "".join(path.read_text() for path in (ROOT / "fastloader").rglob("*.py"))
    named = {
        name for found in re.findall(r"fastloader\[([\w,-]+)\]", words) for name in found.split(",")
    }
    assert named
    assert named <= set(extras) - {"pictures"}
    assert project["authors"]
    assert len(project["description"]) < 120

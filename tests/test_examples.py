"""Every program of docs/examples runs as a user would run it."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Either
from .support import ROOT, jpeg, simple_rows, table, wait_until
from .tiers import few, full

EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with the programs, the database and the images that they read."""
    for path in EXAMPLES.glob("*.py"):
        shutil.copy(path, tmp_path)
    table(tmp_path / "photos.db", simple_rows(70))
    for i in range(40):
        path = tmp_path / "photos" / f"label{i % 3}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(64, 48, seed=i))
    return tmp_path


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **variables}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment,
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def needs(program: Path) -> None:
    """Skip the test unless the packages that the program imports are installed."""
    for module in re.findall(r"^(?:from|import) (\w+)", program.read_text(), re.MULTILINE):
        is_ours = (EXAMPLES / f"{module}.py").exists()
        if not is_ours and importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def words(name: str) -> list[str]:
    """Return how Python runs a program; see tests/torchvision_names.py."""
    if name not in ("hf_trainer.py", "lightning_datamodule.py"):
        return [name]
    return [
        "-c",
        f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); "
        f"from tests import torchvision_names; runpy.run_path({name!r}, run_name='__main__')",
    ]


PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))


@full
@pytest.mark.parametrize("name", [name for name in PROGRAMS if "postgres" not in name])
def test_an_example_runs(name: str, folder: Path) -> None:
    needs(folder / name)
    if name == "from_directory_after.py":
        ingest = run(folder, "-m", "fastloader", "ingest", "photos", "photos.sqlite")
        assert ingest.returncode == 0, ingest.stderr
    done = run(folder, *words(name))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("either", ["postgres"], indirect=True)
def test_an_example_writes_predictions_to_postgres(folder: Path, either: Either) -> None:
    url = either.table(simple_rows(70))
    done = run(folder, "predict_postgres.py", FASTLOADER_URL=url)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@full
@few(2)
@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("jax_orbax.py", "checkpoints/40"),
        ("hf_trainer.py", "trainer/checkpoint-40/loader.json"),
        ("lightning_datamodule.py", "lightning/step=40.ckpt"),
    ],
)
def test_a_training_that_is_killed_ends_as_if_it_had_not_been(
    tmp_path: Path, name: str, saved: str
) -> None:
    shutil.copy(EXAMPLES / name, tmp_path)
    needs(tmp_path / name)
    table(tmp_path / "photos.db", simple_rows(400))
    whole = run(tmp_path, *words(name))
    assert whole.stdout.splitlines()[-1].startswith("150 steps"), whole.stderr
    shutil.rmtree(tmp_path / Path(saved).parts[0])
    with subprocess.Popen([sys.executable, *words(name)], cwd=tmp_path) as process:
        wait_until((tmp_path / saved).exists, timeout_s=150)  # it imports much
        process.kill()
    assert process.returncode == -signal.SIGKILL
    resumed = run(tmp_path, *words(name))
    assert resumed.stdout.splitlines()[-1] == whole.stdout.splitlines()[-1], resumed.stderr

"""Every example in the documents runs, every link leads somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader, cli

from .conftest import Either
from .servers.cluster import free_ports
from .small_scans import captions, clips, scans
from .support import ROOT, jpeg, simple_rows, table
from .tiers import few, full

tf = pytest.importorskip("tensorflow")

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SERVER = "postgresql://me@dbhost/photos"

# Commands of a shell that are shown and not run: they install, or stand for a user's program.
NOT_RUN = ("apt-get", "pip", "make", "docker", "FASTLOADER_TRACE=trace.json python train.py")


# Ray and several hosts, and every command of the command line, take a minute or two.
LONG = ("several-hosts.md", "command-line.md")


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), re.DOTALL)


def commands(document: Path) -> list[str]:
    lines = (line for block in blocks(document, "sh") for line in block.splitlines())
    return [line for line in lines if not line.startswith(NOT_RUN)]


def those_with(content: Callable[[Path], list[str]]) -> list[Any]:
    return [
        pytest.param(
            path,
            id=path.relative_to(ROOT).with_suffix("").as_posix(),
            marks=full if path.name in LONG else (),
        )
        for path in DOCUMENTS
        if content(path)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a user's folder: a database, the demo's, and images in subfolders."""
    table(tmp_path / "photos.db", simple_rows(70))
    table(tmp_path / "archive.db", simple_rows(30))
    (tmp_path / "demo").mkdir()
    rows = [(key, image, key % 5) for key, image, _ in simple_rows(70)]
    table(tmp_path / "demo" / "pictures.sqlite", rows)
    scans(tmp_path / "scans.db")
    clips(tmp_path / "audio.db")
    captions(tmp_path / "captions.db")
    for i in range(70):
        path = tmp_path / "photos" / f"label{i % 3}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(64, 48, seed=i))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def is_installed(block: str) -> bool:
    """Whether what the block needs of the optional frameworks is there."""
    adapters = (
        r"^from (torch)\b|^import (torch)\b|iter_(torch)_batches|as_(jax)\(|(ray) import"
        r"|^from (accelerate|torchdata|tokenizers|torchvision)\b"
        r"|^import (albumentations|pydicom|soundfile)\b"
    )
    needed = re.findall(adapters, block, re.MULTILINE)
    return all(importlib.util.find_spec("".join(name)) for name in needed)


OF_A_PROCESS = ("adapters.ray", "accelerate", "MultiWorkerMirroredStrategy", "init_process_group")
"""What a process can do once, or had better be rid of afterwards."""


def in_a_process(script: str, folder: Path) -> None:
    (port,) = free_ports(1)
    alone = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1",
        "GLOO_SOCKET_IFNAME": "lo", "RAY_ADDRESS": "local",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env={**os.environ, **alone},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


@few(2, first="README")
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata's call
@pytest.mark.parametrize("either", ["postgres"], indirect=True)
@pytest.mark.parametrize("document", those_with(lambda path: blocks(path, "python")))
def test_the_python_of_a_document_runs(
    document: Path,
    folder: Path,
    either: Either,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from .small_models import model_of_the_documents  # imports TensorFlow

    url = either.table(simple_rows(70))
    monkeypatch.setenv("FASTLOADER_URL", url)
    monkeypatch.setattr(logging.root, "handlers", [])
    # As in a script: its functions go to the workers by value.
    names: dict[str, Any] = {"__name__": "__main__", "model": model_of_the_documents(), "tf": tf}
    torchvision_names = f"{__package__}.torchvision_names"
    loaders: list[FastLoader] = []
    for block in blocks(document, "python"):
        if is_installed(block) and any(word in block for word in OF_A_PROCESS):
            in_a_process(block.replace(SERVER, url), folder)
        elif is_installed(block):
            if "torchvision" in block:
                importlib.import_module(torchvision_names)
                monkeypatch.setenv("FASTLOADER_WORKER_IMPORTS", torchvision_names)
            # fit() says shuffle=True by itself, of which Keras warns that it means nothing here.
            text = block.replace(SERVER, url)
            exec(text.replace(".fit(", ".fit(shuffle=False, verbose=0, x="), names)
        loaders += [value for value in names.values() if isinstance(value, FastLoader)]
    for loader in loaders:
        loader.close()
    assert not (folder / "backup").exists()


def test_the_python_of_the_documents_has_the_types_that_the_package_says(tmp_path: Path) -> None:
    """Under mypy's strict rules, but that a user's functions need no annotations."""
    given = "from typing import Any\n\nimport tensorflow as tf\n\nmodel: Any = None\n"
    files = []
    for document in DOCUMENTS:
        if examples := blocks(document, "python"):
            name = document.relative_to(ROOT).with_suffix("").as_posix().lower()
            files.append(tmp_path / f"{re.sub(r'[^a-z]', '_', name)}.py")
            files[-1].write_text(given + "\n".join(examples))
    options = ["--strict", "--allow-untyped-defs", "--allow-untyped-decorators", "--config-file"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, ROOT / "pyproject.toml", *files],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@few(1, first="README")
@pytest.mark.timeout(600)  # a document has up to twenty commands
@pytest.mark.parametrize("either", ["postgres"], indirect=True)
@pytest.mark.parametrize("document", those_with(commands))
def test_the_commands_of_a_document_run(
    document: Path, folder: Path, either: Either, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All lines of a document run in one shell, except those that an earlier document has.

    ``tune`` and ``bench`` take less time.
    """
    earlier = [line for other in DOCUMENTS[: DOCUMENTS.index(document)] for line in commands(other)]
    lines = [line.replace(SERVER, either.url) for line in commands(document) if line not in earlier]
    bin_folder = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    script = "\n".join(["set -e", *lines])
    if any(line.startswith("fastloader ingest photos/") for line in lines):
        (folder / "photos.db").unlink()
    for slow, fast in (
        ("fastloader tune", "fastloader tune --seconds 0.1 --slots 3 --fetch-bytes 99999"),
        ("fastloader bench", "fastloader bench --seconds 0.1 --rounds 1"),
    ):
        script = script.replace(slow, fast)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


def test_every_command_and_only_those_that_there_are_are_documented() -> None:
    names = {command.name for command in cli.COMMANDS}
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    assert set(re.findall(r"^## `fastloader (\w+)", text, re.MULTILINE)) == names
    for document in DOCUMENTS:
        for line in commands(document):
            words = shlex.split(line, comments=True)
            if words[:1] == ["fastloader"]:
                assert words[1] in names, line


def test_every_link_leads_somewhere() -> None:
    """In the pages of the repository; those of the site are checked in test_site.py."""
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"

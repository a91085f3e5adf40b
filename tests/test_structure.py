"""The documents say what is there. Who may import whom is checked by ``lint-imports``."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

from fastloader.options.config import Config

from .support import ROOT, needs_sources

pytestmark = needs_sources

PACKAGE = ROOT / "fastloader"


def test_the_kernel_knows_no_python() -> None:
    for path in (ROOT / "csrc").iterdir():
        assert "#include <Python.h>" not in path.read_text(), path


def test_importing_has_no_effect_and_pulls_in_nothing_but_numpy() -> None:
    script = """
import sys, threading, numpy, os
fds, path, before = len(os.listdir("/proc/self/fd")), list(sys.path), set(sys.modules)
import fastloader, fastloader.worker.worker
new = {name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names
print(sorted(name for name in new if "cython" not in name))
print(threading.active_count(), path == sys.path)
print(len(os.listdir("/proc/self/fd")) - fds)
"""
    out = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert out.splitlines() == ["['fastloader', 'numpy']", "1 True", "0"]


def test_contributing_shows_the_tree_that_there_is() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    tree = text[text.index("```text") : text.index("```", text.index("```text") + 3)]
    folders = ("fastloader", "csrc", "fuzz")
    everywhere = (*folders, "benchmarks")
    elsewhere = {path.name for folder in everywhere for path in (ROOT / folder).rglob("*")}
    for folder in folders:
        there = {
            path.name
            for path in (ROOT / folder).rglob("*")
            if path.suffix in (".py", ".pyx", ".c") and path.name != "__init__.py"
        }
        named = set(re.findall(r"[\w]+\.(?:py|pyx|c)\b", tree))
        assert there - named - {"_version.py", "__main__.py"} == set()
        assert {name for name in named - elsewhere if not (ROOT / name).exists()} == set()


def test_the_documents_list_every_option_with_its_variable() -> None:
    text = (ROOT / "docs" / "options.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `(FASTLOADER_\w+)` \|", text, re.MULTILINE))
    assert rows == {f.name: f"FASTLOADER_{f.name.upper()}" for f in dataclasses.fields(Config)}


def test_nobody_reads_the_environment_but_config() -> None:
    for path in PACKAGE.rglob("*.py"):
        # process.py hands it on to its workers; doctor.py looks for what it should not have.
        if path.name not in ("config.py", "process.py", "doctor.py"):
            assert "os.environ" not in path.read_text(), path

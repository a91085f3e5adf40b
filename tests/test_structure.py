"""The house is in order: who imports whom, and documents that say what is there."""

from __future__ import annotations

import ast
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastloader.options.config import Config

from .support import ROOT, needs_sources

pytestmark = needs_sources

PACKAGE = ROOT / "fastloader"

# What each module may import of ours while it is being imported itself. What an adapter or a
# method imports when it is called is not held to it.
ALLOWED: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "stats": set(),
    "clock": set(),
    "trace": {"clock", "descriptors"},
    "columns": {"errors"},
    "keys": set(),
    "url": set(),
    "options": {"columns"},
    "machine": set(),
    "config": {"columns", "errors", "machine", "options", "url"},
    "order": set(),
    "plan": {"errors", "keys", "order"},
    "descriptors": set(),
    "limits": {"errors"},
    "pipes": {"descriptors"},
    "ring": {"columns", "descriptors", "errors", "keys", "limits", "machine"},
    "process": {"errors", "limits", "pipes", "ring"},
    "fetch_thread": {"errors"},
    "cache": {
        "_kernel", "_version", "columns", "config", "descriptors", "errors", "keys", "machine",
        "order", "ring",
    },
    "cached": {"cache", "config", "order", "ring", "source"},
    "source": {"columns", "config", "keys"},
    "source.sqlite": {
        "columns", "config", "errors", "keys", "source", "source.sqlitefile", "source.sqlitetable",
        "source.sqlitetypes",
    },
    "source.sqlitefile": {"config", "descriptors", "errors"},
    "source.sqlitetable": {"columns", "config", "errors", "keys", "source"},
    "source.sqlitetypes": {"columns", "errors"},
    "source.postgres": {
        "columns", "config", "errors", "keys", "source", "source._libpq", "source.pgadvice",
        "source.pgconnection", "source.pgread", "source.pgtable", "source.pgtypes",
    },
    "source.pgread": {"keys"},
    "source.pgplan": set(),
    "source.pgkeys": {"columns", "keys", "source.pgtypes"},
    "source.pgadvice": set(),
    "source.pgconnection": {"config", "errors", "source", "source.pgadvice", "url"},
    "source.pgtable": {
        "columns", "config", "errors", "keys", "source", "source._libpq", "source.pgkeys",
        "source.pgplan", "source.pgtypes",
    },
    "source.pgtypes": {"columns", "errors", "keys", "source._libpq"},
    "survey": {
        "cache", "columns", "config", "errors", "imports", "keys", "limits", "pipes", "plan",
        "process", "ring", "source",
    },
    "imports": {"errors"},
    "samples": set(),
    "pillow": {"errors", "samples"},
    "images": {"_kernel", "config", "errors", "imports", "keys", "pillow", "stats"},
    "producer": {
        "cache", "cached", "clock", "columns", "config", "errors", "fetch_thread", "images", "keys",
        "filled", "order", "plan", "ring", "source", "stats",
    },
    "filled": {"clock", "keys", "stats"},
    "worker": {
        "cache", "columns", "config", "errors", "limits", "pipes", "process", "producer", "ring",
        "survey",
    },
    "feeder": {"errors", "filled", "process", "ring"},
    "in_process": {"feeder", "limits", "process", "producer", "ring"},
    "supervisor": {
        "descriptors", "errors", "feeder", "filled", "limits", "pipes", "process", "ring",
    },
    "crew": {
        "cache", "columns", "config", "descriptors", "errors", "feeder", "in_process", "keys",
        "limits", "plan", "process", "producer", "ring", "source", "supervisor", "survey", "worker",
    },
    "progress": {"config", "errors", "feeder", "keys", "plan"},
    "tally": {"batch", "clock", "config", "filled", "keys", "machine", "stats", "trace"},
    "batch": {"config"},
    "delivery": {
        "batch", "clock", "columns", "config", "crew", "errors", "feeder", "process", "progress",
        "ring", "stats", "tally", "trace",
    },
    "loader": {
        "columns", "config", "crew", "delivery", "errors", "keys", "progress", "stats",
    },
    "adapters": set(),
    "adapters.tensorflow": {"batch", "columns", "errors", "feeder"},
    "adapters.keras": {"batch", "errors"},
    "adapters.prometheus": {"errors", "stats"},
    "adapters.torch": {"batch", "columns", "errors"},
    "adapters.jax": {"batch", "columns", "errors"},
    "adapters.ray": {
        "columns", "config", "crew", "errors", "keys", "plan", "producer", "ring", "source",
        "survey",
    },
    # What a command needs to run it imports when it runs.
    "cli": {
        "_version", "cli.bench", "cli.check", "cli.command", "cli.doctor", "cli.ingest", "cli.plan",
        "cli.preview", "cli.tune", "errors",
    },
    "cli.labels": {"cli.command"},
    "cli.database_files": {"cli.command", "config"},
    "cli.folder": {"cli.command", "cli.database_files", "cli.labels"},
    "cli.target": {"cli.labels", "config", "errors"},
    "cli.target_sqlite": {"cli.command", "cli.target", "config", "errors", "source"},
    "cli.target_postgres": {
        "cli.labels", "cli.target", "config", "errors", "source", "source.pgtable", "url",
    },
    "cli.compare": {"cli.command", "cli.folder", "cli.target"},
    "cli.ingest": {
        "cli.command", "cli.compare", "cli.database_files", "cli.folder", "cli.labels",
        "cli.target", "config",
    },
    "cli.plan": {
        "cli.command", "cli.folder", "columns", "config", "crew", "keys", "plan", "producer",
        "ring", "source", "survey",
    },
    "cli.check": {"cli.command", "cli.database_files", "config", "keys", "loader", "stats"},
    "cli.preview": {"cli.command", "cli.database_files", "config", "errors", "loader"},
    "cli.sheet": set(),
    "cli.doctor": {
        "_kernel", "_version", "cli.command", "cli.doctor_database", "config", "errors", "loader",
        "machine", "ring",
    },
    "cli.doctor_database": {"config", "errors", "ring", "survey"},
    "cli.throughput": {"cli.command", "columns", "config", "loader", "source", "stats"},
    "cli.plot": {"cli.command"},
    "cli.bench": {
        "cli.command", "cli.database_files", "cli.plot", "cli.throughput", "config", "machine",
        "stats",
    },
    "cli.tune": {
        "cli.command", "cli.database_files", "cli.plot", "cli.throughput", "config", "machine",
    },
    "cli.command": {"config", "errors"},
    "__main__": {"cli"},
    "": {"_version", "errors", "loader", "stats"},
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports_at_import(path: Path) -> set[str]:
    """Names of our modules that the file imports at its top level."""
    package = path.parent.relative_to(PACKAGE).parts
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            if node.module:
                found.add(".".join((*base, node.module)))
            else:
                found |= {".".join((*base, alias.name)) for alias in node.names}
    # ``from . import Name`` of a package's own __init__ is that package.
    return {name if _is_module(name) else name.rpartition(".")[0] for name in found}


def _is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists() or path.with_suffix(".pyx").exists()


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def test_every_module_has_its_rule() -> None:
    assert set(MODULES) == set(ALLOWED)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_it_may(module: str) -> None:
    assert imports_at_import(MODULES[module]) <= ALLOWED[module]


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

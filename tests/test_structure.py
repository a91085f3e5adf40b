"""The documents say what is there. Who may import whom is checked by ``lint-imports``."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .support import ROOT, needs_sources

pytestmark = needs_sources

PACKAGE = ROOT / "fastloader"
PYPROJECT = ROOT / "pyproject.toml"


def test_the_kernel_knows_no_python() -> None:
    for path in (ROOT / "csrc").iterdir():
        assert "#include <Python.h>" not in path.read_text(), path


def test_no_two_c_files_have_a_static_function_of_the_same_name() -> None:
    """A name in a profile, a debugger or a search result is then one function."""
    files: dict[str, set[str]] = {}
    for path in (ROOT / "csrc").glob("*.c"):
        for name in re.findall(
            r"^(?:\w+ )?static [^;={]*?\b(\w+)\(", path.read_text(), re.MULTILINE
        ):
            files.setdefault(name, set()).add(path.name)
    assert len(files) > 100  # the pattern still finds them
    assert {name: its for name, its in files.items() if len(its) > 1} == {}


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


def test_nothing_is_unpickled() -> None:
    """Workers decode hostile bytes, so whatever one of them sends may be hostile too."""
    unpickling = re.compile(
        r"^\s*(?:import|from) (?:pickle|marshal|shelve|multiprocessing)\b", re.M
    )
    for path in PACKAGE.rglob("*.py"):
        assert not unpickling.search(path.read_text()), path


DESIGN = (ROOT / "docs" / "contributing" / "design.md").read_text()


def test_the_picture_of_the_house_shows_the_floors_that_are_checked() -> None:
    house = re.search(r"```text\n(.*?)```", DESIGN, re.DOTALL)
    assert house
    shown = [re.split(r"  +", line)[0] for line in house[1].splitlines()]
    assert shown == floors()


def test_every_package_has_its_floor() -> None:
    rooms = {name for floor in floors() for name in floor.split(" | ")}
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or is_package(path)}
    assert rooms == there - {"__init__", "__main__"}


def floors() -> list[str]:
    """Return the layers of import-linter, from the top."""
    contract = re.search(r"^layers = \[\n(.*?)^\]", PYPROJECT.read_text(), re.DOTALL | re.MULTILINE)
    assert contract
    return re.findall(r'"(.*)"', contract[1])


def test_the_design_names_every_module() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| (`.*`) \|$", DESIGN, re.MULTILINE)
    shown = {package: set(re.findall(r"`(\w+)`", modules)) for package, modules in rows}
    there = {
        ".".join(folder.relative_to(ROOT).parts).removeprefix("fastloader."): modules_in(folder)
        for folder in (PACKAGE, *filter(is_package, PACKAGE.rglob("*")))
        if modules_in(folder)
    }
    assert shown == there


def modules_in(folder: Path) -> set[str]:
    found = {path.stem for path in folder.iterdir() if path.suffix in (".py", ".pyx")}
    return found - {"__init__", "__main__", "_version"}


def is_package(path: Path) -> bool:
    return (path / "__init__.py").exists()


def test_nobody_reads_the_environment_but_config() -> None:
    for path in PACKAGE.rglob("*.py"):
        # process.py hands it on to its workers; the others look for what it should not have.
        if (
            path.name not in ("config.py", "process.py", "variables.py")
            and path.parent.name != "doctor"
        ):
            assert "os.environ" not in path.read_text(), path

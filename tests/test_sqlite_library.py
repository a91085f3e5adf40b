"""One copy of SQLite in a process: a second one would drop the POSIX locks of the first.

Each test is a program of its own, because a process looks the library up once.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import fastloader

from .support import simple_rows, table
from .tiers import full

MAIN = """
import subprocess, sys
from pathlib import Path

def read(path):
    from fastloader.source.sqlite._sqlite import Database, origin, version
    database = Database(f"file://{path}?mode=ro", 30.0)
    rows = database.execute("SELECT count(*) FROM images")
    database.close()
    return origin, version, rows

def maps(name):
    return {word for word in Path("/proc/self/maps").read_text().split() if name in word}
"""

LOCK = """
import sqlite3, types
path, copy, commit = sys.argv[1:]
ours = sqlite3.connect(path, isolation_level=None)
ours.execute("BEGIN IMMEDIATE")
if copy:  # a second copy of SQLite, as it would be without the search for Python's
    import _sqlite3
    its = types.SimpleNamespace(__file__=copy, sqlite_version=_sqlite3.sqlite_version)
    sys.modules["_sqlite3"] = its
read(path)
print(subprocess.check_output([sys.executable, "-c", commit, path], text=True), end="")
"""

COMMIT = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=0.2, isolation_level=None)
try:
    database.execute("UPDATE images SET label = -1")
except sqlite3.OperationalError as error:
    print(error)
else:
    print("committed")
"""


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, "-c", MAIN + script, *arguments]
    return subprocess.check_output(command, text=True, timeout=200)


def libraries() -> list[str]:
    """Return the SQLite that Python has loaded, if it is a file of its own."""
    return run("import sqlite3; print(*maps('libsqlite3'))").split()


def test_closing_a_database_drops_no_lock_of_pythons_sqlite3(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(3))
    assert run(LOCK, path, "", COMMIT) == "database is locked\n"


def test_a_second_copy_of_sqlite_would_drop_them(tmp_path: Path) -> None:
    """Why the library is shared. Where this fails, it need not be any more."""
    path = table(tmp_path / "t.db", simple_rows(3))
    if not libraries():
        pytest.skip("Python's SQLite is not a file that could be copied")
    copy = shutil.copy(libraries()[0], tmp_path / "copy.so")
    assert run(LOCK, path, str(copy), COMMIT) == "committed\n"


def test_the_library_is_pythons(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(3))
    assert run("print(read(sys.argv[1]))", path) == (
        f"('Python', '{sqlite3.sqlite_version}', [(3,)])\n"
    )


def test_where_python_hides_its_library_there_is_another(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", simple_rows(3))
    script = "sys.modules['_sqlite3'] = None; print(read(sys.argv[1])); print(*maps('libsqlite3'))"
    result, maps = run(script, path).splitlines()
    assert re.fullmatch(r"\('fastloader', '3[.\d]+', \[\(3,\)\]\)", result)
    if "TESTED_WHEEL" in os.environ:
        folder = Path(fastloader.__file__).parent.with_name("fastloader.libs")
        assert {Path(name).parent for name in maps.split()} == {folder}


@full
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="no TensorFlow")
@pytest.mark.parametrize("hidden", ["", "sys.modules['_sqlite3'] = None;"])
@pytest.mark.parametrize("first", ["tensorflow", "sqlite3"])
def test_tensorflows_sqlite_is_never_mixed_with_another(
    tmp_path: Path, first: str, hidden: str
) -> None:
    """Python's sqlite3 calls TensorFlow's functions if that was imported first, and so do we."""
    path = table(tmp_path / "t.db", simple_rows(3))
    script = f"""
import {first}, tensorflow, sqlite3
{hidden}
origin, version, rows = read(sys.argv[1])
print(rows, version == sqlite3.sqlite_version or origin)
"""
    # A wheel's own copy would call TensorFlow's functions, too. It is left alone, and TensorFlow's
    # whole library is used.
    is_own = hidden and first == "sqlite3" and "TESTED_WHEEL" in os.environ
    assert run(script, path) == f"[(3,)] {'another library' if is_own else True}\n"

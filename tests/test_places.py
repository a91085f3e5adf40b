"""It works where people run it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fastloader import FastLoader

from .support import simple_rows, table, unpacked

BODY = """
import fastloader
loader = fastloader.FastLoader({path!r}, size=(32, 32), batch_size=8, workers=2, with_keys=True)
keys = [int(key) for images, _ in loader for key in images["id"]]
print("delivered", len(keys), keys == list(range(3, 301, 3)))
"""
EXPECTED = "delivered 100 True"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to set the scene")


def run(*command: str, **options: object) -> str:
    """Return what the command prints; it must succeed."""
    done = subprocess.run(  # type: ignore[call-overload]
        command, capture_output=True, text=True, timeout=200, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


def test_a_plain_script_without_a_main_guard(small: str, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(BODY.format(path=small))
    assert EXPECTED in run(sys.executable, str(script))


def test_a_folder_with_modules_named_like_the_standard_library(small: str, tmp_path: Path) -> None:
    """The worker's path is its parent's, so the folder it is started in is not on it."""
    for name in ("json.py", "queue.py", "numpy.py"):
        (tmp_path / name).write_text("raise SystemExit('imported the wrong module')")
    script = tmp_path / "elsewhere" / "train.py"
    script.parent.mkdir()
    script.write_text(BODY.format(path=small))
    assert EXPECTED in run(sys.executable, str(script), cwd=tmp_path)


def test_a_notebook_kernel(small: str, tmp_path: Path) -> None:
    """Ipython runs what is piped to it cell by cell, with no file behind ``__main__``."""
    pytest.importorskip("IPython", reason="no IPython: notebooks are not tested")
    out = run(
        sys.executable, "-m", "IPython", "--quick", "--no-banner", "--colors=NoColor",
        input=BODY.format(path=small),
        env={**os.environ, "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert EXPECTED in out


def test_inside_a_thread(small: str) -> None:
    seen: list[int] = []

    def train() -> None:
        with FastLoader(small, size=(8, 8), batch_size=8, workers=2, with_keys=True) as loader:
            seen.extend(key for *_, keys in unpacked(loader) for key in keys.tolist())

    thread = threading.Thread(target=train)
    thread.start()
    thread.join(30)
    assert seen == list(range(3, 301, 3))


def test_a_loader_outlives_the_thread_that_made_it(small: str) -> None:
    made: list[FastLoader] = []
    thread = threading.Thread(target=lambda: made.append(FastLoader(small, workers=2)))
    thread.start()
    thread.join(30)
    with made[0] as loader:
        assert sum(len(images) for images, _ in loader) == 100


@as_root
def test_with_a_dev_shm_of_1_mb(small: str) -> None:
    """A mount namespace of its own, where /dev/shm is what containers give by default, and less."""
    if shutil.which("unshare") is None or subprocess.call(["unshare", "-m", "true"]) != 0:
        pytest.skip("mount namespaces are not allowed here")
    body = BODY.format(path=small).replace("size=(32, 32)", "size=(224, 224)")
    script = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && df -k /dev/shm && exec "$0" -c "$1"'
    out = run("unshare", "-m", "sh", "-c", script, sys.executable, body)
    assert "1024" in out
    assert EXPECTED in out


@as_root
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_as_a_user_who_may_not_write_the_folder(journal: str, tmp_path: Path) -> None:
    """Root without the right to override permissions, in somebody else's folder."""
    setpriv = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    if shutil.which("setpriv") is None or subprocess.call([*setpriv, "true"]) != 0:
        pytest.skip("setpriv is not here, or may not drop capabilities")
    folder = tmp_path / "theirs"
    folder.mkdir()
    path = table(folder / "t.db", simple_rows(100, gap=3))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.close()
    for each in (folder, path):
        os.chown(each, 65534, 65534)
    body = "import os; assert not os.access('.', os.W_OK)" + BODY.format(path="t.db")
    assert EXPECTED in run(*setpriv, sys.executable, "-c", body, cwd=folder)
    assert os.listdir(folder) == ["t.db"]

"""Pillow and pillow-simd: the same module, each in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from .measure import BUILD

NAMES = ("pillow", "pillow-simd")


def install(name: str) -> str | None:
    """Install one of NAMES into its folder, unless it is there. Return why that failed, or None."""
    folder = BUILD / name
    if (folder / "PIL").exists():
        return None
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--no-deps", "--target", str(folder), name],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"cannot install {name} into {os.path.relpath(folder)}: {words}"


def use(name: str) -> None:
    """Make ``import PIL`` import this one in this process from now on.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    folder = BUILD / name
    if not (folder / "PIL").exists():
        raise ImportError(f"no {name} in {os.path.relpath(folder)}")
    sys.path.insert(0, str(folder))

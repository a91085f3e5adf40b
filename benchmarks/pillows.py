"""Pillow and pillow-simd: the same module, each in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from .measure import BUILD

NAMES = ("pillow", "pillow-simd")


def install(name: str) -> str | None:
    """Into its folder, unless it is there. Returns why that was not possible."""
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
    return f"{name} cannot be installed into {os.path.relpath(folder)}: {words}"


def use(name: str) -> None:
    """What ``import PIL`` means in this process from now on. Raises ImportError where it is not
    installed."""
    folder = BUILD / name
    if not (folder / "PIL").exists():
        raise ImportError(f"no {name} in {os.path.relpath(folder)}")
    sys.path.insert(0, str(folder))

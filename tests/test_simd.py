"""The vector instructions of each processor give the bytes of the portable code."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from .support import ROOT

SOURCES = ["view", "writer", "filter", "passes", "sink", "colour"]
FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]


def compiled(compiler: str, folder: Path, *more: str) -> Path:
    program = folder / "compare"
    csrc = ROOT / "csrc"
    sources = [ROOT / "tests" / "compare_passes.c", *(csrc / f"{name}.c" for name in SOURCES)]
    command = [compiler, *FLAGS, *more, f"-I{csrc}", *map(str, sources), "-o", str(program), "-lm"]
    subprocess.run(command, check=True)
    return program


def test_on_this_processor(tmp_path: Path) -> None:
    name = subprocess.check_output([compiled("cc", tmp_path)], text=True).strip()
    if platform.machine() == "x86_64":
        assert name in ("avx2", "portable")
    if platform.machine() == "aarch64":
        assert name == "neon"


# Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64")),
    reason="no compiler and emulator for 64-bit ARM",
)
def test_on_64_bit_arm(tmp_path: Path) -> None:
    program = compiled("aarch64-linux-gnu-gcc", tmp_path, "-static")
    assert subprocess.check_output(["qemu-aarch64", program], text=True).strip() == "neon"

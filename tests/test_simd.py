"""The vector instructions of each processor give the bytes of the portable code."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from .support import ROOT, compiled, needs_sources

pytestmark = needs_sources

SOURCES = [
    ROOT / "tests" / "compare_passes.c",
    *(
        Path(f"{name}.c")
        for name in ("view", "writer", "filter", "passes", "sink", "color", "clock", "memory")
    ),
]


def test_on_this_processor(tmp_path: Path) -> None:
    program = compiled(tmp_path / "compare", SOURCES, "-O3", "-lm")
    name = subprocess.check_output([program], text=True).strip()
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
    program = compiled(
        tmp_path / "compare", SOURCES, "-O3", "-static", "-lm", compiler="aarch64-linux-gnu-gcc"
    )
    assert subprocess.check_output(["qemu-aarch64", program], text=True).strip() == "neon"

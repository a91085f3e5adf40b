"""The fuzzers' body over files that are there, and over mutations of them, under the sanitizers.

``make fuzz`` lets libFuzzer loose on the same body.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from .pg_arrays import pg_arrays
from .small_images import SMALL_IMAGES
from .support import (
    DATA,
    LIBRARIES,
    ROOT,
    SANITIZERS,
    compiled,
    needs_data,
    needs_sources,
    unsanitized_environment,
)

pytestmark = needs_sources


def driver_of(body: str, folder: Path) -> Path:
    """Compile the kernel's C alone, without Python, with the sanitizers."""
    fuzz = ROOT / "fuzz"
    sources = [fuzz / "driver.c", fuzz / body, *(ROOT / "csrc").glob("*.c")]
    compiler = os.environ.get("CC", "cc")
    return compiled(folder / "driver", sources, *SANITIZERS, *LIBRARIES, compiler=compiler)


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driver_of("fuzz.c", tmp_path_factory.mktemp("fuzz"))


def fuzz(driver: Path, mutations: int, seed: int, files: list[Path]) -> int:
    """Return how many inputs were tried. Fail if a sanitizer or the body reports something."""
    done = subprocess.run(
        [driver, str(mutations), str(seed), *map(str, files)],
        env=unsanitized_environment(), capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "runtime error" not in done.stderr
    return int(done.stdout.split()[0])


def test_the_driver_sees_what_the_sanitizers_see(driver: Path) -> None:
    """The driver is compiled with the sanitizers; without a file, it tries no input."""
    symbols = subprocess.check_output(["nm", str(driver)], text=True)
    assert "__asan_init" in symbols
    assert "__ubsan_handle" in symbols
    assert fuzz(driver, 0, 0, [Path("no such file")]) == 0


@pytest.mark.parametrize("seed", range(2))
def test_no_mutation_of_a_small_image_does_harm(driver: Path, seed: int, tmp_path: Path) -> None:
    files = []
    for name, blob in SMALL_IMAGES.items():
        files.append(tmp_path / name)
        files[-1].write_bytes(blob)
    assert fuzz(driver, 8_000, seed, files) == 8_000 + len(files)


def test_no_mutation_of_an_array_does_harm(tmp_path: Path) -> None:
    files = []
    for dtype in ("bool", "int16", "float32", "int64"):
        for shape in ((3,), (2, 0), (2, 3), (1, 2, 1, 1, 3, 1)):
            (blob,) = (pg_arrays([np.ones(shape)], dtype).value(0),)
            files.append(tmp_path / f"{dtype} {shape}.array")
            files[-1].write_bytes(blob)
    files.append(tmp_path / "vector.array")
    files[-1].write_bytes(struct.pack(">HH4f", 4, 0, 1, 2, 3, 4))
    assert fuzz(driver_of("arrays.c", tmp_path), 200_000, 1, files) == 200_000 + len(files)


@needs_data
@pytest.mark.parametrize(
    "kind", [b"\xff\xd8\xff", b"\x89PNG", b"RIFF"], ids=["jpeg", "png", "webp"]
)
def test_no_file_of_the_corpora_and_no_mutation_of_one_does_harm(driver: Path, kind: bytes) -> None:
    files = []
    for path in sorted(p for p in (DATA / "corpora").rglob("*") if p.is_file()):
        with path.open("rb") as file:
            if file.read(len(kind)) == kind:
                files.append(path)
    assert len(files) > 20
    assert fuzz(driver, 1_500, 1, files) >= 1_500

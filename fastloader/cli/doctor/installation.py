"""Checks of what is installed: versions, codecs, Pillow, and the environment's variables."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import sqlite3
from collections.abc import Iterator

import numpy as np

from ..._version import __version__
from ...checks.option import PREFIX
from ...errors import ConfigError
from ...fields import _kernel
from ...options.config import make_config
from ...options.table import OPTIONS
from ...options.variables import unknown_variables
from .finding import FAIL, OK, WARN, Finding
from .sample_images import COLOR, NEAR, SAMPLES, SHAPE

REINSTALL = "reinstall it (pip install --force-reinstall --no-cache-dir)"


def version_of(*names: str) -> str:
    """Return the version of the first of these distributions that is installed, or ""."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def check_versions() -> Iterator[Finding]:
    """Compare the version of the compiled kernel with that of the package."""
    if _kernel.version != __version__:
        yield Finding(
            "versions",
            FAIL,
            f"fastloader is {__version__}, but its kernel was compiled for {_kernel.version}: "
            f"{REINSTALL}",
        )
    yield Finding(
        "versions",
        OK,
        f"fastloader {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"SQLite {sqlite3.sqlite_version}, psycopg2 {version_of('psycopg2-binary', 'psycopg2')}, "
        f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def check_codecs() -> Iterator[Finding]:
    """Decode a small image of each format, and look at how the kernel was compiled."""
    pixels = np.zeros((len(SAMPLES), *SHAPE), np.uint8)
    decoder = _kernel.Decoder(*SHAPE[:2], max_pixels=SHAPE[0] * SHAPE[1])
    failures = {i: message for i, _, message in decoder.decode(list(SAMPLES.values()), pixels)}
    wrong = [
        f"{name}: {failures.get(i, 'wrong pixels')}"
        for i, name in enumerate(SAMPLES)
        if i in failures or np.abs(pixels[i].astype(int) - COLOR).max() > NEAR
    ]
    if wrong:
        yield Finding(
            "codecs",
            FAIL,
            f"{_kernel.libraries}: {'; '.join(wrong)}; fastloader was built with other libraries "
            f"than it finds now: {REINSTALL}",
        )
    else:
        yield Finding("codecs", OK, f"{', '.join(SAMPLES)} by {_kernel.libraries}")
    if decoder.simd == "portable":
        yield Finding(
            "processor", WARN, "neither AVX2 nor NEON: the pixels are the same, resizing is slower"
        )
    else:
        yield Finding("processor", OK, f"{decoder.simd} instructions are used")
    if _kernel.sanitized:
        yield Finding("build", WARN, "with sanitizers, for tests: many times slower; rebuild it")


def check_pillow() -> Iterator[Finding]:
    """Look for Pillow and pillow-simd.

    Both are the same module. If both are installed, pip has mixed their files.
    """
    found = [name for name in ("pillow", "pillow-simd") if version_of(name)]
    if len(found) == 2:
        yield Finding(
            "Pillow",
            FAIL,
            f"pillow and pillow-simd are both installed. Both are the module PIL, so one has "
            f"overwritten files of the other. {_which_pillow(requiring_pillow())}",
        )
    elif not importlib.util.find_spec("PIL"):
        yield Finding(
            "Pillow",
            WARN,
            "not installed: GIF, TIFF, AVIF and the like are bad rows, and preview cannot draw; "
            "run pip install 'fastloader[pillow]'",
        )
    else:
        names = " and ".join(f"{name} {version_of(name)}" for name in found)
        words = f"{names or 'found'}, for formats other than JPEG, PNG and WebP"
        yield Finding("Pillow", OK, words)


def requiring_pillow() -> list[str]:
    """Return the names of the installed distributions that bring Pillow with them."""
    found = set()
    for distribution in importlib.metadata.distributions():
        for requirement in distribution.requires or ():
            name, _, condition = requirement.partition(";")
            if re.match(r"pillow\b(?!-)", name, re.IGNORECASE) and "extra" not in condition:
                found.add(str(distribution.metadata["Name"]))
    return sorted(found, key=str.lower)


def _which_pillow(others: list[str]) -> str:
    remove = "pip uninstall pillow pillow-simd, then pip install 'fastloader[{}]'"
    if not others:
        return f"Nothing else here needs Pillow: run {remove.format('pillow-simd')}"
    names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    return f"{names} would install Pillow again: run {remove.format('pillow')}"


def check_environment() -> Iterator[Finding]:
    """Look for misspelled variables, which have no effect, and for values that are refused."""
    names = [option.variable for option in OPTIONS.values() if option.variable in os.environ]
    yield from (Finding("environment", WARN, message) for message in unknown_variables())
    try:
        make_config({} if PREFIX + "URL" in os.environ else {"url": "none.db"})
    except ConfigError as error:
        yield Finding("environment", FAIL, str(error))
    else:
        yield Finding("environment", OK, ", ".join(names) or "no option is set by a variable")

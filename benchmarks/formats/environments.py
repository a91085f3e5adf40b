"""The environments of the peers: one for each, with pinned releases.

An environment that works has a file that lists what was asked for. If the pins change, the
environment is made again. What cannot be installed is an answer and not an error: the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..measure import BUILD

FOLDER = BUILD / "environments"
STAMP = "installed.txt"
TORCH = ("torch==2.13.0+cpu", "torchvision==0.28.0", "pillow==13.0.0", "psutil==7.2.2")


@dataclass(frozen=True)
class Environment:
    """What a peer needs.

    Attributes
    ----------
    title
        The name of the peer, as its authors write it.
    pins
        The packages from the index.
    from_source
        Packages that are compiled, against those of ``pins`` and without further dependencies.
    system
        Debian's packages, by the names that pkg-config has for them.
    """

    title: str
    pins: tuple[str, ...]
    from_source: tuple[str, ...] = ()
    system: tuple[tuple[str, str], ...] = ()

    @property
    def stamp(self) -> str:
        """Return the text of the file that a complete environment has."""
        return "\n".join((*self.pins, *self.from_source, ""))


# FFCV 1.0.2 is from 2023: it needs NumPy 1 and a Numba that still compiles its code.
ENVIRONMENTS: dict[str, Environment] = {
    "ffcv": Environment(
        "FFCV 1.0.2",
        (
            "torch==2.13.0+cpu", "numpy==1.26.4", "numba==0.60.0",
            "opencv-python-headless==4.10.0.84", "pillow==13.0.0", "psutil==7.2.2",
            "pandas==2.2.3", "tqdm==4.70.1", "assertpy==1.1", "fastargs==1.2.0",
            "terminaltables==3.1.10", "pytorch-pfn-extras==0.9.0", "setuptools==79.0.1",
            "wheel==0.45.1",
        ),
        ("ffcv==1.0.2",),
        (("opencv4", "libopencv-dev"), ("libturbojpeg", "libturbojpeg0-dev")),
    ),
    "dali": Environment(
        "DALI 2.4", ("nvidia-dali-cuda120==2.4.0", "numpy==2.4.6", "psutil==7.2.2")
    ),
    "litdata": Environment("LitData 0.2.76", ("litdata==0.2.76", *TORCH)),
    "webdataset": Environment("WebDataset 1.0.2", ("webdataset==1.0.2", *TORCH)),
    "mosaic": Environment("Mosaic Streaming 0.13", ("mosaicml-streaming==0.13.0", *TORCH)),
    "lancedb": Environment(
        "LanceDB 0.40", ("lancedb==0.40.0", "pylance==14.0.2", *TORCH)
    ),
}  # fmt: skip


def python_of(name: str, folder: Path = FOLDER) -> Path:
    """Return the interpreter of an environment."""
    return folder / name / "bin" / "python"


def is_installed(name: str, environment: Environment, folder: Path = FOLDER) -> bool:
    """Return whether the environment has what is asked for now."""
    try:
        return (folder / name / STAMP).read_text(encoding="utf-8") == environment.stamp
    except FileNotFoundError:
        return False


def install(name: str, environment: Environment, folder: Path = FOLDER) -> str | None:
    """Make the environment, unless it is there. Return why that failed, or None."""
    if is_installed(name, environment, folder):
        return None
    if why := _system_packages(environment.system):
        return why
    shutil.rmtree(folder / name, ignore_errors=True)
    pip = [str(python_of(name, folder)), "-m", "pip", "install", "-q"]
    steps = [[sys.executable, "-m", "venv", str(folder / name)], [*pip, *environment.pins]]
    if environment.from_source:
        steps += [[*pip, "--no-deps", "--no-build-isolation", *environment.from_source]]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"not installed: {reason(done.stderr, done.returncode)}"
    (folder / name / STAMP).write_text(environment.stamp, encoding="utf-8")
    return None


def reason(errors: str, code: int) -> str:
    """Return the line that says best why a program failed, without the paths of this machine.

    pip marks it with ERROR, and adds hints after it. A traceback ends with it.
    """
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    marked = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    line = (marked or lines or [f"exit code {code}"])[-1]
    return line.replace(str(BUILD.parent.parent), ".")[:300]


def _system_packages(needed: tuple[tuple[str, str], ...]) -> str | None:
    """Install Debian's packages that are missing. Return why that failed, or None."""
    if not needed:
        return None
    packages = [package for name, package in needed if not _has(name)]
    if not packages:
        return None
    wanted = " and ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"not installed: it needs {wanted}, and this is not root on a Debian system"
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "pkg-config", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"not installed: {wanted}: {reason(done.stderr, done.returncode)}"
    return None


def _has(library: str) -> bool:
    if shutil.which("pkg-config") is None:
        return False
    return subprocess.run(["pkg-config", "--exists", library], check=False).returncode == 0

"""What is tested is what is shipped: the wheel, away from its sources and from any compiler."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastloader
from fastloader.fields import _kernel

from .support import ROOT

pytestmark = pytest.mark.skipif(
    "TESTED_WHEEL" not in os.environ, reason="this is not a wheel: see make test"
)

CODECS = {"libjpeg-turbo": "libjpeg", "libwebp": "libwebp", "ISA-L": "libisal"}
"""What each is called in ``_kernel.libraries`` and as a file."""


@pytest.fixture
def wheel() -> importlib.metadata.Distribution:
    return importlib.metadata.distribution("fastloader")


def test_the_package_is_that_of_the_wheel(wheel: importlib.metadata.Distribution) -> None:
    package = Path(fastloader.__file__).parent
    assert package.is_relative_to(sys.prefix)
    assert not (ROOT / "fastloader").exists()
    assert "editable" not in (wheel.read_text("direct_url.json") or "")
    name = os.environ["TESTED_WHEEL"]
    assert name.startswith(f"fastloader-{wheel.version}-")
    assert wheel.version == fastloader.__version__ == _kernel.version


def test_every_file_is_as_it_was_packed(wheel: importlib.metadata.Distribution) -> None:
    files = [file for file in wheel.files or [] if file.hash is not None]
    assert len(files) > 50
    for file in files:
        assert file.hash is not None
        digest = hashlib.new(file.hash.mode, file.locate().read_bytes()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == file.hash.value, file


def test_the_codecs_are_those_of_the_wheel() -> None:
    """In a process of its own: Pillow brings some along, too."""
    program = "import fastloader.fields._kernel; print(open('/proc/self/maps').read())"
    maps = subprocess.check_output([sys.executable, "-c", program], text=True)
    libraries = Path(fastloader.__file__).parent.with_name("fastloader.libs")
    for file in CODECS.values():
        loaded = set(re.findall(rf"/\S*/{file}\S*", maps))
        assert {Path(path).parent for path in loaded} == {libraries}, file


def test_the_wheel_says_what_is_inside(wheel: importlib.metadata.Distribution) -> None:
    """The bill of materials has the versions that the kernel reports; the licences are there."""
    (found,) = [file for file in wheel.files or [] if file.name.endswith(".cdx.json")]
    components = json.loads(found.read_text())["components"]
    text = " ".join(f"{part['name']} {part['version']}" for part in components)
    versions = dict(re.findall(r"([\w-]+) ([\d.]+)", _kernel.libraries))
    for codec, file in CODECS.items():
        assert re.search(rf"{file}\S* \S*{re.escape(versions[codec])}", text), (codec, text)
    licences = {file.name for file in wheel.files or [] if "licenses" in file.parts}
    assert {"LICENSE", "libjpeg-turbo.txt", "libwebp.txt", "isa-l.txt", "sqlite.txt"} <= licences


def test_there_is_no_compiler() -> None:
    assert [name for name in ("cc", "gcc", "clang", "c99") if shutil.which(name)] == []

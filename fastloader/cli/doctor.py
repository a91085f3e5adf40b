"""``fastloader doctor``."""

from __future__ import annotations

import argparse
import base64
import difflib
import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import ConfigError
from ..fields import _kernel
from ..loader import FastLoader
from ..options.config import Config, make_config
from ..system.machine import available_bytes, cores
from ..transport.memory import create_memory
from .command import DONE, FOUND, Outcome, progress, size_text
from .doctor_database import FAIL, OK, WARN, Finding, check_database

SCARCE_BYTES = 1 << 30
FEW_DESCRIPTORS = 256

REPORT_TIMEOUT_S = 120.0
"""A framework that has not even been imported by then says nothing more."""

PREFIX = "FASTLOADER_"

SAMPLES = {
    name: base64.b85decode(text)
    for name, text in {
        "JPEG": "|JeWF01!$>Nk#wx0RR9200961|JwjV03a3^92gWJ92y)XA|NI(P&6<sEHGk5N;*(<W_oyXW^itRkhq+H"
        "h^~rmaG=_vuD-<1(9V3C;_~3@gVLs(#{b&@LjfWrBrqy4UNkgb#)NQ$#>U3R#>U3R#>U3R#>U3R#>U3R"
        "#>U3R#>U3R#>U3R#>U3R#>U3R#>U3R#>U3R#>W4^01*fP5C9MZ0U`hb5di}c0sq7R6#xMN0000000000"
        "0000000002|HJ?k5CH%H0000000000000000095Q02BcM00000000000000000004|HJ?k5di=I00000"
        "00000000000095m01N{G00I#M5dc2`paU)c*#",
        "PNG": "iBL{Q4GJ0x0000DNk~Le0000G0000G2m$~A0FaSrHUIzs8A(JzRCt_YJW-*+Knh?YN%g3PQ4K>%0|0=W"
        "0f;$rE&Tuh002ovPDHLkV1f",
        "WebP": "Qb|Te9smFUS4BclR!}%h5dZ)HFAu;200&UKA{V9qfr#jT000",
    }.items()
}
"""16 x 16 pixels of one colour in each format that the kernel decodes."""

COLOUR = (200, 120, 40)
NEAR = 8


class Doctor:
    """Checks the machine, the installation and, given a URL, the connection.

    Versions, codecs, the processor's instructions, cores and memory as control group and affinity
    leave them, shared memory, a loader on a table of its own, whether TensorFlow takes batches
    without a copy, the devices that frameworks see. Each is ok, warn or fail, with what to do. The
    exit code is 1 if anything fails.
    """

    name = "doctor"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "url", nargs="?", help="of a database to look at too; its table as FASTLOADER_... say"
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        checks: list[Callable[[], Iterable[Finding]]] = [
            _versions, _environment, _kernel_works, _pillow, _cores, _memory, _shared_memory,
            _descriptors, _loader_works, _tensorflow, _torch, _jax,
        ]  # fmt: skip
        if arguments.url is not None or "FASTLOADER_URL" in os.environ:
            checks.append(lambda: check_database(arguments.url))
        findings: list[Finding] = []
        for check in progress(checks, "Checking", unit="checks"):
            try:
                findings += check()
            except Exception as error:
                what = check.__name__.strip("_").replace("_", " ")
                findings.append(Finding(what, FAIL, f"{type(error).__name__}: {error}"))
        failed = any(found.status == FAIL for found in findings)
        return Outcome(
            "\n".join(f"{f.status:4}  {f.what:14}  {f.words}" for f in findings),
            {"findings": [found._asdict() for found in findings]},
            FOUND if failed else DONE,
        )


# ---- what is installed ---------------------------------------------------------------------------


def _versions() -> Iterator[Finding]:
    if _kernel.version != __version__:
        yield Finding(
            "versions",
            FAIL,
            f"fastloader is {__version__}, and its kernel was compiled for {_kernel.version}: "
            f"install it anew (pip install --force-reinstall --no-cache-dir)",
        )
    yield Finding(
        "versions",
        OK,
        f"fastloader {__version__}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"SQLite {sqlite3.sqlite_version}, psycopg2 {_version('psycopg2-binary', 'psycopg2')}, "
        f"{platform.system()} {platform.release()} {platform.machine()}",
    )


def _kernel_works() -> Iterator[Finding]:
    pixels = np.zeros((len(SAMPLES), 16, 16, 3), np.uint8)
    decoder = _kernel.Decoder(16, 16, max_pixels=256)
    failures = {i: message for i, _, message in decoder.decode(list(SAMPLES.values()), pixels)}
    wrong = [
        f"{name}: {failures.get(i, 'wrong pixels')}"
        for i, name in enumerate(SAMPLES)
        if i in failures or np.abs(pixels[i].astype(int) - COLOUR).max() > NEAR
    ]
    if wrong:
        yield Finding(
            "codecs",
            FAIL,
            f"{_kernel.libraries}: {'; '.join(wrong)}; fastloader was built with other libraries "
            "than it finds now: install it anew (pip install --force-reinstall --no-cache-dir)",
        )
    else:
        yield Finding("codecs", OK, f"{', '.join(SAMPLES)} by {_kernel.libraries}")
    if decoder.simd == "portable":
        yield Finding(
            "processor", WARN, "neither AVX2 nor NEON: the same pixels, resized in more time"
        )
    else:
        yield Finding("processor", OK, f"{decoder.simd} instructions are used")
    if _kernel.sanitized:
        yield Finding("build", WARN, "with sanitizers, for tests: many times slower; build anew")


def _pillow() -> Iterator[Finding]:
    """pillow-simd and Pillow are the same module; where both are, some files are of one and some of
    the other."""
    found = [name for name in ("pillow", "pillow-simd") if _version(name)]
    if len(found) == 2:
        yield Finding(
            "Pillow",
            FAIL,
            "both pillow and pillow-simd are installed, over each other; pip uninstall pillow "
            "pillow-simd, then install one of them",
        )
    elif not importlib.util.find_spec("PIL"):
        yield Finding(
            "Pillow",
            WARN,
            "not installed: GIF, TIFF, AVIF and the like are bad rows, preview draws nothing; pip "
            "install 'fastloader[pictures]'",
        )
    else:
        names = " and ".join(f"{name} {_version(name)}" for name in found)
        yield Finding("Pillow", OK, f"{names or 'found'}, for what is neither JPEG, PNG nor WebP")


def _version(*names: str) -> str:
    """Of the first of these distributions that is installed, or nothing."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _environment() -> Iterator[Finding]:
    """A variable with a typing error would do nothing, in silence."""
    names = sorted(name for name in os.environ if name.startswith(PREFIX))
    options = [field.name for field in fields(Config)]
    for name in names:
        option = name.removeprefix(PREFIX).lower()
        if option not in options:
            near = difflib.get_close_matches(option, options, 1)
            hint = f"; is {PREFIX}{near[0].upper()} meant?" if near else ""
            yield Finding("environment", WARN, f"{name} is no option and does nothing{hint}")
    try:
        make_config({} if PREFIX + "URL" in os.environ else {"url": "none.db"})
    except ConfigError as error:
        yield Finding("environment", FAIL, str(error))
    else:
        yield Finding("environment", OK, ", ".join(names) or f"no {PREFIX} variables are set")


# ---- what the machine gives ----------------------------------------------------------------------


def _cores() -> Iterator[Finding]:
    mine, all_of_them = cores(), os.cpu_count() or 1
    words = f"this process may use {mine} of {all_of_them}"
    if mine == 1 < all_of_them:
        words += "; decoding is what needs them: look at the container's limit and at taskset"
    yield Finding("cores", WARN if mine == 1 else OK, f"{words}; workers={mine} by default")


def _memory() -> Iterator[Finding]:
    left = available_bytes()
    words = f"{size_text(left)} may still be allocated here"
    if left < SCARCE_BYTES:
        yield Finding("memory", WARN, f"{words}; take small batches, few workers and slots=2")
    else:
        yield Finding("memory", OK, words)


def _shared_memory() -> Iterator[Finding]:
    try:
        with create_memory("doctor") as memory:
            memory.truncate(1 << 20)
            written = os.pwrite(memory.fileno(), b"1", (1 << 20) - 1)
    except OSError as error:
        yield Finding(
            "shared memory",
            FAIL,
            f"memfd_create: {error.strerror}; the ring needs it: allow it in the container's "
            "seccomp profile",
        )
    else:
        assert written == 1
        yield Finding("shared memory", OK, "memfd works; /dev/shm is not used, whatever its size")


def _descriptors() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEW_DESCRIPTORS:
        yield Finding("descriptors", WARN, f"{soft} open files; ulimit -n {min(hard, 1024)}")
    else:
        yield Finding("descriptors", OK, "no limit" if soft < 0 else f"{soft} open files")


# ---- whether it works ----------------------------------------------------------------------------


def loader_report() -> dict[str, Any]:
    """A table, a worker process, the ring, and no copy on the way."""
    with tempfile.TemporaryDirectory() as folder, _loader(folder) as loader:
        shapes = [list(images.shape) for images, _ in loader]
        return {"shapes": shapes, "copies": loader.stats().copies}


def tensorflow_report() -> dict[str, Any]:
    """Whether a batch that came through tf.data lies in the ring still, too."""
    import tensorflow as tf

    aliased = []
    with tempfile.TemporaryDirectory() as folder, _loader(folder) as loader:
        for images, _ in loader.as_dataset():
            address = np.asarray(memoryview(images)).ctypes.data
            aliased.append(loader.delivery.aliases(address))
            del images
    gpus = [device.name for device in tf.config.list_physical_devices("GPU")]
    return {"version": tf.__version__, "gpus": gpus, "aliased": aliased == [True]}


def _loader(folder: str) -> FastLoader:
    """Of a new table with the samples, as one batch."""
    path = Path(folder) / "doctor.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, image_data, label)")
        rows = enumerate(SAMPLES.values(), 1)
        connection.executemany("INSERT INTO images VALUES (?1, ?2, ?1)", rows)
    connection.close()
    return FastLoader(str(path), size=(16, 16), batch_size=len(SAMPLES), workers=1)


def torch_report() -> dict[str, Any]:
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"version": torch.__version__, "gpus": gpus}


def jax_report() -> dict[str, Any]:
    import jax

    gpus = [str(device) for device in jax.devices() if device.platform != "cpu"]
    return {"version": jax.__version__, "gpus": gpus}


def _loader_works() -> Iterator[Finding]:
    report = _report("loader")
    if isinstance(report, str):
        yield Finding("loader", FAIL, report)
    elif report == {"shapes": [[len(SAMPLES), 16, 16, 3]], "copies": 0}:
        yield Finding("loader", OK, "a worker has delivered a batch through shared memory")
    else:
        yield Finding("loader", FAIL, f"a batch came as {report}; please report this")


def _tensorflow() -> Iterator[Finding]:
    if _version("tensorflow") and _version("tensorflow-cpu"):
        yield Finding(
            "TensorFlow",
            FAIL,
            "both tensorflow and tensorflow-cpu are installed, over each other; uninstall both, "
            "then install one",
        )
    yield from _framework("TensorFlow", "tensorflow")


def _torch() -> Iterator[Finding]:
    yield from _framework("PyTorch", "torch")


def _jax() -> Iterator[Finding]:
    yield from _framework("JAX", "jax")


def _framework(name: str, module: str) -> Iterator[Finding]:
    if not importlib.util.find_spec(module):
        return
    report = _report(module)
    if isinstance(report, str):
        yield Finding(name, FAIL, f"{report}; python -c 'import {module}' may say more")
        return
    gpus = ", ".join(report["gpus"])
    yield Finding(name, OK, f"{report['version']}, {gpus or 'which sees no GPU'}")
    if report.get("aliased") is True:
        yield Finding("hand-over", OK, f"{name} takes batches from the ring without a copy")
    elif report.get("aliased") is False:
        yield Finding(
            "hand-over",
            WARN,
            f"{name} {report['version']} copies every batch: right, and slower; please report it",
        )


def _report(name: str) -> dict[str, Any] | str:
    """What ``{name}_report`` says in a process of its own, or why it says nothing. Frameworks are
    large, may crash, and would take all of a GPU's memory."""
    code = f"import json; from {__name__} import *; print(json.dumps({name}_report()))"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    environment |= {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=REPORT_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {REPORT_TIMEOUT_S:.0f} s"
    if done.returncode:
        how = f"exit code {done.returncode}"
        if done.returncode < 0:
            how = f"ended by {signal.Signals(-done.returncode).name}"
        return (done.stderr.decode(errors="replace").strip().splitlines() or [how])[-1]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report

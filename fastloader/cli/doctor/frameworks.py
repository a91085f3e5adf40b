"""Checks that a loader works, and which devices TensorFlow, PyTorch and JAX see.

Each check starts a process of its own (``reports.py``): frameworks are large, may crash, and would
take all of a GPU's memory.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from ...checks.option import PREFIX
from .finding import FAIL, OK, WARN, Finding
from .installation import version_of
from .sample_images import SAMPLES, SHAPE

REPORT_TIMEOUT_S = 120.0
"""A framework that takes longer than this to import counts as hanging."""


def check_loader() -> Iterator[Finding]:
    """Deliver a batch through a worker process and the ring."""
    report = report_of("loader")
    if isinstance(report, str):
        yield Finding("loader", FAIL, report)
    elif report == {"shapes": [[len(SAMPLES), *SHAPE]], "copies": 0}:
        yield Finding("loader", OK, "a worker has delivered a batch through shared memory")
    else:
        yield Finding("loader", FAIL, f"a batch came as {report}; please report this")


def check_tensorflow() -> Iterator[Finding]:
    """Import TensorFlow, and check that it takes a batch without a copy."""
    if version_of("tensorflow") and version_of("tensorflow-cpu"):
        yield Finding(
            "TensorFlow",
            FAIL,
            "tensorflow and tensorflow-cpu are both installed and overwrite each other; uninstall "
            "both, then install one",
        )
    yield from check_framework("TensorFlow", "tensorflow")


def check_torch() -> Iterator[Finding]:
    """Import PyTorch, if it is installed."""
    yield from check_framework("PyTorch", "torch")


def check_jax() -> Iterator[Finding]:
    """Import JAX, if it is installed."""
    yield from check_framework("JAX", "jax")


def check_framework(name: str, module: str) -> Iterator[Finding]:
    """Import a framework, if it is installed, and list the GPUs that it sees."""
    if not importlib.util.find_spec(module):
        return
    report = report_of(module)
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
            f"{name} {report['version']} copies every batch: correct, but slower; please report it",
        )


def report_of(name: str) -> dict[str, Any] | str:
    """Return the report of that name from its process, or why there is none."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
    environment |= {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    command = [sys.executable, "-m", "fastloader.cli.doctor.reports", name]
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

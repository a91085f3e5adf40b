"""The command ``fastloader doctor``: runs all checks and prints what they find."""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Callable, Iterable

from ...checks.option import PREFIX
from ..command import DONE, FOUND, Outcome, progress
from .database import check_database
from .finding import FAIL, Finding
from .frameworks import check_jax, check_loader, check_tensorflow, check_torch
from .installation import check_codecs, check_environment, check_pillow, check_versions
from .resources import check_cores, check_descriptors, check_memory, check_shared_memory

CHECKS: dict[str, Callable[[], Iterable[Finding]]] = {
    "versions": check_versions,
    "environment": check_environment,
    "codecs": check_codecs,
    "Pillow": check_pillow,
    "cores": check_cores,
    "memory": check_memory,
    "shared memory": check_shared_memory,
    "descriptors": check_descriptors,
    "loader": check_loader,
    "TensorFlow": check_tensorflow,
    "PyTorch": check_torch,
    "JAX": check_jax,
}
"""The checks in the order of the report, by what they look at."""


class Doctor:
    """Checks the machine, the installation and, given a URL, the connection.

    Versions, codecs, the processor's instructions, the cores and the memory that control group and
    affinity leave, shared memory, a loader on a table of its own, whether TensorFlow takes batches
    without a copy, the devices that frameworks see. Each is ok, warn or fail, with what to do. The
    exit code is 1 if anything fails.
    """

    name = "doctor"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the URL."""
        parser.add_argument(
            "url",
            nargs="?",
            help="of a database to check too; the variables FASTLOADER_... name its table",
        )

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Run all checks. One that raises is a failure, and the others still run."""
        checks = dict(CHECKS)
        if arguments.url is not None or PREFIX + "URL" in os.environ:
            checks["database"] = functools.partial(check_database, arguments.url)
        findings: list[Finding] = []
        for what, check in progress(checks.items(), "Checking", total=len(checks), unit="checks"):
            try:
                findings += check()
            except Exception as error:
                findings.append(Finding(what, FAIL, f"{type(error).__name__}: {error}"))
        failed = any(found.status == FAIL for found in findings)
        return Outcome(
            "\n".join(f"{f.status:4}  {f.what:14}  {f.words}" for f in findings),
            {"findings": [found._asdict() for found in findings]},
            FOUND if failed else DONE,
        )

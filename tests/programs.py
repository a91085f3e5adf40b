"""What tests do in other processes: programs of their own, and forks of this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from .support import ROOT

PREAMBLE = """
import gc, os, random, signal, sys, threading, time
import fastloader
from fastloader import FastLoader
path, workers = sys.argv[1], int(sys.argv[2])
def make(**options):
    options = {"size": (32, 32), "batch_size": 4, "workers": workers, "slots": 3, **options}
    return FastLoader(path, **options)
"""


def run(script: str, path: str, workers: int, *, preamble: str = PREAMBLE) -> str:
    """Return what the program prints; it must end in time, with exit code 0 and no complaint."""
    done = subprocess.run(
        [sys.executable, "-c", preamble + textwrap.dedent(script), path, str(workers)],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def in_a_fork(what: Callable[[], object]) -> None:
    """Call it in a fork of this process, and fail the test if it raises or hangs."""
    pid = os.fork()
    if pid == 0:
        try:
            what()
            os._exit(0)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    deadline = time.monotonic() + 20
    while (found := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            pytest.fail("the fork hangs")
        time.sleep(0.005)
    assert found[1] == 0


def on_hosts(
    commands: list[list[str]],
    environments: list[dict[str, str]],
    popens: Sequence[Callable[..., Any]] | None = None,
) -> list[Any]:
    """Run processes at the same time, and return what each prints last, as JSON."""
    popens = popens or [subprocess.Popen] * len(commands)
    processes = [
        popen(
            [sys.executable, *command], cwd=ROOT, env={**os.environ, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for popen, command, environment in zip(popens, commands, environments, strict=True)
    ]  # fmt: skip
    try:
        found = []
        for process in processes:
            out, errors = process.communicate(timeout=200)
            assert process.returncode == 0, errors
            found.append(json.loads(out.splitlines()[-1]))
        return found
    finally:
        for process in processes:
            process.kill()
            process.communicate()  # which closes the pipes

"""Checks of what the machine grants this process: cores, memory, shared memory, descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

from ...system.machine import available_bytes, cores
from ...transport.memory import create_memory
from ..command import size_text
from .finding import FAIL, OK, WARN, Finding

SCARCE_BYTES = 1 << 30
FEW_DESCRIPTORS = 256


def check_cores() -> Iterator[Finding]:
    """Compare the cores that this process may use with those of the machine."""
    mine, all_of_them = cores(), os.cpu_count() or 1
    words = f"this process may use {mine} of {all_of_them}"
    if mine == 1 < all_of_them:
        words += "; decoding needs more: look at the container's limit and at taskset"
    yield Finding("cores", WARN if mine == 1 else OK, f"{words}; workers={mine} by default")


def check_memory() -> Iterator[Finding]:
    """Look at the memory that can still be allocated."""
    left = available_bytes()
    words = f"{size_text(left)} may still be allocated here"
    if left < SCARCE_BYTES:
        yield Finding("memory", WARN, f"{words}; use small batches, few workers and slots=2")
    else:
        yield Finding("memory", OK, words)


def check_shared_memory() -> Iterator[Finding]:
    """Create a file in memory as the ring does, and write to it."""
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


def check_descriptors() -> Iterator[Finding]:
    """Look at the limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEW_DESCRIPTORS:
        yield Finding(
            "descriptors", WARN, f"{soft} open files; raise it: ulimit -n {min(hard, 1024)}"
        )
    else:
        yield Finding("descriptors", OK, "no limit" if soft < 0 else f"{soft} open files")

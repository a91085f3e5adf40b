"""Which part of the machine this process may use: affinity, and the control group of a container.

Both versions of control groups are read (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1 of
the Linux kernel). A limit of any group above the process's own applies to it too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """Return the number of cores that this process may keep busy, at least 1.

    It is bounded by the affinity and by the quota of the control group, which is rounded up.

    Parameters
    ----------
    root
        Where ``/proc`` and ``/sys`` are, for tests.
    """
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, _quotas(root))]))


def available_bytes(root: Path = ROOT) -> int:
    """Return how much memory may still be allocated, by the machine and by the control group.

    An allocation beyond a control group's limit does not fail; the kernel kills a process instead.

    Parameters
    ----------
    root
        Where ``/proc`` and ``/sys`` are, for tests.
    """
    available = 1 << 62
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    return max(0, min([available, *_left(root)]))


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores of every control group that limits them."""
    for group in _groups(root, ""):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period)
    for group in _groups(root, "cpu"):
        quota = _read(group / "cpu.cfs_quota_us").strip()
        if quota.isdigit():  # -1 is no limit
            yield int(quota) / int(_read(group / "cpu.cfs_period_us"))


def _left(root: Path) -> Iterator[int]:
    """Yield the bytes that are left in every control group that limits memory."""
    names = {"": ("memory.max", "memory.current"), "memory": ("limit_in_bytes", "usage_in_bytes")}
    for controller, (limit, usage) in names.items():
        prefix = "memory." if controller else ""
        for group in _groups(root, controller):
            most, used = _read(group / (prefix + limit)), _read(group / (prefix + usage))
            if most.strip().isdigit() and used.strip().isdigit():
                yield int(most) - int(used) + _reclaimable(group)


def _reclaimable(group: Path) -> int:
    """Return the bytes of inactive page cache, which count as used and are freed on demand."""
    for line in _read(group / "memory.stat").splitlines():
        name, _, size = line.partition(" ")
        # Version 1 has both names, and the total is the right one there.
        if name in ("inactive_file", "total_inactive_file"):
            found = int(size)
            if name.startswith("total") or not _read(group / "memory.limit_in_bytes"):
                return found
    return 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those above it that are visible.

    ``controller`` is one of version 1, or "" for version 2.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller not in names.split(","):
            continue
        mounts = [root / "sys/fs/cgroup" / names, root / "sys/fs/cgroup" / controller]
        for mount in dict.fromkeys(mounts if controller else mounts[:1]):
            # In a container the path may be the host's, and only the mount itself may exist.
            folder = mount / path.lstrip("/")
            yield from (g for g in (folder, *folder.parents) if g == mount or mount in g.parents)


def _read(path: Path) -> str:
    """Return the file's text, or "" if it does not exist or cannot be read."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""

"""What of the machine this process may use: control groups, as containers have them, and affinity.

Both versions of control groups are read (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1 of
the Linux kernel). A limit of any group above ours is ours too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """The cores that this process may keep busy: its affinity, and the quota of its control group,
    rounded up. At least 1."""
    return max(1, min([len(os.sched_getaffinity(0)), *map(math.ceil, _quotas(root))]))


def available_bytes(root: Path = ROOT) -> int:
    """The memory that may still be allocated: the machine's, and the control group's.

    Over a control group's limit an allocation does not fail, the kernel kills somebody.
    """
    available = 1 << 62
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    return max(0, min([available, *_left(root)]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores, of every control group that has a limit."""
    for group in _groups(root, ""):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period)
    for group in _groups(root, "cpu"):
        quota = _read(group / "cpu.cfs_quota_us").strip()
        if quota.isdigit():  # -1 is no limit
            yield int(quota) / int(_read(group / "cpu.cfs_period_us"))


def _left(root: Path) -> Iterator[int]:
    """Bytes, of every control group that has a limit."""
    names = {"": ("memory.max", "memory.current"), "memory": ("limit_in_bytes", "usage_in_bytes")}
    for controller, (limit, usage) in names.items():
        prefix = "memory." if controller else ""
        for group in _groups(root, controller):
            most, used = _read(group / (prefix + limit)), _read(group / (prefix + usage))
            if most.strip().isdigit() and used.strip().isdigit():
                yield int(most) - int(used) + _reclaimable(group)


def _reclaimable(group: Path) -> int:
    """The page cache that nobody has used lately, which counts as used and is given up."""
    for line in _read(group / "memory.stat").splitlines():
        name, _, size = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):  # version 1 has both; take the total
            found = int(size)
            if name.startswith("total") or not _read(group / "memory.limit_in_bytes"):
                return found
    return 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folder of this process's control group and those above it, as far as they can be seen.

    controller: of version 1; "" for version 2.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller not in names.split(","):
            continue
        mounts = [root / "sys/fs/cgroup" / names, root / "sys/fs/cgroup" / controller]
        for mount in dict.fromkeys(mounts if controller else mounts[:1]):
            # In a container the path may be that of the host, and only the mount itself be there.
            folder = mount / path.lstrip("/")
            yield from (g for g in (folder, *folder.parents) if g == mount or mount in g.parents)


def _read(path: Path) -> str:
    """The file, or nothing where there is none or it may not be read."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""

"""What a container may use is what its control groups say, in either version of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastloader.system import machine

MIB = 1 << 20
AFFINITY = len(os.sched_getaffinity(0))


def tree(root: Path, files: dict[str, str]) -> Path:
    """Write the files under root, and 1000 MiB of available memory."""
    meminfo = f"MemTotal: 4096000 kB\nMemAvailable: {1000 * 1024} kB\n"
    for name, text in {"proc/meminfo": meminfo, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(group: str, **files: str) -> dict[str, str]:
    found = {
        f"sys/fs/cgroup{group}/{name.replace('__', '.')}": text for name, text in files.items()
    }
    return {"proc/self/cgroup": "0::/user/app\n", **found}


def v1(**files: str) -> dict[str, str]:
    groups = "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n1:name=systemd:/docker/1\n"
    names = {name.replace("__", "."): text for name, text in files.items()}
    return {
        "proc/self/cgroup": groups,
        **{
            f"sys/fs/cgroup/{'cpu,cpuacct' if name.startswith('cpu') else 'memory'}/{name}": text
            for name, text in names.items()
        },
    }


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, AFFINITY),
        (v2("/user/app", cpu__max="max 100000\n"), AFFINITY),
        (v2("/user/app", cpu__max="50000 100000\n"), 1),
        (v2("/user", cpu__max="100000 100000\n"), 1),  # of the group above
        (v2("", cpu__max="100000 100000\n"), 1),  # in a container: its own group is the root
        (v2("/user/app", cpu__max="99900000 100000\n"), AFFINITY),
        (v1(cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n"), AFFINITY),
        (v1(cpu__cfs_quota_us="10000\n", cpu__cfs_period_us="100000\n"), 1),
    ],
)
def test_a_quota_bounds_the_cores(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    assert machine.cores(tree(tmp_path, files)) == cores


def test_part_of_a_core_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    assert machine.cores(tree(tmp_path, v2("", cpu__max="250000 100000\n"))) == 3


@pytest.mark.parametrize(
    ("files", "mib"),
    [
        ({}, 1000),
        (v2("/user/app", memory__max="max\n", memory__current="1\n"), 1000),
        (v2("/user/app", memory__max=f"{300 * MIB}\n", memory__current=f"{100 * MIB}\n"), 200),
        (v2("", memory__max=f"{300 * MIB}\n", memory__current=f"{100 * MIB}\n"), 200),
        (
            v2(
                "/user/app",
                memory__max=f"{300 * MIB}",
                memory__current=f"{299 * MIB}",
                memory__stat=f"anon 5\ninactive_file {50 * MIB}\nfile 7\n",
            ),
            51,
        ),
        (v2("", memory__max=f"{100 * MIB}", memory__current=f"{101 * MIB}"), 0),
        (
            v1(
                memory__limit_in_bytes=f"{300 * MIB}",
                memory__usage_in_bytes=f"{200 * MIB}",
                memory__stat=f"inactive_file 1\ntotal_inactive_file {20 * MIB}\n",
            ),
            120,
        ),
    ],
)
def test_a_limit_bounds_the_memory(tmp_path: Path, files: dict[str, str], mib: int) -> None:
    assert machine.available_bytes(tree(tmp_path, files)) == mib * MIB


def test_this_machine_has_cores_and_memory() -> None:
    assert 1 <= machine.cores() <= AFFINITY
    assert machine.available_bytes() > 0

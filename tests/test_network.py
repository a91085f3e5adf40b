"""Hosts with a network between them that is slow, loses packets, and is cut.

The hosts are network namespaces; see :mod:`tests.network`. PostgreSQL is behind the network, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .network import Host, Network, missing, server_on
from .programs import on_hosts
from .servers.cluster import Cluster
from .servers.postgres import Database
from .support import ROOT, simple_rows
from .test_hosts import KEYS, TORCH, check
from .tiers import full

pytestmark = [full, pytest.mark.skipif(bool(missing()), reason=f"hosts: {missing()}")]

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "with_keys": True, "seed": 3}
PORT = 29500
RAY_ENVIRONMENT = {**os.environ, "RAY_AUTH_MODE": "disabled"}
"""Otherwise a head has a token if this machine had one before, and nobody else knows it."""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(3) as network:
        yield network


@pytest.fixture(scope="module")
def server(network: Network) -> Iterator[Cluster]:
    """Yield a server on the first host."""
    with server_on(network.hosts[0]) as server:
        yield server


@pytest.fixture
def far(network: Network, server: Cluster) -> Iterator[Database]:
    """Yield a database that is 10 ms away, by a way that loses one packet in a hundred."""
    network.change(delay_s=0.005, loss=0.01, bytes_per_s=0, cut=[])
    database = Database(server)
    yield database
    network.change(delay_s=0, loss=0, bytes_per_s=0, cut=[])
    database.drop()


def on(network: Network, *hosts: int) -> list[Callable[..., Any]]:
    return [network.hosts[host].popen for host in hosts]


# ---- training on two hosts -----------------------------------------------------------------------


def test_two_hosts_of_pytorch_take_every_row_once(network: Network, far: Database) -> None:
    pytest.importorskip("torch", reason="no PyTorch: untested")
    far.table(simple_rows(100, gap=3))
    url = far.url(host=network.hosts[0].address)
    before = network.change()
    arguments = json.dumps({**OPTIONS, "shuffle": True})
    group = f"tcp://{network.hosts[1].address}:{PORT}"
    found = on_hosts(
        [["-c", TORCH, str(rank), group, url, arguments] for rank in range(2)],
        [{"GLOO_SOCKET_IFNAME": "eth0"}] * 2,
        on(network, 1, 2),
    )
    for epoch in zip(*found, strict=True):
        check(list(epoch))
    after = network.change()
    assert after["delivered"] > before["delivered"] + 100
    assert after["lost"] > before["lost"]


def test_two_hosts_of_tensorflow_take_every_row_once(network: Network, far: Database) -> None:
    pytest.importorskip("tensorflow", reason="no TensorFlow: untested")
    far.table(simple_rows(100, gap=3))
    url = far.url(host=network.hosts[0].address)
    workers = [f"{network.hosts[host].address}:{PORT + 1}" for host in (1, 2)]
    found = on_hosts(
        [["-m", "tests.train_on_hosts", str(i), url, '{"shuffle": true}'] for i in range(2)],
        [
            {"TF_CONFIG": json.dumps({
                "cluster": {"worker": workers}, "task": {"type": "worker", "index": i},
            })}
            for i in range(2)
        ],
        on(network, 1, 2),
    )  # fmt: skip
    for how in ("from function", "distributed"):
        for epoch in zip(*(host[how] for host in found), strict=True):
            check(list(epoch))


RAY = """
import json, sys, ray
from fastloader.adapters.ray import read
ray.init(address=sys.argv[1], log_to_driver=False)
nodes = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
table = read(sys.argv[2], size=(8, 8), with_keys=True, override_num_blocks=8)
rows = table.map_batches(lambda batch: {
    "id": batch["id"], "where": [ray.util.get_node_ip_address()] * len(batch["id"]),
}, scheduling_strategy="SPREAD").take_all()
print(json.dumps([nodes, [[int(row["id"]), row["where"]] for row in rows]]))
"""


@pytest.mark.ray
@pytest.mark.every
def test_a_cluster_of_ray_reads_on_all_of_its_hosts(network: Network, far: Database) -> None:
    pytest.importorskip("ray", reason="no Ray: untested")
    far.table(simple_rows(100, gap=3))
    url = far.url(host=network.hosts[0].address)
    head, other = network.hosts[1:]
    ray = str(Path(sys.executable).with_name("ray"))
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path, since it is one of sockets
    common = ["--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    started = []
    try:
        for host, where in (
            (head, ["--head", f"--port={PORT + 2}", f"--temp-dir={folder}",
                    "--include-dashboard=false"]),
            (other, [f"--address={head.address}:{PORT + 2}"]),
        ):  # fmt: skip
            command = [ray, "start", f"--node-ip-address={host.address}", *where, *common]
            started.append(
                host.popen(
                    command, env=RAY_ENVIRONMENT, cwd=ROOT,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
            wait_for_port(head, PORT + 2)
        wait_for_nodes(head, 2)
        ((nodes, rows),) = on_hosts(
            [["-c", RAY, f"{head.address}:{PORT + 2}", url]], [RAY_ENVIRONMENT], [head.popen]
        )
    finally:
        for process in started[::-1]:
            process.terminate()
        for process in started:
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
    assert sorted(nodes) == [head.address, other.address]
    assert sorted(key for key, _ in rows) == KEYS
    assert {where for _, where in rows} == {head.address, other.address}


def wait_for_port(host: Host, port: int) -> None:
    script = f"import socket; socket.create_connection(({host.address!r}, {port}), 1)"
    deadline = time.monotonic() + 60
    command = [sys.executable, "-c", script]
    while host.popen(command, stderr=subprocess.DEVNULL).wait():
        assert time.monotonic() < deadline, "nobody listens"
        time.sleep(0.1)


def wait_for_nodes(host: Host, count: int) -> None:
    deadline = time.monotonic() + 90
    script = (
        f"import ray; ray.init(address='{host.address}:{PORT + 2}', log_to_driver=False); "
        f"raise SystemExit(sum(node['Alive'] for node in ray.nodes()) != {count})"
    )
    command = [sys.executable, "-c", script]
    while host.popen(command, stderr=subprocess.DEVNULL, env=RAY_ENVIRONMENT).wait():
        assert time.monotonic() < deadline, f"there are not {count} nodes of Ray"


# ---- a cut ---------------------------------------------------------------------------------------

READS = """
import json, sys
from fastloader import FastLoader, SourceError
options = {"size": (8, 8), "batch_size": 8, "with_keys": True, "shuffle": True, "slots": 2,
           "workers": 2, "fetch_bytes": 20_000, "stall_timeout_s": 2.0}
keys, error, reconnects = [], "", 0
with FastLoader(sys.argv[1], **options, **json.loads(sys.argv[2])) as loader:
    try:
        for number, (x, _) in enumerate(loader):
            keys += x["id"].tolist()
            if number == 2:
                print("begun", flush=True)
                sys.stdin.readline()  # until the network is cut
    except SourceError as failed:
        error = str(failed)
    reconnects = loader.stats().reconnects
print(json.dumps([keys, error, reconnects]))
"""


def reading(network: Network, url: str, **options: Any) -> Any:
    """Return a process on the third host that has read the first batches, and waits."""
    process = network.hosts[2].popen(
        [sys.executable, "-c", READS, url, json.dumps(options)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    return process


def test_a_network_that_is_cut_for_seconds_loses_no_row(network: Network, far: Database) -> None:
    far.table(simple_rows(600))
    process = reading(network, far.url(host=network.hosts[0].address))
    network.cut(network.hosts[0])
    process.stdin.write("\n")
    process.stdin.flush()
    time.sleep(5)
    assert process.poll() is None
    network.cut()
    out, _ = process.communicate(timeout=120)
    keys, error, reconnects = json.loads(out)
    assert error == ""
    assert sorted(keys) == list(range(1, 601))
    assert reconnects >= 1
    assert network.change()["cut"] > 0


def test_a_server_that_is_cut_off_for_good_is_an_error_that_says_so(
    network: Network, far: Database
) -> None:
    far.table(simple_rows(600))
    url = far.url(host=network.hosts[0].address)
    process = reading(network, url, reconnect_timeout_s=4.0)
    network.cut(network.hosts[0])
    out, _ = process.communicate("\n", timeout=120)
    keys, error, _ = json.loads(out)
    assert len(keys) < 600
    assert network.hosts[0].address in error
    network.cut()

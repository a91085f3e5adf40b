"""Real hosts that read from one PostgreSQL, each in a network namespace, against the simulation.

The server's link has a rate, as in :mod:`benchmarks.server_load`, but a low one, so that a few
hosts are too many for it. Each host takes rows of a size as fast as its GPUs would. The same hosts
are simulated. Then packets take time and get lost, which the simulation knows nothing of.

It needs root, for the namespaces.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import Any

from tests.network import Network, missing, server_on
from tests.servers.cluster import Cluster

from .measure import ROOT, Sample, parser, ratio, report, spread, table
from .server_load import Load, simulated

HOSTS = (1, 2, 4)
ROW_BYTES, FETCH_BYTES = 20_000, 320_000
BYTES_PER_S = 4e6
WANTED = 80.0
ROWS = 4000
WAYS: dict[str, dict[str, float]] = {
    "no delay": {"delay_s": 0, "loss": 0},
    "20 ms": {"delay_s": 0.01, "loss": 0},
    "20 ms, 1 % lost": {"delay_s": 0.01, "loss": 0.01},
}


def take(url: str, wanted: float, seconds: float) -> Sample:
    """Take rows at a rate, if they come, and measure the rate once the buffers are full."""
    from fastloader import Bytes, FastLoader

    options: dict[str, Any] = {
        "image": None, "label": None, "fields": {"image_data": Bytes("image_data")},
        "batch_size": 8, "slots": 2, "workers": 1, "fetch_bytes": FETCH_BYTES, "shuffle": True,
        "seed": os.getpid(),
    }  # fmt: skip
    taken, counted, due_s = 0, 0, 0.0
    with FastLoader(url, **options) as loader:
        begin_s = time.monotonic()
        while time.monotonic() < begin_s + seconds:
            for batch in loader:
                now_s = time.monotonic() - begin_s
                if now_s >= seconds:
                    break
                rows = len(batch["image_data"])
                taken += rows
                counted += rows if now_s > seconds / 3 else 0
                due_s = max(due_s, now_s - rows / wanted) + rows / wanted
                time.sleep(max(0.0, due_s - (time.monotonic() - begin_s)))
    return {"rows_per_s": counted / (seconds * 2 / 3), "rows": taken}


def together(network: Network, url: str, hosts: int, seconds: float) -> Sample:
    """Return what some hosts take at the same time."""
    command = [sys.executable, "-m", "benchmarks.hosts", "--one", url, "--seconds", str(seconds)]
    processes = [
        host.popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for host in network.hosts[1 : hosts + 1]
    ]
    found = [json.loads(process.communicate()[0].splitlines()[-1]) for process in processes]
    return {"rows_per_s": sum(sample["rows_per_s"] for sample in found)}


def make_table(server: Cluster) -> None:
    """Make a table of random bytes, which are sent as they are."""
    server.execute("CREATE TABLE images (id int8 PRIMARY KEY, image_data bytea STORAGE EXTERNAL)")
    server.execute(
        "INSERT INTO images SELECT n, (SELECT string_agg(decode(md5(n::text || m), 'hex'), '') "
        "FROM generate_series(1, %s) m) FROM generate_series(1, %s) n",
        (ROW_BYTES // 16, ROWS),
    )


def main() -> None:
    arguments = parser("hosts", __doc__, rounds=3)
    arguments.add_argument("--seconds", type=float, default=12, metavar="N", help="for a run (12)")
    arguments.add_argument("--one", metavar="URL", help="one host, as JSON")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(take(options.one, WANTED, options.seconds)))
        return
    if missing():
        sys.exit(f"no hosts: {missing()}")
    samples: dict[str, list[Sample]] = {}
    with Network(max(HOSTS) + 1) as network, server_on(network.hosts[0]) as server:
        make_table(server)
        url = server.url(host=network.hosts[0].address)
        for _ in range(options.rounds):
            for way, how in WAYS.items():
                network.change(bytes_per_s=BYTES_PER_S, **how)
                for hosts in HOSTS:
                    sample = together(network, url, hosts, options.seconds)
                    samples.setdefault(f"{hosts} hosts, {way}", []).append(sample)
    rows = []
    for hosts in HOSTS:
        load = Load(
            hosts, wanted=WANTED, workers=1, row_bytes=ROW_BYTES, fetch_bytes=FETCH_BYTES, cores=2,
            network=BYTES_PER_S,
        )  # fmt: skip
        expected = [{"rows_per_s": simulated(load, chunks=200)}] * options.rounds
        samples[f"{hosts} hosts, simulated"] = expected
        rows.append([str(hosts), f"{hosts * WANTED:.0f}", f"{expected[0]['rows_per_s']:.0f}"])
        for way in WAYS:
            its = samples[f"{hosts} hosts, {way}"]
            rows[-1].append(f"{spread(its, 'rows_per_s'):.0f}")
            rows[-1].append(f"{ratio(its, expected, 'rows_per_s'):.2f}")
    headers = ["hosts", "rows/s wanted", "simulated"]
    headers += [name for way in WAYS for name in (f"rows/s, {way}", "x simulated")]
    where = f"rows of {ROW_BYTES / 1e3:.0f} KB; the server's link has {BYTES_PER_S / 1e6:.0f} MB/s"
    report(options, samples, [where, "", table(headers, rows), ""])


if __name__ == "__main__":
    main()

"""The cost of reading for a PostgreSQL server, and the number of training hosts that it can serve.

* ``measure``: fastloader's source over TCP, as a worker reads, without TLS. It measures the CPU
  time and the private memory of the server's process for a connection. The table is in memory.
* ``simulate``: 1 to 512 hosts on one server with these figures, event by event. A worker decodes a
  chunk while the next one is on its way; a fetch waits for a core of the server, then for its
  network. There is no other load, and nothing between server and hosts that limits them.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import math
import random
from dataclasses import dataclass, replace

import psutil

from .measure import Sample, child, paired, parser, report, spread, table
from .photos import database, read_photos
from .postgres import over_tcp, read_source

PARTS = ("measure", "simulate")
HOSTS = (1, 8, 64, 512)
MEASURE = "fastloader"

# ---- what it costs -------------------------------------------------------------------------------


def run_measure(url: str) -> Sample:
    """Measure the server's process. ``url`` is that of a server on this machine, over TCP."""
    import psycopg2

    for _ in read_source(url):  # to warm up
        pass
    rows = read_source(url)
    next(rows)
    with contextlib.closing(psycopg2.connect(url)) as look, look.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'fastloader%%'"
        )
        ((pid,),) = cursor.fetchall()
        cursor.execute("SELECT avg(octet_length(image_data))::float8 FROM images")
        ((row_bytes,),) = cursor.fetchall()
    backend = psutil.Process(pid)
    before, count, look_at = backend.cpu_times(), 0, 1
    for some in rows:
        count += some
        if count >= look_at:  # look early: the connection is closed before the last rows come
            look_at = count + 200
            after, memory, counted = backend.cpu_times(), backend.memory_info(), count
    cpu_s = after.user + after.system - before.user - before.system
    return {
        "server_cpu_ms": cpu_s / counted * 1e3, "connection_mb": (memory.rss - memory.shared) / 1e6,
        "row_bytes": row_bytes, "rows": counted,
    }  # fmt: skip


def measured(samples: list[Sample]) -> list[str]:
    row = [f"{spread(samples, key):.{digits}f}" for key, digits in
           (("server_cpu_ms", 3), ("connection_mb", 1), ("row_bytes", 0))]  # fmt: skip
    return [table(["server CPU ms per row", "MB per connection", "bytes per row"], [row]), ""]


# ---- many hosts ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """Some training hosts and a server.

    Attributes
    ----------
    hosts
        The number of training hosts.
    wanted
        Images/s that the GPUs of a host consume.
    workers
        The number of workers of a host.
    row_bytes
        The size of an encoded image.
    fetch_bytes
        The size of a chunk.
    cores
        The number of cores of the server.
    network
        The bandwidth of the server in bytes/s.
    cpu_s
        The server's CPU time for a row.
    """

    hosts: int
    wanted: float = 4000
    workers: int = 8
    row_bytes: float = 84_000
    fetch_bytes: float = 4 << 20
    cores: int = 32
    network: float = 25e9 / 8
    cpu_s: float = 76e-6

    @property
    def chunk(self) -> int:
        """The number of rows in a chunk."""
        return max(1, round(self.fetch_bytes / self.row_bytes))

    @property
    def limit(self) -> float:
        """The most rows/s that the server can send."""
        return min(self.cores / self.cpu_s, self.network / self.row_bytes)

    @property
    def servers(self) -> int:
        """The number of servers that the load needs, each at nine tenths of its limit."""
        return math.ceil(self.hosts * self.wanted / (0.9 * self.limit))


def simulated(load: Load, *, chunks: int = 24, seed: int = 0) -> float:
    """Return images/s of all hosts together, while each worker takes so many chunks."""
    draw = random.Random(seed)
    decode_s = load.chunk * load.workers / load.wanted  # or the wait for GPUs
    cpu_s, send_s = load.chunk * load.cpu_s, load.chunk * load.row_bytes / load.network
    count = load.hosts * load.workers
    cores = [0.0] * load.cores  # the time from which each is free
    network = 0.0
    decoder = [0.0] * count
    left = [chunks] * count
    # (time, what happens then, to which worker)
    events = [(draw.uniform(0, decode_s), "fetch", worker) for worker in range(count)]
    heapq.heapify(events)
    arrivals: list[float] = []
    while events:
        now, what, worker = heapq.heappop(events)
        if what == "fetch":
            done = max(now, cores[0]) + cpu_s
            heapq.heapreplace(cores, done)
            heapq.heappush(events, (done, "send", worker))
        elif what == "send":
            network = max(now, network) + send_s
            heapq.heappush(events, (network, "arrive", worker))
        else:
            arrivals.append(now)
            begin = max(now, decoder[worker])
            decoder[worker] = begin + decode_s * draw.uniform(0.8, 1.2)
            left[worker] -= 1
            if left[worker]:
                heapq.heappush(events, (begin, "fetch", worker))
    # Leave out the beginning, when all fetch at once, and the end, when some are done.
    begin, end = len(arrivals) // 4, 3 * len(arrivals) // 4
    return (end - begin) * load.chunk / (arrivals[end] - arrivals[begin])


def simulation(load: Load) -> tuple[dict[str, list[Sample]], list[str]]:
    """Simulate HOSTS with the load of one host. Return the samples, and the table as text."""
    rows, samples = [], {}
    size = f"{load.row_bytes / 1e3:.0f} KB"
    for hosts in HOSTS:
        here = replace(load, hosts=hosts)
        found, wanted = simulated(here), hosts * here.wanted
        samples[f"{hosts} hosts of {here.wanted:.0f} images/s, {size}"] = [
            {"images_per_s": found, "share": found / wanted}
        ]
        rows.append([
            f"{hosts}", f"{wanted:,.0f}", f"{wanted * here.row_bytes * 8 / 1e9:,.1f}",
            f"{wanted * here.cpu_s:,.1f}", f"{hosts * here.workers:,}",
            f"{min(1, found / wanted):.0%}", f"{here.servers}",
        ])  # fmt: skip
    headers = ["hosts", "images/s wanted", "Gbit/s", "server cores", "connections",
               "delivered by one", "servers needed"]  # fmt: skip
    where = (
        f"each host wants {load.wanted:.0f} images/s with {load.workers} workers; a row has {size} "
        f"and takes {load.cpu_s * 1e3:.3f} ms of the server;\na server has {load.cores} cores and "
        f"{load.network * 8 / 1e9:.0f} Gbit/s, which makes {load.limit:,.0f} rows/s, enough for "
        f"{load.limit / load.wanted:.0f} hosts"
    )
    return samples, [where, "", table(headers, rows), ""]


def main() -> None:
    arguments = parser("server_load", __doc__, rounds=3)
    arguments.add_argument("--part", choices=PARTS, help="run only this part (both)")
    arguments.add_argument(
        "--copies", type=int, default=4, metavar="N", help="rows for each photo (4)"
    )
    arguments.add_argument(
        "--wanted", type=float, nargs="+", default=[4000, 1000], metavar="N",
        help="images/s of each host (4000: an H100 that trains ResNet-50; 1000)",
    )  # fmt: skip
    arguments.add_argument("--small", type=float, default=20_000, metavar="BYTES",
                           help="size of an image that is stored smaller (20000)")  # fmt: skip
    arguments.add_argument("--one", metavar="URL", help="one run of measure, as JSON")
    options = arguments.parse_args()
    if options.one:
        print(json.dumps(run_measure(options.one)))
        return
    samples: dict[str, list[Sample]] = {}
    lines: list[str] = []
    load = Load(1)
    if options.part != "simulate":
        photos = read_photos(options.images, options.photos)
        with database(photos, options.copies * len(photos), kind="postgres") as url:
            tcp = f"{over_tcp(url)}?sslmode=disable"
            samples = paired(
                [MEASURE],
                options.rounds,
                run=lambda _: child("benchmarks.server_load", "--one", tcp),
            )
        lines += measured(samples[MEASURE])
        median = {key: spread(samples[MEASURE], key).median for key in samples[MEASURE][0]}
        load = replace(load, cpu_s=median["server_cpu_ms"] / 1e3, row_bytes=median["row_bytes"])
    if options.part != "measure":
        for wanted in options.wanted:
            for row_bytes in (load.row_bytes, options.small):
                of_load = simulation(replace(load, wanted=wanted, row_bytes=row_bytes))
                samples |= of_load[0]
                lines += of_load[1]
    report(options, samples, lines)


if __name__ == "__main__":
    main()

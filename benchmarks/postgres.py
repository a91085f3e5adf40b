"""The speed and the cost of the PostgreSQL source.

* ``read``: read a table and decode nothing, against two drivers. For fastloader that is its source
  alone, in one process.
* ``network``: a loader over TCP, through a proxy that makes each round trip take 20 ms, and through
  one that does not delay.
* ``keys``: the plan of a table with 10 million keys.
* ``memory``: the memory of a worker while 2 GB of images go through it.

CPU time is that of the client process, not of the server.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.servers.cluster import cluster

from .end_to_end import Goal
from .measure import (
    BATCH,
    ROOT,
    SIZE,
    Sample,
    Spread,
    child,
    cores,
    paired,
    parser,
    print_sample,
    ratio,
    report,
    spread,
    table,
)
from .photos import SELECT, database, read_photos, rows_of

PARTS = ("read", "network", "keys", "memory")
US, NAMED = "fastloader", "psycopg2 named cursor"
ROUND_TRIP_MS = 20
KEYS = 10_000_000
MEMORY_BYTES = 2_000_000_000


# ---- reading alone -------------------------------------------------------------------------------


def read_source(url: str) -> Iterator[int]:
    """Yield the number of rows of each chunk as a worker gets it, with a label column.

    The first value is 0, when the plan is made.
    """
    from fastloader.options.config import make_config
    from fastloader.source.opening import open_source

    with contextlib.closing(open_source(make_config({"url": url}, {}))) as source:
        (keys,) = source.keys()
        columns = source.label_columns(keys)
        ranges = ((int(keys[i]), int(keys[min(i + BATCH, len(keys)) - 1]))
                  for i in range(0, len(keys), BATCH))  # fmt: skip
        yield 0  # the caller starts its clock here, after the plan
        for chunk in source.read(ranges, columns):
            yield len(chunk.keys)


def read_named(url: str) -> Iterator[int]:
    yield 0
    for blob, _label in rows_of(url):
        yield bytes(blob) != b""


def read_psycopg(url: str) -> Iterator[int]:
    import psycopg

    with psycopg.connect(url) as connection, connection.cursor("rows", binary=True) as cursor:
        cursor.itersize = 64
        yield 0
        cursor.execute(SELECT)
        for blob, _label in cursor:
            yield blob != b""


READERS: dict[str, Callable[[str], Iterator[int]]] = {
    US: read_source,
    NAMED: read_named,
    "psycopg 3 binary cursor": read_psycopg,
}


def run_reader(name: str, url: str) -> Sample:
    for _ in READERS[name](url):  # to warm up
        pass
    rows = READERS[name](url)
    next(rows)
    cpu, start = time.process_time(), time.perf_counter()
    count = sum(rows)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {"rows_per_s": count / seconds, "cpu_ms_per_row": cpu_s / count * 1000, "rows": count}


def reading(photos: list[Any], options: Any) -> tuple[dict[str, list[Sample]], list[str]]:
    with database(photos, len(photos) * options.copies, kind="postgres") as url:
        samples = paired(
            tuple(READERS),
            options.rounds,
            run=lambda name: child("benchmarks.postgres", "--one", "read", name, url),
        )
    rows = [
        [
            name,
            f"{spread(found, 'rows_per_s'):.0f}",
            f"{ratio(samples[US], found, 'rows_per_s'):.2f}",
            f"{spread(found, 'cpu_ms_per_row'):.3f}",
            f"{ratio(samples[US], found, 'cpu_ms_per_row'):.2f}",
        ]
        for name, found in samples.items()
    ]
    headers = ["reading alone", "rows/s", "fastloader is x times that", "client CPU ms per row"]
    faster = ratio(samples[US], samples[NAMED], "rows_per_s")
    cpu = ratio(samples[US], samples[NAMED], "cpu_ms_per_row").median
    verdict = "reached" if cpu <= 0.25 else "not reached"
    return samples, [
        table([*headers, "fastloader takes x times that"], rows),
        "",
        Goal(NAMED, 3).verdict(faster),
        f"goal: 0.25 of the client CPU of {NAMED}: {verdict}, {cpu:.2f}",
    ]


# ---- over a network ------------------------------------------------------------------------------


def run_loader(url: str) -> Sample:
    from fastloader import FastLoader

    with FastLoader(url, batch_size=BATCH, size=SIZE, workers=cores()) as loader:
        for _ in loader:
            pass
        start = time.perf_counter()
        rows = sum(len(images) for images, _ in loader)
        return {"images_per_s": rows / (time.perf_counter() - start)}


def over_tcp(url: str, port: int | None = None) -> str:
    """Turn the URL of a server on this machine, for example of a Unix socket, into one for TCP.

    Parameters
    ----------
    port
        Another port than the server's own, for example that of a proxy.
    """
    server = urlsplit(url)
    return f"postgresql://{server.username}@127.0.0.1:{port or server.port}{server.path}"


@contextlib.contextmanager
def proxied(url: str, delay_ms: float) -> Iterator[str]:
    """Start a proxy that delays each way, in a process of its own, and yield its URL."""
    words = [str(urlsplit(url).port), "--delay-ms", str(delay_ms)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.servers.proxy", *words],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield over_tcp(url, int(process.stdout.readline()))
        finally:
            process.terminate()


def network(photos: list[Any], options: Any) -> tuple[dict[str, list[Sample]], list[str]]:
    near, far = "proxy without delay", f"proxy, {ROUND_TRIP_MS} ms round trip"
    with (
        database(photos, len(photos) * options.copies, kind="postgres") as url,
        proxied(url, 0) as near_url,
        proxied(url, ROUND_TRIP_MS / 2) as far_url,
    ):
        urls = {"Unix socket": url, near: near_url, far: far_url}
        samples = paired(
            tuple(urls),
            options.rounds,
            run=lambda name: child("benchmarks.postgres", "--one", "network", name, urls[name]),
        )
    rows = [
        [
            name,
            f"{spread(found, 'images_per_s'):.0f}",
            f"{ratio(found, samples[near], 'images_per_s'):.2f}",
        ]
        for name, found in samples.items()
    ]
    kept = ratio(samples[far], samples[near], "images_per_s")
    verdict = Goal("the same without delay", 0.9).verdict(kept)
    return samples, [table(["loader", "images/s", "x without delay"], rows), "", verdict]


# ---- 10 million keys -----------------------------------------------------------------------------


def run_keys(url: str) -> Sample:
    """Return the time of a survey and the most memory of the process, which does nothing else."""
    from fastloader.options.config import make_config
    from fastloader.transport.memory import create_memory
    from fastloader.worker.survey import survey

    start = time.perf_counter()
    with create_memory("plan") as memory:
        found, _keys, source = survey(make_config({"url": url}, {}), memory)
        seconds = time.perf_counter() - start
        source.close()
    with open("/proc/self/status", encoding="ascii") as lines:
        (most_kb,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return {"rows": found.rows, "seconds": seconds, "most_mb": most_kb * 1024 / 1e6}


def keys(_photos: list[Any], options: Any) -> tuple[dict[str, list[Sample]], list[str]]:
    with cluster(shared_buffers="1GB", maintenance_work_mem="512MB") as server:
        server.execute(
            "CREATE TABLE images AS SELECT n::int8 AS id, ''::bytea AS image_data, 0 AS label "
            f"FROM generate_series(1, {KEYS}) n; ALTER TABLE images ADD PRIMARY KEY (id)"
        )
        server.execute("VACUUM ANALYZE images")
        samples = paired(
            ("keys",),
            options.rounds,
            run=lambda name: child("benchmarks.postgres", "--one", "keys", name, server.url()),
        )
    found = samples["keys"]
    seconds, most = spread(found, "seconds"), spread(found, "most_mb")
    verdict = "reached" if seconds.median < 10 and most.median < 200 else "not reached"
    return samples, [
        f"{KEYS:,} keys: {seconds:.1f} s; the process takes {most:.0f} MB at most, of which 80 MB "
        f"are keys",
        f"goal: less than 10 s and 200 MB: {verdict}",
    ]


# ---- 2 GB through a worker -----------------------------------------------------------------------


def run_memory(url: str) -> Sample:
    """Return the private memory of a worker in MB after each tenth of the images."""
    from fastloader import FastLoader

    from .first_batch import private_bytes

    found = []
    with FastLoader(url, batch_size=BATCH, size=SIZE, workers=1) as loader:
        (worker,) = (
            p for p in psutil.Process().children() if "fastloader.worker.worker" in p.cmdline()
        )
        every = max(1, len(loader) // 10)
        start = time.perf_counter()
        for i, _ in enumerate(loader):
            if i % every == every - 1:
                found.append(private_bytes(worker.pid)[0] / 1e6)
        return {"mb": found, "seconds": time.perf_counter() - start}


def memory(photos: list[Any], _options: Any) -> tuple[dict[str, list[Sample]], list[str]]:
    mean = sum(len(blob) for blob, _ in photos) / len(photos)
    count = round(MEMORY_BYTES / mean)
    with database(photos, count, kind="postgres") as url:
        sample = child("benchmarks.postgres", "--one", "memory", "memory", url)
    mb = [f"{value:.0f}" for value in sample["mb"]]
    flat = Spread.of(sample["mb"][1:])
    return {"memory": [sample]}, [
        f"{count * mean / 1e9:.1f} GB through one worker in {sample['seconds']:.0f} s; its private "
        f"memory in MB after each tenth: {' '.join(mb)} ({flat:.0f} from the second on)"
    ]


# ---- all of them ---------------------------------------------------------------------------------


def run_one(part: str, name: str, url: str) -> Sample:
    if part == "read":
        return run_reader(name, url)
    return {"network": run_loader, "keys": run_keys, "memory": run_memory}[part](url)


def main() -> None:
    arguments = parser("postgres", __doc__, rounds=5)
    arguments.add_argument(
        "--copies", type=int, default=4, metavar="N", help="rows for each photo (4)"
    )
    arguments.add_argument(
        "--part", action="append", choices=PARTS, help="only this; may be given again (all)"
    )
    arguments.add_argument(
        "--one", nargs=3, metavar=("PART", "NAME", "URL"), help="one run, as JSON"
    )
    options = arguments.parse_args()
    if options.one:
        print_sample(lambda: run_one(*options.one))
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    photos = read_photos(options.images, options.photos)
    parts = {"read": reading, "network": network, "keys": keys, "memory": memory}
    samples, lines = {}, []
    for part in options.part or PARTS:
        found, more = parts[part](photos, options)
        samples |= {f"{part}: {name}": each for name, each in found.items()}
        lines += [*more, ""]
    report(options, samples, lines)


if __name__ == "__main__":
    main()

"""The cost of shuffling: no shuffle, and blocks of 512 rows down to 1, which is a full shuffle.

* ``loop``: a plain loop over FastLoader's NumPy batches of 64 at 224x224, a worker for each core.
* ``read``: one source in one process reads the rows in the same order, and nothing is decoded. With
  many cores this is the limit; with few, decoding hides it.

Each is measured warm and cold. Warm: the same loader or source has just read an epoch. Cold:
nothing of the table is in the page cache when the clock starts, and a PostgreSQL server with 16 MB
of shared buffers has just been started. The time is that of one epoch, from making the iterator to
its end. The workers are awake by then.

Both are checked: mincore() tells how much of the database's files was in the page cache when the
clock started, and /proc/PID/io how much client and server then read from the disk. What is cold for
this machine may still be in the memory of its host or of its disk. Therefore the disk's own speed
is measured too.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.servers.cluster import cluster
from tests.servers.endings import ending_cleanly

from .measure import BATCH, SIZE, Sample, child, cores, paired, parser, ratio, report, spread, table
from .page_cache import ask, disk_speed, drop, files_of, resident_mb
from .photos import POSTGRES, Photo, read_photos, write, write_postgres

NO_SHUFFLE = "no shuffle"
ORDERS: dict[str, dict[str, Any]] = {
    NO_SHUFFLE: {},
    **{f"shuffle_block={n}": {"shuffle": True, "shuffle_block": n} for n in (512, 64, 8, 1)},
}
DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}
PARTS = {"loop": "images/s in a loop", "read": "rows/s of reading alone"}
CACHES = ("warm", "cold")
SHARED_BUFFERS = {"warm": "1GB", "cold": "16MB"}

AWAKE_S = 1.0
"""The time after which workers that have just been started wait for an epoch to begin."""


# ---- one run, in a process of its own ------------------------------------------------------------


def run_loop(url: str, order: dict[str, Any], *, cold: bool) -> Sample:
    from fastloader import FastLoader

    with FastLoader(url, batch_size=BATCH, size=SIZE, workers=cores(), **order) as loader:
        if cold:
            time.sleep(AWAKE_S)
            drop(url)
        else:
            for _ in loader:
                pass
        return measured(url, lambda: sum(len(images) for images, _ in loader))


def run_read(url: str, order: dict[str, Any], *, cold: bool) -> Sample:
    from fastloader.options.config import make_config
    from fastloader.plan.order import Uniform
    from fastloader.plan.plan import Plan, key_ranges
    from fastloader.source.opening import open_source

    config = make_config({"url": url, "batch_size": BATCH, **order}, {})
    with contextlib.closing(open_source(config)) as source:
        keys = np.concatenate(list(source.keys()))
        columns = source.label_columns(keys)
    order = Uniform(len(keys), config.shuffle, config.shuffle_block, config.seed)
    plan = Plan.of(config, order)

    # A new source, because the first one may have kept what it has read.
    with contextlib.closing(open_source(config)) as source:

        def epoch(number: int) -> int:
            batches = (plan.positions(number, batch) for batch in range(len(plan)))
            ranges = itertools.chain.from_iterable(key_ranges(keys, batch) for batch in batches)
            return sum(len(chunk.keys) for chunk in source.read(ranges, columns))

        if cold:
            drop(url)
        else:
            epoch(0)
        return measured(url, lambda: epoch(1))


def measured(url: str, epoch: Callable[[], int]) -> Sample:
    """Measure an epoch, a function that returns the number of its rows."""
    resident = resident_mb(files_of(url))
    disk_mb, cpu_s = used(url)
    start = time.perf_counter()
    rows = epoch()
    seconds = time.perf_counter() - start
    disk_mb_after, cpu_s_after = used(url)
    return {
        "rows": rows,
        "seconds": seconds,
        "rows_per_s": rows / seconds,
        "cpu_ms_per_row": (cpu_s_after - cpu_s) / rows * 1000,
        "resident_mb_before": resident,
        "disk_mb": disk_mb_after - disk_mb,
    }


def used(url: str) -> tuple[float, float]:
    """Return the MB read from the disk and the CPU seconds so far.

    They are those of this process, its children and, if there is one, the PostgreSQL server.
    """
    parents = [psutil.Process()]
    if url.startswith(POSTGRES):
        postmaster = Path(ask(url, "SHOW data_directory"), "postmaster.pid")
        parents.append(psutil.Process(int(postmaster.read_text(encoding="utf-8").split()[0])))
    read, cpu_s = 0, 0.0
    for process in (p for parent in parents for p in (parent, *parent.children(recursive=True))):
        with contextlib.suppress(psutil.NoSuchProcess):
            read += process.io_counters().read_bytes
            times = process.cpu_times()
            cpu_s += times.user + times.system
    return read / 1e6, cpu_s


# ---- all of them ---------------------------------------------------------------------------------

Found = dict[tuple[str, str], dict[str, list[Sample]]]
"""The samples of each order, by (part, cache)."""


@contextlib.contextmanager
def database(
    photos: list[Photo], rows: int, *, kind: str, cache: str
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Make a table of ``rows`` rows that repeats the photos, and delete it when the block ends.

    Yields
    ------
    tuple
        A SQLite file's path or a PostgreSQL server's URL, and a function that makes the server
        forget everything that it has read.
    """
    repeated = itertools.islice(itertools.cycle(photos), rows)
    if kind == "postgres":
        with cluster(shared_buffers=SHARED_BUFFERS[cache]) as server:
            with contextlib.closing(server.connect()) as connection:
                write_postgres(connection, repeated)
            yield server.url(), server.restart
        return
    with ending_cleanly(), tempfile.TemporaryDirectory(prefix="fastloader-") as folder:
        path = os.path.join(folder, "photos.db")
        write(path, repeated)
        yield path, lambda: None


def samples_of(photos: list[Photo], options: argparse.Namespace, kind: str) -> tuple[Found, Sample]:
    """Return the samples of one kind of database, and the speed of its disk."""
    found: Found = {}
    disk: Sample = {}
    for cache in options.cache:
        rows = len(photos) * options.copies
        with database(photos, rows, kind=kind, cache=cache) as (url, restart):
            if cache == "cold":
                disk = disk_speed(url)
            for part in options.part:

                def run(
                    name: str,
                    part: str = part,
                    cache: str = cache,
                    url: str = url,
                    restart: Callable[[], None] = restart,
                ) -> Sample:
                    if cache == "cold":
                        restart()
                    return child("benchmarks.shuffle", "--one", part, cache, name, url)

                found[part, cache] = paired(tuple(ORDERS), options.rounds, run=run)
    return found, disk


def lines(found: Found, disk: Sample, kind: str) -> list[str]:
    """Return each part as a table, the content of the caches, and the tables as Markdown."""
    out = []
    parts, caches = (list(dict.fromkeys(keys)) for keys in zip(*found, strict=True))
    for part in parts:
        headers = [f"{DATABASES[kind]}, {PARTS[part]}"]
        for cache in caches:
            headers += [cache, f"x {NO_SHUFFLE}", "CPU ms per row", "MB from the disk"]
        rows = [
            [name, *(cell for cache in caches for cell in cells(found[part, cache], name))]
            for name in ORDERS
        ]
        out += [table(headers, rows), ""]
    for cache in caches:
        runs = [run for part in parts for runs in found[part, cache].values() for run in runs]
        out.append(
            f"{cache}: {spread(runs, 'resident_mb_before'):.1f} MB of the database's files were in "
            f"the page cache when the clock started; {spread(runs, 'disk_mb'):.1f} MB were then "
            f"read from the disk"
        )
    if disk:
        out.append(
            f"the disk: {disk['mb_per_s']:.0f} MB/s in sequence, {disk['page_ms']:.3f} ms "
            f"for 4 KB anywhere"
        )
    return [*out, "", *markdown(found, kind), ""]


def cells(samples: dict[str, list[Sample]], name: str) -> list[str]:
    mine = samples[name]
    return [
        f"{spread(mine, 'rows_per_s'):.0f}",
        f"{ratio(mine, samples[NO_SHUFFLE], 'rows_per_s'):.2f}",
        f"{spread(mine, 'cpu_ms_per_row').median:.2f}",
        f"{spread(mine, 'disk_mb').median:.0f}",
    ]


def markdown(found: Found, kind: str) -> Iterator[str]:
    """Yield a table for the docs: medians, and the ratio to no shuffle with its spread."""
    heads = [f"{PARTS[part]}, {cache}" for part, cache in found]
    yield f"| from {DATABASES[kind]} | {' | '.join(heads)} |"
    yield "| --- |" + " ---: |" * len(heads)
    for name in ORDERS:
        line = [name if name == NO_SHUFFLE else f"`{name}`"]
        for samples in found.values():
            mine, plain = samples[name], samples[NO_SHUFFLE]
            x = ratio(mine, plain, "rows_per_s")
            times = "" if mine is plain else f", {x.median:.2f}x [{x.low:.2f}..{x.high:.2f}]"
            line.append(f"{spread(mine, 'rows_per_s').median:.0f}{times}")
        yield f"| {' | '.join(line)} |"


def main() -> None:
    arguments = parser("shuffle", __doc__, rounds=5)
    arguments.add_argument(
        "--copies", type=int, default=4, metavar="N", help="rows for each photo (4)"
    )
    for name, choices in (("db", DATABASES), ("part", PARTS), ("cache", CACHES)):
        arguments.add_argument(
            f"--{name}",
            action="append",
            choices=[*choices],
            help="only this; may be given again (all)",
        )
    arguments.add_argument(
        "--one", nargs=4, metavar=("PART", "CACHE", "ORDER", "DATABASE"), help="one run, as JSON"
    )
    options = arguments.parse_args()
    if options.one:
        part, cache, order, url = options.one
        run = {"loop": run_loop, "read": run_read}[part]
        print(json.dumps(run(url, ORDERS[order], cold=cache == "cold")))
        return
    options.db = options.db or [*DATABASES]
    options.part = options.part or [*PARTS]
    options.cache = options.cache or [*CACHES]
    photos = read_photos(options.images, options.photos)
    samples: dict[str, list[Sample]] = {}
    out = []
    for kind in options.db:
        found, disk = samples_of(photos, options, kind)
        for (part, cache), orders in found.items():
            samples |= {f"{kind}, {part}, {cache}: {name}": runs for name, runs in orders.items()}
        if disk:
            samples[f"{kind}, disk"] = [disk]
        out += lines(found, disk, kind)
    report(options, samples, out[:-1])


if __name__ == "__main__":
    main()

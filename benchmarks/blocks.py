"""The cost of a full shuffle of narrow rows: blocks of 1 to 4096 rows, and the order of the keys.

A table with twenty columns of numbers, in batches of 4096 rows, read by one source in one process
as a worker reads it, warm: the table is in the page cache or in the server's shared buffers. The
rate is that of reading, with what the server works for it. Beside it stand the CPU time of this
process and that of the server's backend, which other work on the machine hardly changes, and the
bytes that were asked of the database: SQLite's ``read`` calls, PostgreSQL's pages of 8 KiB.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fastloader.options.config import make_config
from fastloader.plan.order import Uniform
from fastloader.plan.plan import Plan, key_ranges
from fastloader.source.opening import open_source
from fastloader.source.postgres.source import PostgresSource
from fastloader.source.protocol import Source
from tests.servers.cluster import cluster
from tests.servers.endings import ending_cleanly

from .measure import Sample, child, chosen, paired, parser, print_sample, ratio, report, spread
from .narrow import BATCH, COLUMNS, TYPES, fill

KEY_ORDER = "key order"
BLOCKS = (1, 8, 64, 512, 4096)
ORDERS: dict[str, dict[str, Any]] = {
    KEY_ORDER: {},
    **{f"shuffle_block={n}": {"shuffle": True, "shuffle_block": n} for n in BLOCKS},
}
DATABASES = {"sqlite": "SQLite", "postgres": "PostgreSQL"}

PAGES = """
SELECT 8192 * sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)
FROM pg_statio_user_tables WHERE relname = 'numbers'
"""


def write_sqlite(path: str, rows: int) -> None:
    """Create the table that ``narrow.fill`` creates in PostgreSQL."""
    real = {"int4": False, "int8": False, "float4": True, "float8": True}
    kinds = [real[TYPES[i % 4]] for i in range(len(COLUMNS))]
    columns = ", ".join(
        f"{name} {'REAL' if is_real else 'INTEGER'}"
        for name, is_real in zip(COLUMNS, kinds, strict=True)
    )
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE numbers (id INTEGER PRIMARY KEY, {columns})")
        connection.executemany(
            f"INSERT INTO numbers VALUES (?{', ?' * len(COLUMNS)})",
            (
                (n, *(n**0.5 if is_real else n * 7919 % 1_000_003 for is_real in kinds))
                for n in range(1, rows + 1)
            ),
        )


def run_one(url: str, order: str) -> Sample:
    """Read an epoch of the table in this order."""
    options = {"url": url, "table": "numbers", "label": COLUMNS, "batch_size": BATCH}
    config = replace(make_config({**options, **ORDERS[order]}, {}), image=())
    with contextlib.closing(open_source(config)) as source:
        keys = np.concatenate(list(source.keys()))
        columns = source.label_columns(keys)
        ended = _backend(source)
    order = Uniform(len(keys), config.shuffle, config.shuffle_block, config.seed)
    plan = Plan.of(config, order)
    batches = range(len(plan))

    def epoch(source: Source, number: int) -> int:
        positions = (plan.positions(number, batch) for batch in batches)
        ranges = itertools.chain.from_iterable(key_ranges(keys, its) for its in positions)
        return sum(len(chunk.keys) for chunk in source.read(ranges, columns))

    asked = _asked(url, ended)
    with contextlib.closing(open_source(config)) as source:
        backend = _backend(source)
        cpu, server, start = time.process_time(), _cpu_s(backend), time.perf_counter()
        rows = epoch(source, 1)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        server = _cpu_s(backend) - server
    asked = _asked(url, backend) - asked
    return {
        "rows_per_s": rows / seconds,
        "cpu_us_per_row": cpu / rows * 1e6,
        "server_us_per_row": server / rows * 1e6,
        "bytes_per_row": asked / rows,
        "rows": rows,
    }


def _backend(source: Source) -> int | None:
    """Return the process ID of a PostgreSQL source's backend."""
    if not isinstance(source, PostgresSource):
        return None
    source.identity()  # connects
    (result,) = source._query("SELECT pg_backend_pid()::text")
    return int(result.value(0, 0) or 0)


def _cpu_s(pid: int | None) -> float:
    """Return the CPU seconds of a process, or 0 for None."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _asked(url: str, backend: int | None) -> int:
    """Return the bytes that were asked of the database so far. The backend must be ending."""
    if backend is None:
        first = Path("/proc/self/io").read_text(encoding="ascii").split("\n")[0]
        return int(first.removeprefix("rchar:"))
    import psycopg2

    deadline = time.monotonic() + 30
    while psutil.pid_exists(backend):  # it adds its pages to the table's when it ends
        if time.monotonic() > deadline:
            raise SystemExit("the server's backend does not end")
        time.sleep(0.01)
    with contextlib.closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor()
        cursor.execute(PAGES)
        (found,) = cursor.fetchone()
        return int(found)


@contextlib.contextmanager
def database(kind: str, rows: int) -> Iterator[str]:
    """Make the table, and delete it when the block ends. Yields its URL."""
    if kind == "postgres":
        with cluster(shared_buffers="2GB", maintenance_work_mem="512MB") as server:
            fill(server, rows, 1)
            yield server.url()
        return
    with ending_cleanly(), tempfile.TemporaryDirectory(prefix="fastloader-") as folder:
        path = os.path.join(folder, "numbers.db")
        write_sqlite(path, rows)
        yield path


def lines_of(kind: str, samples: dict[str, list[Sample]]) -> list[str]:
    """Return the samples of one kind of database as a table in Markdown."""
    lines = [
        f"| from {DATABASES[kind]} | rows/s | relative to key order | CPU us per row, client + "
        f"server | bytes read per row |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, found in samples.items():
        x = ratio(found, samples[KEY_ORDER], "rows_per_s")
        client, server, size = (
            spread(found, key).median
            for key in ("cpu_us_per_row", "server_us_per_row", "bytes_per_row")
        )
        lines.append(
            f"| {name if name == KEY_ORDER else f'`{name}`'} "
            f"| {spread(found, 'rows_per_s').median:,.0f} "
            f"| {x.median:.2f}x [{x.low:.2f}..{x.high:.2f}] "
            f"| {client:.2f} + {server:.2f} | {size:,.0f} |"
        )
    return [*lines, ""]


def main() -> None:
    arguments = parser("blocks", __doc__, rounds=5)
    arguments.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="(1 million)")
    arguments.add_argument(
        "--db", action="append", choices=[*DATABASES], help="only this; may be given again (all)"
    )
    arguments.add_argument("--one", nargs=2, metavar=("URL", "ORDER"), help="one run, as JSON")
    options = arguments.parse_args()
    if options.one:
        print_sample(lambda: run_one(*options.one))
        return
    samples: dict[str, list[Sample]] = {}
    lines: list[str] = []
    for kind in options.db or DATABASES:
        with database(kind, options.rows) as url:

            def run(name: str, url: str = url) -> Sample:
                return child("benchmarks.blocks", "--one", url, name)

            found = paired(chosen(ORDERS, options.only), options.rounds, run=run)
        samples |= {f"{DATABASES[kind]}: {name}": each for name, each in found.items()}
        lines += lines_of(kind, found)
    report(options, samples, lines)


if __name__ == "__main__":
    main()

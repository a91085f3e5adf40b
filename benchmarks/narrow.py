"""Rows without images: numbers and vectors, as NumPy arrays.

* ``numbers``: a table of PostgreSQL's with twenty columns of numbers, in batches of 4096 rows.
* ``sqlite``: the same table in SQLite.
* ``vectors``: in PostgreSQL, 384 floats a row, as pgvector's type and as ``float4[]``.

Each contestant is one process with one connection, and the server is another. For fastloader that
is the source and the store of its batches, without a worker and its ring. The loader as it is used,
with two workers, is there as well. ConnectorX has the whole table in memory in the end. It and ADBC
are optional: one that is not installed is left out.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.servers.cluster import Cluster, cluster

from .end_to_end import Goal
from .measure import Sample, child, paired, parser, print_sample, ratio, report, spread, table

PARTS = ("numbers", "sqlite", "vectors")
BATCH, DIMENSIONS = 4096, 384
US, PSYCOPG, CONNECTORX, ADBC = "fastloader", "psycopg2 fetchmany", "ConnectorX", "ADBC"
LOADER, SQLITE = "FastLoader, 2 workers", "sqlite3 fetchmany"
VECTOR, TEXT = "fastloader vector", "psycopg2 vector, np.fromstring"
ARRAY, LISTS = "fastloader float4[]", "psycopg2 float4[], np.array"

TYPES = ("int4", "int8", "float4", "float8")
COLUMNS = [f"c{i}" for i in range(20)]


def fill(server: Cluster, numbers: int, vectors: int) -> None:
    """Create the two tables."""
    value = {"int4": "(n * 7919) % 1000003", "int8": "n * 1000003", "float4": "sqrt(n)",
             "float8": "ln(n + 1) / 3"}  # fmt: skip
    columns = ", ".join(f"({value[TYPES[i % 4]]})::{TYPES[i % 4]} AS c{i}" for i in range(20))
    server.execute(f"CREATE TABLE numbers AS SELECT n::int8 AS id, {columns} "
                   f"FROM generate_series(1::int8, {numbers}) n")  # fmt: skip
    server.execute("CREATE EXTENSION vector")
    server.execute(
        f"CREATE TABLE vectors AS SELECT n::int8 AS id, a, a::vector({DIMENSIONS}) AS v FROM "
        f"generate_series(1::int8, {vectors}) n CROSS JOIN LATERAL (SELECT array_agg("
        f"sin(n + i)::float4) AS a FROM generate_series(1, {DIMENSIONS}) i) arrays"
    )
    for name in ("numbers", "vectors"):
        server.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
        server.execute(f"VACUUM ANALYZE {name}")


def fill_sqlite(path: Path, numbers: int) -> str:
    """Create the table of numbers in a file, and return its URL."""
    value = {"int4": "(n * 7919) % 1000003", "int8": "n * 1000003", "float4": "sqrt(n)",
             "float8": "n / 3.0"}  # fmt: skip
    columns = ", ".join(f"{value[TYPES[i % 4]]} AS c{i}" for i in range(20))
    declared = ", ".join(f"c{i} {'REAL' if i % 4 > 1 else 'INTEGER'}" for i in range(20))
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"CREATE TABLE numbers (id INTEGER PRIMARY KEY, {declared})")
        connection.execute(
            f"WITH RECURSIVE all_n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM all_n "
            f"WHERE n < {numbers}) INSERT INTO numbers SELECT n, {columns} FROM all_n"
        )
    return f"sqlite:///{path}"


# ---- the contestants -----------------------------------------------------------------------------
# Each yields the number of rows of a batch. The first value is 0, before the clock starts.


def ours(name: str, labels: list[str], url: str) -> Iterator[int]:
    """Read a table in batches, as a worker does it, but without images."""
    from fastloader.fields.value import Value
    from fastloader.options.config import make_config
    from fastloader.plan.plan import key_ranges
    from fastloader.source.opening import open_source

    config = replace(make_config({"url": url, "table": name, "label": labels}, {}), image=())
    with contextlib.closing(open_source(config)) as source:
        keys = np.concatenate(list(source.keys()))
        columns = source.label_columns(keys)
        positions = np.arange(len(keys))
        ranges = (its for start in range(0, len(keys), BATCH)
                  for its in key_ranges(keys, positions[start : start + BATCH]))  # fmt: skip
        slot = [
            (Value(column.name), column, np.empty((BATCH, *column.fixed_shape), column.dtype))
            for column in columns
        ]
        yield 0
        at = 0
        for chunk in source.read(ranges, columns):
            start, rows = 0, len(chunk.keys)
            while start < rows:
                count = min(BATCH - at, rows - start)
                for field, column, target in slot:
                    values = chunk.columns[column.name][start : start + count]
                    if field.store(column, values, target, at):
                        raise SystemExit("a value does not fit")
                start, at = start + count, (at + count) % BATCH
                yield count


def loader(name: str, labels: list[str], url: str) -> Iterator[int]:
    """Read a table with the whole loader, in its second epoch, so that its workers have started."""
    from fastloader import FastLoader

    options: dict[str, Any] = {"table": name, "image": None, "label": labels, "workers": 2}
    with FastLoader(url, batch_size=BATCH, with_keys=True, **options) as batches:
        for _ in batches:
            pass
        yield 0
        for inputs, _ in batches:
            yield len(inputs["id"])


def psycopg(select: str, batch: Callable[[list[Any]], Any], url: str) -> Iterator[int]:
    """Use a server-side cursor and ``fetchmany()``."""
    import psycopg2

    with contextlib.closing(psycopg2.connect(url)) as connection:
        cursor = connection.cursor("rows")
        yield 0
        cursor.execute(select)
        while rows := cursor.fetchmany(BATCH):
            batch(rows)
            yield len(rows)


def sqlite(select: str, url: str) -> Iterator[int]:
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        yield 0
        cursor = connection.execute(select)
        while rows := cursor.fetchmany(BATCH):
            np.array(rows)
            yield len(rows)


def connectorx(select: str, url: str) -> Iterator[int]:
    import connectorx as cx

    yield 0
    found = cx.read_sql(url, select, return_type="arrow")
    for column in found.columns:
        column.to_numpy()
    yield found.num_rows


def adbc(select: str, url: str) -> Iterator[int]:
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(url) as connection, connection.cursor() as cursor:
        yield 0
        cursor.execute(select)
        for batch in cursor.fetch_record_batch():
            for column in batch.columns:
                column.to_numpy(zero_copy_only=False)
            yield batch.num_rows


def from_text(rows: list[Any]) -> Any:
    return np.array([np.fromstring(text[1:-1], np.float32, sep=",") for (text,) in rows])


def from_lists(rows: list[Any]) -> Any:
    return np.array([values for (values,) in rows], np.float32)


NUMBERS = f"SELECT {', '.join(COLUMNS)} FROM numbers ORDER BY id"
READERS: dict[str, dict[str, Callable[[str], Iterator[int]]]] = {
    "numbers": {
        US: partial(ours, "numbers", COLUMNS),
        LOADER: partial(loader, "numbers", COLUMNS),
        PSYCOPG: partial(psycopg, NUMBERS, np.array),
        CONNECTORX: partial(connectorx, NUMBERS),
        ADBC: partial(adbc, NUMBERS),
    },
    "sqlite": {
        US: partial(ours, "numbers", COLUMNS),
        LOADER: partial(loader, "numbers", COLUMNS),
        SQLITE: partial(sqlite, NUMBERS),
    },
    "vectors": {
        VECTOR: partial(ours, "vectors", ["v"]),
        ARRAY: partial(ours, "vectors", ["a"]),
        TEXT: partial(psycopg, "SELECT v FROM vectors ORDER BY id", from_text),
        LISTS: partial(psycopg, "SELECT a FROM vectors ORDER BY id", from_lists),
    },
}


def run_one(part: str, name: str, url: str) -> Sample:
    """Return the rate of one run, and the CPU time of this process."""
    rows = READERS[part][name](url)
    next(rows)
    cpu, start = time.process_time(), time.perf_counter()
    count = sum(rows)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
    return {"rows_per_s": count / seconds, "cpu_us_per_row": cpu_s / count * 1e6, "rows": count}


AIMS = {"vectors": "200,000 vectors", "sqlite": "1,000,000 rows"}

# ---- all of them ---------------------------------------------------------------------------------


def lines_of(part: str, samples: dict[str, list[Sample]]) -> list[str]:
    first = VECTOR if part == "vectors" else LOADER
    rows = [
        [
            name,
            f"{spread(found, 'rows_per_s'):,.0f}",
            f"{ratio(samples[first], found, 'rows_per_s'):.2f}",
            f"{spread(found, 'cpu_us_per_row'):.2f}",
        ]
        for name, found in samples.items()
    ]
    rate = spread(samples[first], "rows_per_s").median
    return [
        table([part, "rows/s", f"{first} is x times that", "client CPU us per row"], rows),
        "",
        *(
            Goal(name, goal).verdict(ratio(samples[first], samples[name], "rows_per_s"))
            for name, goal in ((PSYCOPG, 5), (CONNECTORX, 1), (ADBC, 1), (SQLITE, 5), (TEXT, 5))
            if name in samples
        ),
        *([f"aim: {AIMS[part]}/s: {rate:,.0f}"] if part in AIMS else []),
        "",
    ]


def main() -> None:
    arguments = parser("narrow", __doc__, rounds=5)
    arguments.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="(1 million)")
    arguments.add_argument("--vectors", type=int, default=200_000, metavar="N", help="(200,000)")
    arguments.add_argument(
        "--part", action="append", choices=PARTS, help="only this; may be given again (all)"
    )
    arguments.add_argument(
        "--peers", metavar="FOLDER", help="a site-packages with the optional contestants"
    )
    arguments.add_argument(
        "--one", nargs=3, metavar=("PART", "NAME", "URL"), help="one run, as JSON"
    )
    options = arguments.parse_args()
    if options.one:
        if options.peers:
            sys.path.append(options.peers)  # at the end: NumPy is the same for all
        print_sample(lambda: run_one(*options.one))
        return
    peers = ["--peers", options.peers] if options.peers else []
    samples: dict[str, list[Sample]] = {}
    lines: list[str] = []
    with (
        cluster(shared_buffers="2GB", maintenance_work_mem="512MB") as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        fill(server, options.rows, options.vectors)
        file = fill_sqlite(Path(folder) / "numbers.db", options.rows)
        for part in options.part or PARTS:

            def run(name: str, part: str = part) -> Sample:
                url = file if part == "sqlite" else server.url()
                return child("benchmarks.narrow", *peers, "--one", part, name, url)

            names = [name for name in READERS[part] if not options.only or name in options.only]
            found = paired(names, options.rounds, run=run)
            samples |= {f"{part}: {name}": each for name, each in found.items()}
            lines += lines_of(part, found)
    report(options, samples, lines)


if __name__ == "__main__":
    main()

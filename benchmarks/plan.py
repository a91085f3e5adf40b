"""The cost of planning: reading and checking the keys of a large table, and the order of an epoch.

Each runs in a process of its own. ``keys`` reads all keys of a SQLite table whose images are empty,
as FastLoader does when it is made. The orders compute which rows are in each batch of a shuffled
epoch, as the workers do one batch at a time, and the key ranges by which these rows are read.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import tempfile
import time

import numpy as np

from tests.servers.endings import ending_cleanly

from .measure import Sample, child, paired, parser, report, spread, table

BLOCKS = (None, 64, 8, 1)
"""``shuffle_block``; None for no shuffle."""


def table_of(path: str, rows: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE images (id INTEGER PRIMARY KEY, image_data BLOB, label INTEGER)"
        )
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO images SELECT 3 * i, x'', i % 1000 FROM n",
            [rows],
        )


def run_keys(path: str) -> Sample:
    from fastloader.options.config import make_config
    from fastloader.transport.memory import create_memory
    from fastloader.worker.survey import survey

    config = make_config({"url": path})
    with create_memory("plan") as memory:
        start = time.perf_counter()
        found, keys, source = survey(config, memory)
        seconds = time.perf_counter() - start
        keys_mb = keys.nbytes / 1e6
        del keys  # a view of the memory
        source.close()
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return {
        "seconds": seconds, "us_per_row": seconds / found.rows * 1e6, "keys_mb": keys_mb,
        "peak_mb": peak_mb,
    }  # fmt: skip


def run_order(rows: int, block: int | None, batch_size: int = 64) -> Sample:
    from fastloader.plan.order import Uniform
    from fastloader.plan.plan import Plan, key_ranges

    plan = Plan(Uniform(rows, block is not None, block or 1), batch_size)
    keys = np.arange(3, 3 * rows + 3, 3)
    start, ranges = time.perf_counter(), 0
    batches = range(0, len(plan), max(1, len(plan) // 5000))
    for batch in batches:
        ranges += len(key_ranges(keys, plan.positions(1, batch)))
    seconds = time.perf_counter() - start
    looked_at = len(batches) * batch_size
    return {
        "seconds": seconds,
        "us_per_row": seconds / looked_at * 1e6,
        "ranges": ranges / len(batches),
    }


def lines(samples: dict[str, list[Sample]], rows: int) -> list[str]:
    keys = {key: spread(samples["keys"], key) for key in samples["keys"][0]}
    head = (
        f"the keys of {rows} rows: {keys['seconds']:.2f} s, {keys['us_per_row']:.2f} us each; the "
        f"process takes {keys['peak_mb']:.0f} MB at most, {keys['keys_mb']:.0f} MB of them for keys"
    )
    orders = [
        [name, f"{spread(found, 'us_per_row'):.3f}", f"{spread(found, 'ranges').median:.1f}"]
        for name, found in samples.items()
        if name != "keys"
    ]
    return [head, "", table(["order of an epoch", "us per row", "key ranges per batch"], orders)]


def main() -> None:
    arguments = parser("plan", __doc__, rounds=3)
    arguments.add_argument(
        "--rows", type=int, default=10_000_000, metavar="N", help="rows of the table (10,000,000)"
    )
    arguments.add_argument("--one", nargs=2, metavar=("NAME", "DATABASE"), help="one run, as JSON")
    options = arguments.parse_args()
    names = {"no shuffle" if block is None else f"shuffle_block={block}": block for block in BLOCKS}
    if options.one:
        name, path = options.one
        print(
            json.dumps(run_keys(path) if name == "keys" else run_order(options.rows, names[name]))
        )
        return
    with ending_cleanly(), tempfile.TemporaryDirectory(prefix="fastloader-") as folder:
        path = os.path.join(folder, "keys.db")
        table_of(path, options.rows)

        def run(name: str) -> Sample:
            return child("benchmarks.plan", "--one", name, path, "--rows", options.rows)

        samples = paired(["keys", *names], options.rounds, run=run)
    report(options, samples, lines(samples, options.rows))


if __name__ == "__main__":
    main()

"""Ray Data on a cluster of three nodes on this machine, with one core each.

``fastloader.adapters.ray`` runs against ``ray.data.read_sql`` with a ``map_batches`` that decodes
with Pillow, from SQLite to batches of NumPy arrays in the driver. The first execution starts Ray's
workers and does not count. ``no Ray`` is a loader with a worker for each core, in the same loop.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .measure import (
    BATCH,
    SIZE,
    Sample,
    child,
    chosen,
    cores,
    cpu_seconds,
    paired,
    parser,
    print_sample,
    ratio,
    report,
    spread,
    table,
)
from .photos import database, read_photos

OURS, SQL, LOADER = "fastloader.adapters.ray", "read_sql, map_batches", "no Ray"
NODES = 3
EXECUTIONS = 3


def timed(execution: Callable[[], Iterable[int]]) -> Sample:
    """Measure executions that yield the number of rows of each batch."""
    for _ in execution():
        pass
    rates, rows, cpu = [], 0, cpu_seconds()
    for _ in range(EXECUTIONS):
        start = time.perf_counter()
        here = sum(execution())
        rates.append(here / (time.perf_counter() - start))
        rows += here
    return {
        "images_per_s": statistics.median(rates),
        "cpu_ms_per_image": (cpu_seconds() - cpu) / rows * 1e3,
    }


@contextlib.contextmanager
def cluster_of(nodes: int, *, object_store_memory: int) -> Iterator[Any]:
    """Start a Ray cluster of nodes with one core each; this process runs on the first of them."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": object_store_memory, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def run_one(name: str, path: str) -> Sample:
    if name == LOADER:
        from fastloader import FastLoader

        with FastLoader(path, batch_size=BATCH, size=SIZE, workers=cores()) as loader:
            return timed(lambda: (len(labels) for _, labels in loader))
    from fastloader.adapters.ray import read

    from .peers import ray_dataset

    with cluster_of(NODES, object_store_memory=1 << 30):
        dataset: Any = read(path, size=SIZE) if name == OURS else ray_dataset(path)
        batches = lambda: dataset.iter_batches(batch_size=BATCH)  # noqa: E731
        return timed(lambda: (len(batch["label"]) for batch in batches()))


def lines(samples: dict[str, list[Sample]]) -> list[str]:
    rows = []
    for name, of_name in samples.items():
        row = [name, f"{spread(of_name, 'images_per_s'):.0f}", ""]
        if OURS in samples and name != OURS:
            row[2] = f"{ratio(samples[OURS], of_name, 'images_per_s'):.2f}"
        rows.append([*row, f"{spread(of_name, 'cpu_ms_per_image'):.2f}"])
    return [table(["", "images/s", f"{OURS} is x times that", "CPU ms per image"], rows)]


def main() -> None:
    arguments = parser("on_ray", __doc__, rounds=3)
    arguments.add_argument(
        "--copies", type=int, default=4, metavar="N", help="rows for each photo (4)"
    )
    arguments.add_argument("--one", nargs=2, metavar=("NAME", "DATABASE"), help="one run, as JSON")
    options = arguments.parse_args()
    if options.one:
        print_sample(lambda: run_one(*options.one))
        return
    photos = read_photos(options.images, options.photos)
    with database(photos, options.copies * len(photos)) as path:
        samples = paired(
            chosen((OURS, SQL, LOADER), options.only),
            options.rounds,
            run=lambda name: child("benchmarks.on_ray", "--one", name, path),
        )
    report(options, samples, lines(samples))


if __name__ == "__main__":
    main()

"""The cases: what each measures, the module that runs it, and the metric that the report plots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """What the report shows of a case.

    Attributes
    ----------
    key
        The key of a sample.
    unit
        The unit of its values.
    more
        Whether more is better.
    """

    key: str
    unit: str
    more: bool = True


@dataclass(frozen=True)
class Case:
    """One benchmark.

    Attributes
    ----------
    what
        What it measures, in a line.
    command
        A module of this package, and its arguments.
    metric
        The metric of those samples that have it.
    quick
        The arguments that make it finish in a few seconds; None if it cannot.
    is_ours
        Whether all samples are of fastloader.
    much
        How much data there is, unless the run is quick.
    """

    what: str
    command: tuple[str, ...]
    metric: Metric
    quick: tuple[str, ...] | None = None
    is_ours: bool = False
    much: str = ""

    def title(self, *, is_quick: bool) -> str:
        """Return what was measured, and on how much data."""
        much = "a quick run, on little data" if is_quick else self.much
        return f"{self.what[0].upper()}{self.what[1:]}{f' ({much})' if much else ''}"


IMAGES_PER_S = Metric("images_per_s", "images/s")
SOME = ("--photos", "200", "--rounds", "1")
FOUR_DECODERS = ("--only", "fastloader", "libjpeg-turbo alone", "Pillow", "pillow-simd")

CASES: dict[str, Case] = {
    "formats": Case(
        "loaders with formats of their own, from the same JPEGs: FFCV, DALI, LitData and others",
        ("formats",),
        IMAGES_PER_S,
        (
            *SOME,
            "--copies",
            "1",
            "--seconds",
            "0.5",
            "--no-install",
            "--sets",
            "256",
            "--modes",
            "jpeg",
            "--views",
            "random",
        ),
        much="790 photographs, twice",
    ),
    "cursor": Case(
        "reading from PostgreSQL in one process, against psycopg2 and psycopg 3",
        ("postgres", "--part", "read"),
        Metric("rows_per_s", "rows/s"),
        (*SOME, "--copies", "2"),
    ),
    "plan": Case(
        "the keys of a large table, and the order of an epoch",
        ("plan",),
        Metric("us_per_row", "us per row", more=False),
        ("--rounds", "1", "--rows", "300000"),
        is_ours=True,
        much="10 million rows",
    ),
    "narrow": Case(
        "rows without images: numbers and vectors, against the drivers of both databases",
        ("narrow",),
        Metric("rows_per_s", "rows/s"),
        ("--rounds", "1", "--rows", "100000", "--vectors", "10000"),
        much="a million rows of twenty numbers, 200,000 vectors of 384 floats",
    ),
    "blocks": Case(
        "a full shuffle of rows of twenty numbers, by shuffle_block: both databases",
        ("blocks",),
        Metric("rows_per_s", "rows/s"),
        ("--rounds", "1", "--rows", "50000"),
        is_ours=True,
        much="a million rows",
    ),
    "decode": Case(
        "decode and resize on one core, against other libraries",
        ("decode",),
        Metric("ms", "ms per image", more=False),
        ("--rounds", "1", "--photos", "60", "--workload", "photos", *FOUR_DECODERS),
    ),
    "resize": Case(
        "the stages of an image: entropy decoding, transform, resize, write",
        ("decode", "--part", "stages"),
        Metric("ms", "ms per image", more=False),
        ("--rounds", "1", "--photos", "60"),
        is_ours=True,
    ),
    "quality": Case(
        'pixels against a float64 reference, quality="fast" against "exact"',
        ("decode", "--part", "quality"),
        Metric("ms", "ms per image", more=False),
    ),
    "handover": Case(
        "a batch from the ring into NumPy and into TensorFlow: CPU of the training process",
        ("handover",),
        Metric("ours", "us per image", more=False),
    ),
    "sqlite": Case(
        "SQLite to a TensorFlow loop, against the usual ways",
        ("end_to_end", "--all"),
        IMAGES_PER_S,
        (*SOME, "--copies", "2", "--only", "fastloader", "pillow-batch", "bare"),
    ),
    "postgres": Case(
        "PostgreSQL to a TensorFlow loop, against the usual ways",
        ("end_to_end", "--db", "postgres"),
        IMAGES_PER_S,
        (*SOME, "--copies", "2", "--only", "fastloader", "pillow-batch"),
    ),
    "peers": Case(
        "SQLite to a loop: PyTorch's DataLoader, Hugging Face, Grain, SPDL, Ray Data, if installed",
        ("end_to_end", "--peers"),
        IMAGES_PER_S,
    ),
    "ray": Case(
        "Ray Data on three nodes: fastloader.adapters.ray against read_sql and map_batches",
        ("on_ray",),
        IMAGES_PER_S,
        (*SOME, "--copies", "2"),
    ),
    "scaling": Case(
        "images/s against the number of workers",
        ("scaling",),
        IMAGES_PER_S,
        (*SOME, "--copies", "3", "--seconds", "0.5"),
    ),
    "load": Case(
        "what reading costs a PostgreSQL server, and 8, 64 and 512 hosts on one (simulated)",
        ("server_load",),
        IMAGES_PER_S,
        ("--part", "simulate"),
        is_ours=True,
    ),
    "hosts": Case(
        "real hosts on one PostgreSQL, over a network that is slow and loses packets, against the "
        "simulation (needs root)",
        ("hosts",),
        Metric("rows_per_s", "rows/s"),
        is_ours=True,
    ),
    "memory": Case(
        "private memory of training process and worker, batch after batch",
        ("memory",),
        Metric("worker_mb", "MB", more=False),
        ("--photos", "100", "--batches", "300"),
        is_ours=True,
        much="10,000 batches",
    ),
    "first_batch": Case(
        "from FastLoader() to the first batch",
        ("first_batch",),
        Metric("first_s", "s", more=False),
        (*SOME, "--rows", "20000", "--only", "numpy", "memory"),
        is_ours=True,
        much="100,000 rows",
    ),
    "shuffle": Case(
        "the cost of each order: both databases, warm and cold",
        ("shuffle",),
        Metric("rows_per_s", "rows/s"),
        is_ours=True,
    ),
    "epochs": Case(
        "the gap between two epochs",
        ("epochs",),
        Metric("between_median_ms", "ms", more=False),
        is_ours=True,
    ),
    "cache": Case(
        "the epoch that fills the cache and the epochs that it serves, warm and cold",
        ("cached",),
        IMAGES_PER_S,
        (*SOME, "--copies", "2", "--only", "no cache", "ram"),
        is_ours=True,
    ),
    "shrink": Case(
        "smaller images: making them, and epochs of them, against Pillow and the originals",
        ("shrink",),
        IMAGES_PER_S,
        (*SOME, "--db", "sqlite"),
    ),
    "transforms": Case(
        "a function of yours on each row: albumentations, against other loaders; empty functions",
        ("transforms",),
        IMAGES_PER_S,
        (*SOME, "--part", "augment", "--only", "fastloader"),
    ),
    "sampling": Case(
        "balanced and weighted sampling of classes of 100 to 1, against a shuffle",
        ("sampling",),
        IMAGES_PER_S,
        (*SOME, "--copies", "2", "--rows", "100000"),
        is_ours=True,
        much="3160 photographs, a million rows of numbers",
    ),
    "labels": Case(
        "the labels in a batch of a sorted table, by shuffle_block",
        ("labels",),
        Metric("mean_distinct", "labels per batch"),
        is_ours=True,
    ),
}

"""What decides on the decoding of a field besides its own options."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """The options of a loader that decoders need.

    Attributes
    ----------
    seed
        The seed of random crops and flips.
    portable
        Whether to do without vector instructions.
    worker_imports
        Modules that add formats to Pillow.
    is_cached
        Whether a cache keeps what is decoded.
    max_blob_bytes
        The limit for an encoded image, in bytes.
    is_postgres
        Whether the database is PostgreSQL, for advice.
    names_columns
        Whether a reason must name its column, because there are several images.
    """

    seed: int = 0
    portable: bool = False
    worker_imports: tuple[str, ...] = ()
    is_cached: bool = False
    max_blob_bytes: int = 64 << 20
    is_postgres: bool = False
    names_columns: bool = False

"""Where rows come from. One protocol, one module for each kind of database."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..fields.columns import Column
from ..options.config import Config
from ..plan.keys import Key, Keys


@dataclass(frozen=True)
class Snapshot:
    """What another process needs to see the same rows: the snapshot's name, and the server."""

    name: str
    host: str
    hostaddr: str
    port: int


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a read.

    keys: of the rows, in the database's order within a key range.
    ranges: for each row the number of its range in this read, from 0, int64 (n,).
    images: for each image column, in the order of the configuration, the rows' blobs: a sequence of
        buffers; or, as intp (n, 2), their addresses and sizes. Valid as long as the chunk. Of no
        meaning for a row that is in ``bad``.
    labels: for each label column the rows' values: an array (n, *shape) of any numeric dtype, or
        a sequence of int, float, str, bytes or None. Of no meaning for a row that is in ``bad``.
    bad: why a row cannot be delivered, by its number in the chunk. One image that is missing or too
        large is enough; the reason names its column, the first of them where there are several.
    owner: of the memory behind ``images``.
    """

    keys: Keys
    ranges: NDArray[np.int64]
    images: Sequence[Sequence[Any] | NDArray[np.intp]]
    labels: Sequence[Sequence[Any] | NDArray[Any]]
    bad: dict[int, str] = field(default_factory=dict)
    owner: object = None


class Source(Protocol):
    """A table or query, opened. Belongs to the process that opened it; one thread at a time.

    Every method raises SourceError with what the server said and where, never with a password.

    reconnects: lost connections that were made again while rows were read.
    """

    reconnects: int

    def keys(self) -> Iterator[Keys]:
        """All keys in the database's order, in parts of one dtype.

        Raises PlanError on NULL and on a type that cannot be a key.
        """

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
        """The label columns in the order of the configuration, with the types that they will have.

        Looks at as few of the rows with these keys as it can.
        """

    def read(self, ranges: Iterable[tuple[Key, Key]], columns: Sequence[Column]) -> Iterator[Chunk]:
        """The rows whose keys lie in the ranges (both ends inclusive), in the order of the ranges,
        ascending within each. ``ranges`` is consumed about as the rows are. columns: what
        :meth:`label_columns` has found."""

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        """What reads, as the database calls itself, and how it would read these ranges, some lines
        of its own words."""

    def state(self) -> str:
        """A text that is another one once any of the rows may be another one, for caches.

        Raises ConfigError where there is none to be had.
        """

    def identity(self) -> str:
        """Return which database this is, for :func:`open_source` in other processes. "" if that
        cannot be known."""

    def snapshot(self) -> Snapshot | None:
        """For :func:`open_source` in other processes, which then see what this source sees for as
        long as it is open. None where there is no such thing."""

    def interrupt(self) -> None:
        """What is under way ends soon, with SourceError. From any thread."""

    def close(self) -> None:
        """May be called twice."""


def open_source(
    config: Config, snapshot: Snapshot | None = None, *, who: str = "", identity: str = ""
) -> Source:
    """Open what ``config.url`` names.

    snapshot: of another source, to see what it sees. who: how the server's list of connections is
    to call this one. identity: of another source. Raises SourceError if this would be another
    database, because a file was replaced or a name leads to another server now.
    """
    if config.url.is_postgres:
        from .postgres.source import PostgresSource

        return PostgresSource(config, snapshot, who=who, identity=identity)
    from .sqlite.source import SQLiteSource

    return SQLiteSource(config, identity=identity)


def hold(config: Config) -> io.FileIO | None:
    """Return what keeps the identity of the database's file from passing to another file, or None
    for a server."""
    if config.url.is_postgres:
        return None
    from .sqlite import file as sqlitefile

    try:
        return sqlitefile.hold(sqlitefile.path_of(config))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None  # the next one who opens it says so


def state_holds(config: Config, state: str) -> bool:
    """Return whether sources still read the rows of this :meth:`Source.state`.

    It is asked for each batch, and takes 0.01 ms. It opens nothing: see ``sqlitefile.py``.
    """
    if config.url.is_postgres:
        return True  # it is that of a snapshot, which lasts
    from .sqlite.file import file_state, path_of

    return state == file_state(path_of(config))


def identifier(*names: str) -> str:
    """``"schema"."table"``, as SQL has it."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


_TOKEN = re.compile(
    r"""(?P<nothing>\s+|--[^\n]*|/\*.*?\*/|;)
      |[eE]'(?:\\.|''|[^'\\])*'|'(?:''|[^'])*'|"(?:""|[^"])*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
      |\w+|.""",
    re.DOTALL | re.VERBOSE,
)


def as_subquery(query: str) -> str:
    """``(query)``: without what would end it too early, semicolons and comments at its end."""
    end = 0
    for token in _TOKEN.finditer(query):
        if token["nothing"] is None:
            end = token.end()
    return f"({query[:end]})"


def too_large(column: str, size: str, limit: int) -> str:
    """What is said of a blob that is larger than ``max_blob_bytes``."""
    return (
        f"column {column!r} holds {size} bytes; the limit is {limit}; raise max_blob_bytes to "
        f"allow it"
    )

"""What every kind of database looks like to the rest of the package.

:class:`Source` is the contract; ``sqlite/`` and ``postgres/`` implement it. A source lives in the
process that opened it: a worker, the survey, or the training process with ``workers=0``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import PlanError, SourceError
from ..fields.columns import Column
from ..fields.values import Values
from ..options.config import Config
from ..plan.keys import Key, Keys


@dataclass(frozen=True)
class Snapshot:
    """What another process needs in order to see the same rows.

    Attributes
    ----------
    name
        The snapshot's name on the server.
    host, hostaddr, port
        The server that has it. ``hostaddr`` is the IP address, or "" for a Unix socket.
    """

    name: str
    host: str
    hostaddr: str
    port: int


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a read.

    What ``columns`` hold for a row that is in ``bad`` has no meaning.

    Attributes
    ----------
    keys
        The rows' keys, in the database's order within each key range.
    ranges
        For each row the number of its range in this read, from 0: int64 (n,).
    columns
        The rows' values, by the name of the database column.
    bad
        Why a row cannot be delivered, by its index in the chunk, where the values themselves do not
        show it.
    """

    keys: Keys
    ranges: NDArray[np.int64]
    columns: Mapping[str, Values]
    bad: dict[int, str] = field(default_factory=dict)


class Source(Protocol):
    """An open table or query.

    A source belongs to the process that opened it and is used by one thread at a time, except for
    :meth:`interrupt`. Every method raises SourceError with what the server said and where, never
    with a password.

    Attributes
    ----------
    reconnects
        The number of connections that were lost and replaced while rows were read.
    """

    reconnects: int

    def keys(self) -> Iterator[Keys]:
        """Yield all keys in the database's order, in parts of one dtype.

        With a ``split_column``, they have a last column with the rows' numbers; see
        :func:`fastloader.plan.split.with_numbers`.

        Raises
        ------
        PlanError
            If a key is NULL or of a type that cannot be a key, or if ``split_by`` is NULL.
        """

    def label_columns(self, keys: Keys) -> tuple[Column, ...]:
        """Return the label columns, in the order of the configuration, with their final types.

        Parameters
        ----------
        keys
            All keys of the table. As few of their rows as possible are looked at.
        """

    def classes(self, column: str, most: int) -> list[str | int]:
        """Return the different values of a column, at most ``most``, by the first key of each.

        NULL is not among them. They are those of the whole table.
        """

    def read(self, ranges: Iterable[tuple[Key, Key]], columns: Sequence[Column]) -> Iterator[Chunk]:
        """Yield the rows whose keys lie in the ranges.

        Rows come in the order of the ranges, and in ascending order of keys within each range.

        Parameters
        ----------
        ranges
            First and last key of each range, both inclusive. It is consumed about as fast as the
            rows are.
        columns
            What :meth:`label_columns` returned.
        """

    def explain(self, ranges: Sequence[tuple[Key, Key]]) -> tuple[str, str]:
        """Return the database's name with its version, and its own plan for reading these ranges.

        The plan is text of several lines.
        """

    def state(self) -> str:
        """Return a text that changes whenever any of the rows may have changed, for caches.

        Raises
        ------
        ConfigError
            If the database cannot tell whether rows have changed.
        """

    def identity(self) -> str:
        """Return which database this is, for :func:`~.opening.open_source` in other processes.

        It is "" if that cannot be known.
        """

    def snapshot(self) -> Snapshot | None:
        """Return what :func:`~.opening.open_source` needs to see what this source sees.

        It is valid in other processes for as long as this source is open. It is None if the
        database has no snapshots to share.
        """

    def own_files(self) -> list[tuple[int, int]]:
        """Return device and inode of each file that nothing but the source may open now."""

    def interrupt(self) -> None:
        """Make whatever is under way end soon with SourceError. Any thread may call it."""

    def close(self) -> None:
        """Close the connection. It may be called twice."""


def no_group(name: str, column: str, problem: str, advice: str = "") -> PlanError:
    """Return the error for a ``split_by`` column with a value that cannot be hashed."""
    return PlanError(
        f"{name}: the column {column!r} of split_by= {problem}; integers, text and UUIDs decide "
        f"about a split. {advice or 'Use another column'}"
    )


def no_table(where: object, table: str | None, there: str) -> SourceError:
    """Return the error for a database that does not have the table."""
    return SourceError(
        f"{where}: no table {table!r}; there are: {there}. table= names the table to read, "
        f'"images" if it is not given'
    )


def bad_condition(name: str, where: str, words: str) -> SourceError:
    """Return the error for a ``where`` that the database refuses, with what the database said."""
    return SourceError(f"{name}: cannot use where={where!r}: {words}")


def unused_param(name: str, where: str, count: int) -> SourceError:
    """Return the error for ``params`` of which the last one, number ``count``, is not used."""
    return bad_condition(name, where, f"params has {count} values, and ${count} is not used")


def no_column(config: Config, column: str, there: Iterable[str]) -> SourceError:
    """Return the error for a column that the table or query does not have."""
    if column in config.keys:
        hint = "key= names the column of unique keys"
    elif column == config.split_by:
        hint = "split_by= names the column that decides about the split"
    elif column in config.blob_limits:
        hint = "image= names the column of images"
        if column in config.path_columns:
            hint = 'Image("column", files=...) names the column of paths'
    elif any(field.of_column == column for field in config.inputs.values()):
        hint = "fields= names the columns of the inputs"
    elif any(field.of_column == column for field in config.weights.values()):
        hint = "sample_weight= names the column of weights"
    else:
        hint = "label= names the column of labels, and label=None delivers images alone"
    return SourceError(f"no column {column!r}; there are {', '.join(there)}. {hint}")

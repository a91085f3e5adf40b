"""The columns that shrink copies: how they are read, and what they are in the new table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import SourceError
from ...options.config import Config
from ..command import CommandError


class CannotHold(Exception):
    """A value that the other kind of database cannot hold. The message completes "column x"."""


@dataclass(frozen=True)
class Copied:
    """A column that is copied.

    Attributes
    ----------
    name
        Its name in both tables.
    alias
        Its name in what is read.
    expression
        What is read of it, in SQL.
    declared
        Its type in the new table.
    convert
        Makes the value for the new table of the one that was read, neither of them NULL. Raises
        CannotHold.
    """

    name: str
    alias: str
    expression: str
    declared: str
    convert: Callable[[Any], Any]


def chosen(config: Config, there: Sequence[str], only: Sequence[str] | None) -> list[str]:
    """Return the names of the columns to copy: the keys and ``only``, in the table's order.

    Raises
    ------
    CommandError
        If there is no column of a name in ``only``.
    """
    image = config.image_columns[0]
    for name in only or ():
        if name not in there:
            raise CommandError(f"{config.place}: no column {name!r}; there are {', '.join(there)}")
    wanted = there if only is None else [*config.keys, *only]
    keys = [name for name in config.keys if name not in there]  # SQLite's rowid
    return keys + [name for name in there if name in wanted and name != image]


def unusable(config: Config, column: str, what: str, database: str) -> SourceError:
    """Return the error for a column that the other kind of database cannot hold.

    Parameters
    ----------
    config
        The source.
    column
        The name of the column.
    what
        What it holds.
    database
        The other kind of database.
    """
    advice = "it is the key, so the new table has to be in the same kind of database"
    if column not in config.keys:
        advice = "leave it out: --columns names those to copy"
    return SourceError(
        f"{config.place}: column {column!r} holds {what}, which {database} has no type for; "
        f"{advice}"
    )

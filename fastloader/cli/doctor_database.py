"""What ``fastloader doctor`` says of a database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..errors import FastloaderError
from ..options.config import make_config
from ..transport.memory import create_memory
from ..worker.survey import survey

OK, WARN, FAIL = "ok", "warn", "fail"


class Finding(NamedTuple):
    """what: was looked at. status: OK, WARN or FAIL. words: what was found, and what to do."""

    what: str
    status: str
    words: str


NOT_THERE = ("no such file", "there are: none", "there are no rows")
"""What errors say of a database without anything to load."""


def check_database(url: str | None) -> Iterator[Finding]:
    """Survey the table as a loader does. url: that of FASTLOADER_URL if None."""
    try:
        config = make_config({} if url is None else {"url": url})
        with create_memory("doctor") as memory:
            found, keys, source = survey(config, memory)
            del keys  # a view of the memory
            source.close()
    except FastloaderError as error:
        words = str(error)
        if any(what in words for what in NOT_THERE):
            words += f"; {_ingest(url)}"
        yield Finding("database", FAIL, words)
        return
    columns = ", ".join(column.name for column in found.columns) or "none"
    if found.rows == 0:
        yield Finding("database", WARN, f"{config.where}: it has no rows; {_ingest(url)}")
    else:
        yield Finding("database", OK, f"{config.where}: {found.rows} rows, labels: {columns}")
    yield from (Finding("database", WARN, note) for note in found.notes)


def _ingest(url: str | None) -> str:
    # Not the URL itself, which may have a password in it.
    return f"fastloader ingest FOLDER{'' if url is None else ' URL'} fills a table with images"

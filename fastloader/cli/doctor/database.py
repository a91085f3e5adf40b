"""The check of a database: whether a loader could read its table."""

from __future__ import annotations

from collections.abc import Iterator

from ...errors import FastloaderError
from ...options.config import make_config
from ...transport.memory import create_memory
from ...worker.survey import survey
from .finding import FAIL, OK, WARN, Finding

NOTHING_THERE = ("no such file", "there are: none", "no rows")
"""Parts of the errors of a database that has nothing to load."""


def check_database(url: str | None) -> Iterator[Finding]:
    """Survey the table as a loader does, in this process.

    Parameters
    ----------
    url
        The database; None for that of FASTLOADER_URL.
    """
    try:
        config = make_config({} if url is None else {"url": url})
        with create_memory("doctor") as memory:
            found, keys, source = survey(config, memory)
            del keys  # a view of the memory
            source.close()
    except FastloaderError as error:
        words = str(error)
        if any(part in words for part in NOTHING_THERE):
            words += f"; {_ingest(url)}"
        yield Finding("database", FAIL, words)
        return
    columns = ", ".join(column.name for column in found.columns) or "none"
    if found.rows == 0:
        yield Finding("database", WARN, f"{config.place}: it has no rows; {_ingest(url)}")
    else:
        yield Finding("database", OK, f"{config.place}: {found.rows} rows, labels: {columns}")
    yield from (Finding("database", WARN, note) for note in found.notes)


def _ingest(url: str | None) -> str:
    # Not the URL itself, which may contain a password.
    return f"fastloader ingest FOLDER{'' if url is None else ' URL'} fills a table with images"

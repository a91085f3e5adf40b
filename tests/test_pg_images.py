"""Several image columns in PostgreSQL, where each may be bytea or the oids of large objects."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from fastloader import FastloaderWarning, SourceError
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.source.protocol import Chunk

from .servers.postgres import Database
from .support import all_keys, bad_rows, blobs_of, jpeg


def read(url: str, **options: Any) -> Chunk:
    """All rows, after a look at the keys as for a plan."""
    source = open_source(make_config({"url": url, "label": None, **options}, {}))
    with contextlib.closing(source):
        all_keys(source)
        (chunk,) = source.read([(0, 1000)], ())
        return chunk


@pytest.mark.parametrize("names", [["photo", "scan"], ["scan", "photo"]])
def test_bytea_and_large_objects_may_stand_in_one_row(database: Database, names: list[str]) -> None:
    url = database.table([], columns="id int4 PRIMARY KEY, photo bytea, scan oid")
    large = b"large object "
    database.execute(
        "INSERT INTO images SELECT n, convert_to('bytea ' || n, 'UTF8'), "
        "lo_from_bytea(0, convert_to('large object ' || n, 'UTF8')) FROM generate_series(1, 6) n"
    )
    database.execute("UPDATE images SET scan = NULL WHERE id = 2")
    database.execute("SELECT lo_unlink(scan) FROM images WHERE id = 3")
    database.execute("UPDATE images SET photo = NULL WHERE id = 4")
    database.execute("SELECT lo_put(scan, 0, repeat('x', 51)::bytea) FROM images WHERE id = 5")
    database.execute("UPDATE images SET photo = repeat('x', 52)::bytea WHERE id = 6")
    chunk = read(url, image=names, max_blob_bytes=50)
    no_object = "NULL, or the oid of a large object that does not exist"
    limit = "the limit is 50; raise max_blob_bytes to allow it"
    assert bad_rows(chunk, *names, limit=50) == {
        1: f"column 'scan' is {no_object}",
        2: f"column 'scan' is {no_object}",
        3: "column 'photo' is NULL",
        4: f"column 'scan' holds more than 50 bytes; {limit}",
        5: f"column 'photo' holds 52 bytes; {limit}",
    }
    blobs = {name: blobs_of(chunk, name) for name in names}
    assert blobs["photo"][:3] == [b"bytea 1", b"bytea 2", b"bytea 3"]
    assert [blobs["scan"][i] for i in (0, 3, 5)] == [large + b"1", large + b"4", large + b"6"]


@pytest.mark.parametrize("names", [["photo", "scan"], ["scan", "photo"]])
def test_any_image_of_another_type_is_refused_with_a_cast(
    database: Database, names: list[str]
) -> None:
    url = database.table(
        [(1, b"photo", "c2Nhbg==")], columns="id int4 PRIMARY KEY, photo bytea, scan text"
    )
    with pytest.raises(SourceError, match="'scan' has the type text; images must be") as caught:
        read(url, image=names)
    query = str(caught.value).split("query=")[1][1:-1].replace('\\"', '"').replace("\\'", "'")
    chunk = read(url, image=names, query=query)
    assert [blobs_of(chunk, name)[0].decode() for name in names] == names


def test_each_compressed_image_column_is_advised_against(database: Database) -> None:
    image = jpeg(30, 30)
    compressible = image + b"\0" * 100_000
    rows = [(n, image, compressible, compressible) for n in range(5)]
    columns = "id int4 PRIMARY KEY, photo bytea, mask bytea, scan bytea"
    url = database.table(rows, columns=columns)
    with pytest.warns(FastloaderWarning, match="has compressed the column") as caught:
        read(url, image=["photo", "mask", "scan"])
    notes = [str(warning.message) for warning in caught]
    assert ["'mask'" in notes[0], "'scan'" in notes[1]] == [True, True]
    assert len(notes) == 2
    for note in notes:
        for statement in note.split("Run: ")[1].split("; and write the rows again: "):
            database.execute(statement)
    names = ["photo", "mask", "scan"]
    chunk = read(url, image=names)  # a warning would be an error here
    assert [blobs_of(chunk, name)[0] for name in names] == [image, compressible, compressible]

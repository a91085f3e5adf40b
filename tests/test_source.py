"""What every source does, each checked on every kind of database."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader.errors import PlanError, SourceError
from fastloader.fields.columns import Column
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.source.protocol import Chunk, Source
from fastloader.source.sql import as_subquery

from .servers.cluster import Cluster
from .servers.postgres import Database, all_servers
from .support import all_keys, bad_rows, blobs_of, jpeg, simple_rows, table

Make = Callable[..., Source]


@pytest.fixture(params=["sqlite", *all_servers("snapshot", "latest")])
def make(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[Path], Cluster]
) -> Iterator[Make]:
    """Return a function that makes a source of a table with the given rows.

    Their columns are id, image_data and label, unless ``columns`` says otherwise.
    """
    sources: list[Source] = []
    numbers = itertools.count()

    def made(rows: list[Any], columns: str | None = None, **options: Any) -> Source:
        other = {} if columns is None else {"columns": columns}
        if request.param == "sqlite":
            url = table(tmp_path / f"{next(numbers)}.db", rows, **other)
        else:
            bindir, options["consistency"] = request.param
            url = Database(servers(bindir)).table(rows, **other)
        sources.append(open_source(make_config({"url": url, **options}, {})))
        return sources[-1]

    yield made
    for source in sources:
        source.close()


@pytest.fixture
def rows() -> list[tuple[int, bytes, int]]:
    return simple_rows(50, gap=2)


@pytest.fixture
def source(make: Make, rows: list[Any]) -> Source:
    """50 rows with keys 2, 4, ..., 100."""
    return make(rows)


COLUMNS = (Column("label", "int64"),)


def contents(chunks: list[Chunk]) -> list[tuple[int, bytes, int]]:
    """(key, image, label) of all rows."""
    found: list[tuple[int, bytes, int]] = []
    for chunk in chunks:
        labels = chunk.columns["label"].numbers.tolist()
        found += zip(chunk.keys.tolist(), blobs_of(chunk), labels, strict=True)
    return found


def test_keys_come_sorted(source: Source) -> None:
    assert all_keys(source).tolist() == list(range(2, 101, 2))
    assert all_keys(source).dtype == np.int64


def test_keys_of_a_table_without_rows_are_none(make: Make) -> None:
    assert len(all_keys(make([]))) == 0


def test_rows_come_in_the_order_of_the_ranges(source: Source, rows: list[Any]) -> None:
    ranges = [(50, 54), (1, 5), (55, 55), (99, 99), (100, 1000)]
    chunks = list(source.read(ranges, COLUMNS))
    by_key = {row[0]: row for row in rows}
    assert contents(chunks) == [by_key[key] for key in (50, 52, 54, 2, 4, 100)]
    assert np.concatenate([chunk.ranges for chunk in chunks]).tolist() == [0, 0, 0, 1, 1, 4]


def test_many_single_keys_in_any_order(make: Make) -> None:
    rows = [(key, b"x%d" % key, key) for key in range(2500)]
    source = make(rows)
    order = np.random.default_rng(0).permutation(2500).tolist()
    chunks = list(source.read(((key, key) for key in order), COLUMNS))
    assert contents(chunks) == [rows[key] for key in order]
    numbers = np.concatenate([chunk.ranges for chunk in chunks])
    assert numbers.tolist() == list(range(2500))


def test_reading_twice_gives_the_same_rows(source: Source) -> None:
    first, second = (contents(list(source.read([(1, 60)], COLUMNS))) for _ in range(2))
    assert first == second


def test_a_read_may_be_left_for_another(source: Source, rows: list[Any]) -> None:
    left = source.read([(1, 1000)], COLUMNS)
    next(left)
    assert contents(list(source.read([(1, 1000)], COLUMNS))) == rows


@pytest.mark.parametrize("fetch_bytes", [1, 2000, 1 << 30])
def test_chunks_are_bounded_and_stay_valid(make: Make, rows: list[Any], fetch_bytes: int) -> None:
    source = make(rows, fetch_bytes=fetch_bytes)
    chunks = list(source.read([(1, 31), (32, 100)], COLUMNS))
    assert contents(chunks) == rows
    # The first chunk may be larger, before the rows' sizes are known.
    assert all(len(chunk.keys) <= max(16, fetch_bytes / 700) for chunk in chunks)
    assert len(chunks) >= 3 or fetch_bytes > 2000
    assert all(len(chunk.keys) <= 4 or fetch_bytes > 2000 for chunk in chunks[1:])


def test_ranges_are_not_consumed_long_before_the_rows_are(make: Make) -> None:
    source = make([(key, b"x", key) for key in range(5000)], fetch_bytes=1)
    asked = []
    ranges = ((asked.append(key), (key, key))[1] for key in range(5000))
    reading = source.read(ranges, COLUMNS)
    next(reading)
    assert len(asked) <= 1000


def test_labels_are_described(source: Source) -> None:
    assert source.label_columns(all_keys(source)) == COLUMNS


def test_a_blob_over_the_limit_is_not_fetched_but_named_with_its_size(make: Make) -> None:
    source = make([(1, b"x" * 1000, 1), (2, b"x" * 1001, 2), (3, b"", 3)], max_blob_bytes=1000)
    (chunk,) = source.read([(1, 3)], COLUMNS)
    assert bad_rows(chunk, "image_data", limit=1000) == {
        1: "column 'image_data' holds 1001 bytes; the limit is 1000; raise max_blob_bytes to "
        "allow it"
    }
    assert [len(blob) for blob in blobs_of(chunk)] == [1000, 0, 0]


def test_a_missing_image_is_named(make: Make) -> None:
    (chunk,) = make([(1, b"x", 1), (2, None, 2)]).read([(1, 2)], COLUMNS)
    assert bad_rows(chunk, "image_data") == {1: "column 'image_data' is NULL"}


# ---- several image columns -----------------------------------------------------------------------

TWO_IMAGES = "id INTEGER PRIMARY KEY, left_image BYTEA, right_image BYTEA, label INTEGER"


def two_images(
    chunks: list[Chunk], names: Sequence[str] = ("left_image", "right_image")
) -> list[tuple[int, bytes, bytes, int]]:
    """(key, left image, right image, label) of all rows."""
    left, right = ([blob for chunk in chunks for blob in blobs_of(chunk, name)] for name in names)
    keys = [key for chunk in chunks for key in chunk.keys.tolist()]
    labels = [label for chunk in chunks for label in chunk.columns["label"].numbers.tolist()]
    return list(zip(keys, left, right, labels, strict=True))


@pytest.mark.parametrize("fetch_bytes", [1, 3000, 1 << 30])
def test_each_image_column_has_its_own_blobs_whatever_the_order_of_their_names(
    make: Make, fetch_bytes: int
) -> None:
    rows = [(n, jpeg(32, 24, seed=n), jpeg(16, 40, seed=n), n * 10) for n in range(1, 31)]
    for names in (["left_image", "right_image"], ["right_image", "left_image"]):
        source = make(rows, columns=TWO_IMAGES, image=names, fetch_bytes=fetch_bytes)
        chunks = list(source.read([(1, 9), (20, 99), (10, 10)], COLUMNS))
        assert all(len(chunk.columns) == 3 for chunk in chunks)
        wanted = [row for row in rows if row[0] < 10 or row[0] >= 20] + [rows[9]]
        assert two_images(chunks) == wanted


def test_a_row_is_bad_where_any_of_its_images_is_and_the_column_is_named(make: Make) -> None:
    small, largest, large = b"x", b"y" * 1000, b"z" * 1001
    rows = [
        (1, small, largest, 10),
        (2, None, small, 20),
        (3, small, None, 30),
        (4, large, small, 40),
        (5, small, large, 50),
        (6, large, None, 60),
        (7, None, large, 70),
        (8, largest, small, 80),
    ]
    names = ["right_image", "left_image"]
    source = make(rows, columns=TWO_IMAGES, image=names, max_blob_bytes=1000)
    (chunk,) = source.read([(1, 9)], COLUMNS)
    too_large = "holds 1001 bytes; the limit is 1000; raise max_blob_bytes to allow it"
    assert bad_rows(chunk, *names, limit=1000) == {
        1: "column 'left_image' is NULL",
        2: "column 'right_image' is NULL",
        3: f"column 'left_image' {too_large}",
        4: f"column 'right_image' {too_large}",
        5: "column 'right_image' is NULL",
        6: f"column 'right_image' {too_large}",
    }
    read = two_images([chunk])
    assert (read[0], read[7]) == (rows[0], rows[7])
    # What is over the limit is not fetched, whichever column it is in.
    assert [len(blob) for blob in blobs_of(chunk, "right_image")] == [1000, 1, 0, 1, 0, 0, 0, 1]
    assert [len(blob) for blob in blobs_of(chunk, "left_image")] == [1, 0, 1, 0, 1, 0, 0, 1000]


@pytest.mark.parametrize("large", ["left_image", "right_image"])
def test_the_bytes_of_all_images_count_towards_a_chunk(make: Make, large: str) -> None:
    blobs = (b"x" * 1000, b"x") if large == "left_image" else (b"x", b"x" * 1000)
    rows = [(n, *blobs, n) for n in range(1, 51)]
    names = ["left_image", "right_image"]
    source = make(rows, columns=TWO_IMAGES, image=names, fetch_bytes=2000)
    chunks = list(source.read([(1, 99)], COLUMNS))
    assert two_images(chunks) == rows
    # The first chunk may be larger, before the rows' sizes are known.
    assert len(chunks[0].keys) <= 16
    assert all(len(chunk.keys) <= 2 for chunk in chunks[1:])


def test_several_images_are_read_from_a_query_too(make: Make) -> None:
    rows = [(n, b"l%d" % n, b"r%d" % n, n) for n in range(1, 9)]
    query = 'SELECT id, left_image AS "the ""left""", right_image AS "right", label FROM images'
    names = ('the "left"', "right")
    source = make(rows, columns=TWO_IMAGES, query=query, table=None, image=names)
    assert two_images(list(source.read([(1, 99)], COLUMNS)), names) == rows


def test_a_missing_table_or_column_is_named_with_those_that_there_are(make: Make) -> None:
    for options, message in (
        ({"table": "pictures"}, "no table 'pictures'; there are: images. table= names the table"),
        (
            {"label": "class"},
            "no column 'class'; there are id, image_data, label.*\\. label= names .* label=None ",
        ),
        ({"sample_weight": "w"}, "no column 'w'; there are .* sample_weight= names the column"),
        ({"image": "jpeg"}, "no column 'jpeg'; .* image= names the column of images"),
        ({"image": ["image_data", "depth"]}, "no column 'depth'"),
        ({"key": "key"}, "no column 'key'; there are .* key= names the column of unique keys"),
    ):
        with pytest.raises(SourceError, match=message):
            all_keys(make(simple_rows(6), **options))


def test_a_wrong_query_is_told_in_the_databases_words(make: Make) -> None:
    for query, words in (
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT id, from images", 'near "from"'),
    ):
        with pytest.raises(SourceError, match=f"query: cannot run the query: .*{words}"):
            all_keys(make(simple_rows(6), query=query, table=None))


def test_a_query_may_have_ctes_comments_and_a_semicolon_at_its_end(make: Make) -> None:
    for query in (
        "SELECT * FROM images WHERE id > 4 ;\n",
        "SELECT * FROM images WHERE id > 4 -- the later ones",
        "SELECT * FROM images WHERE id > 4; -- the later ones; /* all of them",
        "WITH late AS (SELECT * FROM images WHERE id > 4) SELECT * FROM late /* ; */ ;;",
        "SELECT * FROM images WHERE id > 4 AND '--;' <> ';'",
        "SELECT a.id, b.image_data, a.label FROM images a JOIN images b ON a.id = b.id "
        "WHERE a.id > 4",
    ):
        source = make(simple_rows(6), query=query, table=None)
        assert all_keys(source).tolist() == [5, 6]
        assert [row[0] for row in contents(list(source.read([(1, 9)], COLUMNS)))] == [5, 6]


def test_as_subquery_leaves_quoted_semicolons_alone() -> None:
    for query in ("SELECT ';' ", 'SELECT ";"', "SELECT $$;--$$", r"SELECT E'\';'", "SELECT 1"):
        assert as_subquery(query) == f"({query.strip()})"
        assert as_subquery(query + " ; -- ;'") == f"({query.strip()})"


def test_names_are_quoted(make: Make) -> None:
    source = make(
        simple_rows(6),
        query='SELECT id AS "the ""key""", image_data AS "select", label AS "größe" FROM images',
        table=None, key='the "key"', image="select", label="größe",
    )  # fmt: skip
    assert all_keys(source).tolist() == [1, 2, 3, 4, 5, 6]
    (chunk,) = source.read([(2, 3)], (Column("größe", "int64"),))
    assert chunk.columns["größe"].numbers.tolist() == [10, 20]


@pytest.mark.filterwarnings("ignore:.*no index serves")
def test_a_null_key_is_refused(make: Make) -> None:
    query = "SELECT NULLIF(id, 2) AS id, image_data, label FROM images"
    with pytest.raises(PlanError, match="'id' is NULL in 1 row; every row needs a key"):
        all_keys(make(simple_rows(6), query=query, table=None))


def test_a_source_closes_twice_and_then_says_so(source: Source) -> None:
    source.close()
    source.close()
    assert "closed" in repr(source)
    with pytest.raises(SourceError, match="the source is closed"):
        all_keys(source)

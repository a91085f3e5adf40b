"""shrink makes a second table with small images, in either kind of database, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from fastloader import FastLoader, cli
from fastloader.cli.shrink import rows as reading
from fastloader.cli.shrink.columns_postgres import PLAIN_TYPE
from fastloader.fields._kernel import Decoder, encode_jpeg
from fastloader.options.config import make_config

from .servers.cluster import Cluster
from .servers.postgres import Database, bindirs
from .small_images import encoded
from .small_tables import make_table, rows_of, run_sql
from .support import DATA, jpeg, needs_data
from .tiers import few

BLOB = {"sqlite": "BLOB", "postgres": "BYTEA"}


class Pair(NamedTuple):
    """Two databases: the one with the images, and the one for the small ones."""

    source: str
    target: str
    kinds: tuple[str, str]

    @property
    def columns(self) -> str:
        blob = BLOB[self.kinds[0]]
        return f"id INTEGER PRIMARY KEY, label INTEGER, image_data {blob}, name TEXT"


KINDS = [("sqlite", "sqlite"), ("sqlite", "postgres"), ("postgres", "sqlite"),
         ("postgres", "postgres")]  # fmt: skip


@pytest.fixture(params=KINDS, ids="-to-".join)
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Callable[[Path], Cluster]
) -> Iterator[Pair]:
    databases: list[Database] = []
    urls = []
    for name, kind in zip(("source", "target"), request.param, strict=True):
        if kind == "sqlite":
            urls.append(str(tmp_path / f"{name}.db"))
            continue
        bindir = next((found for found in bindirs() if found is not None), None)
        if bindir is None:
            pytest.skip("no PostgreSQL")
        databases.append(Database(servers(bindir)))
        urls.append(databases[-1].url())
    yield Pair(urls[0], urls[1], request.param)
    for database in databases:
        database.drop()


def shrink(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, dict[str, Any]]:
    code = cli.main(["shrink", *map(str, argv), "--json"])
    return code, json.loads(capsys.readouterr().out)


def size_of(blob: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(blob)) as image:
        return image.height, image.width


def expected(blob: bytes, height: int, width: int) -> bytes:
    """Return the JPEG of an image that has this size when it is small."""
    pixels = np.empty((1, height, width, 3), np.uint8)
    assert Decoder(height, width, max_pixels=10**6, filter="lanczos").decode([blob], pixels) == []
    return encode_jpeg(pixels[0], quality=90)


# ---- rows and columns ----------------------------------------------------------------------------


@few(4)
def test_a_small_table_has_all_rows_and_columns_and_small_images(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = [jpeg(90 + i, 60, seed=i) for i in range(30)]
    rows = [(3 * i - 7, i if i % 4 else None, blob, f"Zoë {i}'") for i, blob in enumerate(blobs)]
    make_table(pair.source, pair.columns, rows)
    before = rows_of(pair.source, "images")
    code, found = shrink(capsys, pair.source, "--to", pair.target, "--side", 20)
    assert (code, found["added"], found["bad"]) == (0, 30, [])
    assert found["bytes_before"] == sum(map(len, blobs))
    made = rows_of(pair.target, "images")
    assert [row[:3] for row in made] == [(i, label, name) for i, label, _, name in rows]
    for (*_, small), blob in zip(made, blobs, strict=True):
        height, width = size_of(blob)
        size = 20, (2 * width * 20 + height) // (2 * height)
        assert small == expected(blob, *size)
    assert found["bytes_after"] == sum(len(row[3]) for row in made)
    assert rows_of(pair.source, "images") == before, "the source is only read"
    with FastLoader(pair.target, size=(20, 20), workers=1, batch_size=7, label=None) as loader:
        assert sum(len(images) for images in loader) == 30


@few(2)
def test_a_second_table_of_the_same_database_gets_the_name_of_its_side(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    make_table(pair.source, pair.columns, [(1, 2, jpeg(90, 60), None)])
    assert shrink(capsys, pair.source, "--side", 20)[0] == 0
    ((key, label, name, small),) = rows_of(pair.source, "images_20")
    assert (key, label, name, size_of(small)) == (1, 2, None, (20, 30))


KEYS = {
    "text": ("k TEXT PRIMARY KEY", ["ab", "a b", "Zürich", "x'y\\z", "10", "9"], ["k"]),
    "uuid": (
        "k {uuid} PRIMARY KEY",
        [uuid.UUID(int=i * 0x1234567890ABCDEF1234567) for i in range(6)], ["k"],
    ),
    "two": ("k TEXT, n INTEGER, PRIMARY KEY (k, n)", ["a", "a", "b", "b", "c", "c"], ["k", "n"]),
}  # fmt: skip


@few(4)
@pytest.mark.parametrize("kind", KEYS)
def test_keys_of_other_types_stay_keys_and_are_found_again(
    pair: Pair, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    declared, keys, names = KEYS[kind]
    is_sqlite = pair.kinds[0] == "sqlite"
    declared = declared.format(uuid="BLOB" if is_sqlite else "UUID")
    blob = BLOB[pair.kinds[0]]
    for i, key in enumerate(keys):
        value = key
        if isinstance(key, uuid.UUID):
            value = key.bytes if is_sqlite else str(key)
        row = [value, jpeg(40, 30, seed=i)]
        columns = declared
        if kind == "two":
            row.insert(1, i)
        else:
            columns = f"{declared}"
        if i == 0:
            head, _, primary = columns.partition(", PRIMARY KEY")
            tail = f", PRIMARY KEY{primary}" if primary else ""
            run_sql(pair.source, f"CREATE TABLE images ({head}, image_data {blob}{tail})")
        run_sql(pair.source, f"INSERT INTO images VALUES ({', '.join('?' * len(row))})", row)
    arguments = [pair.source, "--to", pair.target, "--side", 16, "--key", ",".join(names)]
    assert shrink(capsys, *arguments)[1]["added"] == 6
    made = rows_of(pair.target, "images", key=", ".join(names))
    assert len(made) == 6
    if kind == "uuid":
        found = {uuid.UUID(bytes=x) if isinstance(x, bytes) else uuid.UUID(x) for x, _ in made}
        assert found == set(keys)
    else:
        assert sorted(row[0] for row in made) == sorted(keys)
    run_sql(pair.target, f"DELETE FROM images WHERE {names[-1]} = ?", [made[2][len(names) - 1]])
    code, found_again = shrink(capsys, *arguments)
    assert (code, found_again["added"], found_again["there"]) == (0, 1, 5)
    assert rows_of(pair.target, "images", key=", ".join(names)) == made


def test_sqlite_keeps_every_value_with_its_own_type(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "a.db")
    make_table(
        path,
        'id INTEGER PRIMARY KEY, image_data BLOB, a, "b c" TEXT, d NUMERIC(10, 2), e BLOB, f "x)"',
        [(i, jpeg(), value, str(i), value, b"\0\xff", value)
         for i, value in enumerate([None, 1, 2.5, "x", b"y", 2**62, -1e300])],
    )  # fmt: skip
    assert shrink(capsys, path, "--into", "small")[0] == 0
    names = 'id, a, typeof(a), "b c", d, typeof(d), e, f, typeof(f)'
    both = [run_sql(path, f"SELECT {names} FROM {table}") for table in ("images", "small")]
    assert both[0] == both[1]
    info = {name: kind for _, name, kind, *_ in run_sql(path, "PRAGMA table_xinfo(small)")}
    assert list(info)[-1] == "image_data"
    assert (info["d"], info["b c"]) == ("NUMERIC(10, 2)", "TEXT")


def test_postgres_keeps_every_type_and_what_ingest_sets(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute("CREATE TYPE mood AS ENUM ('sad', 'happy')")
    database.execute("CREATE DOMAIN age AS int4 CHECK (VALUE > 0)")
    columns = {
        "a": ("numeric(30, 5)", "123456789012345678901.5"), "b": ("float4[]", "{1.5,NaN,NULL}"),
        "c": ("timestamptz", "2024-02-29 12:00:00.123456+05"), "d": ("mood", "happy"),
        "e": ("jsonb", '{"x": [1, 2]}'), "f": ("char(5)", "ab"), "g": ("varchar(9)", "Zoë"),
        "h": ("inet", "10.0.0.0/8"), "i": ("age", "7"), "j": ("int4range", "[1,5)"),
        "k": ("bit(5)", "10101"), "l": ("interval", "1 mon -3 days"), "m": ("bool", "t"),
        "n": ("float8", "NaN"), "o": ("bytea", "\\x00ff"), "p": ("text", ""),
    }  # fmt: skip
    declared = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    database.execute(f"CREATE TABLE images (id int8 PRIMARY KEY, image_data bytea, {declared})")
    marks = ", ".join(["%s"] * len(columns))
    values = [value for _, value in columns.values()]
    database.execute(f"INSERT INTO images VALUES (1, %s, {marks})", [jpeg(), *values])
    database.execute("INSERT INTO images VALUES (2, %s)", [jpeg()])
    assert shrink(capsys, database.url(), "--into", "public.small")[0] == 0
    names = ", ".join(f"{name}::text" for name in columns)
    both = [
        database.execute(f"SELECT {names} FROM {table} ORDER BY id")
        for table in ("images", "small")
    ]
    assert both[0] == both[1]
    sql = "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'small'::regclass AND attname = %s"  # noqa: E501
    assert database.execute(sql, ["f"]) == [("character(5)",)]
    sql = "SELECT attstorage FROM pg_attribute WHERE attrelid = 'small'::regclass AND attname = 'image_data'"  # noqa: E501
    assert database.execute(sql)[0][0] in ("e", b"e")
    ((rows,),) = database.execute("SELECT reltuples FROM pg_class WHERE oid = 'small'::regclass")
    assert rows == 2, "ANALYZE has run"


def test_what_the_other_database_cannot_hold_is_an_error_before_any_row(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database.execute("CREATE TABLE images (id int8 PRIMARY KEY, image_data bytea, v float4[])")
    database.execute("INSERT INTO images VALUES (1, %s, '{1}')", [jpeg()])
    path = str(tmp_path / "new.db")
    assert cli.main(["shrink", database.url(), "--to", path]) == 3
    message = capsys.readouterr().err
    assert "column 'v' holds real[], which SQLite has no type for" in message
    assert "--columns" in message
    assert not Path(path).exists()
    assert cli.main(["shrink", database.url(), "--to", path, "--columns", "none"]) == 0
    assert len(rows_of(path, "images")[0]) == 2


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((1, "x"), "integers and text"),
        ((b"x", 1.5), "numbers with fractions and blobs"),
        ((2**60, 1.5), "integers over 2^53 and numbers with fractions"),
        (("a\0b", "x"), "text with a NUL in it"),
    ],
)
def test_a_column_of_mixed_values_does_not_go_to_postgres(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str], values: Any, words: str
) -> None:
    path = str(tmp_path / "a.db")
    make_table(path, "id INTEGER PRIMARY KEY, image_data BLOB, v",
               [(i, jpeg(), value) for i, value in enumerate(values)])  # fmt: skip
    assert cli.main(["shrink", path, "--to", database.url()]) == 3
    assert words in capsys.readouterr().err
    assert database.execute("SELECT to_regclass('images')") == [(None,)]


def test_a_value_that_cannot_be_copied_ends_the_run_and_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "a.db")
    make_table(path, "id INTEGER PRIMARY KEY, image_data BLOB, t", [(i, jpeg(), "x") for i in "12"])
    run_sql(path, "UPDATE images SET t = CAST(x'ff' AS TEXT) WHERE id = 2")
    assert cli.main(["shrink", path]) == 3
    message = capsys.readouterr().err
    assert "row 2: column 't' holds text that is not UTF-8" in message
    assert "--columns" in message
    assert cli.main(["shrink", path, "--into", "small", "--columns", "none"]) == 0


# ---- images --------------------------------------------------------------------------------------


def small_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], blob: Any, *options: object
) -> tuple[bytes | None, dict[str, Any]]:
    """Return what becomes of one image, and the summary."""
    path = str(tmp_path / f"{len(list(tmp_path.iterdir()))}.db")
    make_table(path, "id INTEGER PRIMARY KEY, image_data BLOB", [(1, blob)])
    _, found = shrink(capsys, path, "--into", "small", *options)
    rows = rows_of(path, "small")
    return (rows[0][1] if rows else None), found


def test_a_small_jpeg_is_copied_if_its_bytes_would_not_shrink(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poor = jpeg(200, 150, quality=30, optimize=True)
    made, found = small_of(tmp_path, capsys, poor)
    assert (made, found["copied"]) == (poor, 1)
    rich = jpeg(64, 48, quality=100, subsampling="4:4:4")
    made, found = small_of(tmp_path, capsys, rich)
    assert made == expected(rich, 48, 64)
    assert found["copied"] == 0
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = jpeg(200, 150, quality=30, optimize=True, exif=exif)
    made, _ = small_of(tmp_path, capsys, turned)
    assert made == expected(turned, 150, 200)


def test_an_image_is_turned_before_its_short_side_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    made, _ = small_of(tmp_path, capsys, jpeg(90, 60, exif=exif), "--side", 20)
    assert made is not None
    assert size_of(made) == (30, 20)
    assert b"Exif" not in made


def test_gray_stays_gray_and_colors_become_jpeg(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for blob, mode in (
        (encoded("PNG", "L"), "L"), (encoded("PNG", "RGB"), "RGB"), (encoded("JPEG", "L"), "L"),
        (encoded("WEBP", "RGB"), "RGB"), (encoded("GIF", "P"), "RGB"), (encoded("PNG", "1"), "L"),
    ):  # fmt: skip
        made, found = small_of(tmp_path, capsys, blob, "--side", 8)
        assert made is not None, found
        with Image.open(io.BytesIO(made)) as image:
            assert (image.format, image.mode, min(image.size)) == ("JPEG", mode, 8)


def test_alpha_is_dropped_or_composed_over_a_background(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = Image.new("RGBA", (32, 32), (200, 0, 0, 0))
    out = io.BytesIO()
    image.save(out, "PNG")
    for options, color in (((), (200, 0, 0)), (("--background", "0,0,250"), (0, 0, 250))):
        made, _ = small_of(tmp_path, capsys, out.getvalue(), *options)
        assert made is not None
        with Image.open(io.BytesIO(made)) as small:
            level = np.asarray(small).astype(int)[16, 16]
        assert np.abs(level - color).max() <= 6


def test_a_color_profile_is_dropped_or_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import ImageCms

    # sRGB itself changes nothing, so this is one whose red and blue are exchanged.
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    image = Image.new("RGB", (32, 32), (250, 10, 10))
    for tag, profiled, color in (
        ("keep", bytes(profile), (250, 10, 10)), ("srgb", bytes(profile), (10, 10, 250)),
        ("srgb", b"not a profile", (250, 10, 10)), ("srgb", None, (250, 10, 10)),
    ):  # fmt: skip
        out = io.BytesIO()
        image.save(out, "PNG", icc_profile=profiled)
        made, _ = small_of(tmp_path, capsys, out.getvalue(), "--colors", tag)
        assert made is not None
        with Image.open(io.BytesIO(made)) as small:
            assert "icc_profile" not in small.info
            level = np.asarray(small).astype(int)[16, 16]
        assert np.abs(level - color).max() <= 8, (tag, level)


@pytest.mark.parametrize(
    ("declared", "is_type"),
    [
        *((its, True) for its in (
            "integer", "double precision", "character varying(9)", "character(3)", "numeric(10,2)",
            "numeric(3,-2)", "timestamp(3) with time zone", "time without time zone", "bit varying",
            "integer[]", "character varying(9)[]", '"char"', "public.mood", '"My ""x""".mood',
            'public."a;b"', "geometry(PointZ,4326)", "interval day to second(3)", "vector(384)",
        )),
        *((its, False) for its in (
            "", "int); DROP TABLE images; --", "int, x int", "int; SELECT 1", "int DEFAULT f(1)",
            "int/**/", '"a', "int -- x", "int\n); SELECT 1", "text COLLATE \"C\"", "numeric(1,--2)",
        )),
    ],
)  # fmt: skip
def test_only_a_type_goes_from_one_server_to_another(declared: str, is_type: bool) -> None:
    """The server with the images may call a type whatever it likes."""
    assert bool(PLAIN_TYPE.fullmatch(declared)) == is_type


# ---- bad rows ------------------------------------------------------------------------------------


@few(4)
def test_bad_rows_are_listed_and_left_out_or_copied(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    good = jpeg(64, 48)
    blobs = [good, b"no image", None, good[:-300], b"", good, b"\xff\xd8\xff\xe0", b"x" * 5000]
    make_table(pair.source, pair.columns, [(i, i, blob, "n") for i, blob in enumerate(blobs)])
    more = ["--side", 16, "--max-blob-bytes", 4000]
    code, found = shrink(capsys, pair.source, "--to", pair.target, *more)
    assert (code, found["added"]) == (1, 2)
    listed = {key: bad["reason"] for bad in found["bad"] for key in bad["keys"]}
    assert sorted(listed) == [1, 2, 3, 4, 6, 7]
    assert "NULL" in listed[2]
    assert "partial image" in listed[3]
    assert "limit is 4000" in listed[7]
    assert [row[0] for row in rows_of(pair.target, "images")] == [0, 5]
    copy = ["--to", pair.target, "--into", "all", "--bad-rows", "copy", *more]
    code, found = shrink(capsys, pair.source, *copy)
    assert (code, found["added"]) == (1, 7)
    made = {row[0]: row[3] for row in rows_of(pair.target, "all")}
    assert sorted(made) == [0, 1, 2, 3, 4, 5, 6], "what is over the limit is never read"
    assert [made[i] for i in (1, 2, 3, 4, 6)] == [blobs[i] for i in (1, 2, 3, 4, 6)]
    again = shrink(capsys, pair.source, "--to", pair.target, *more)[1]
    assert (again["added"], {key for bad in again["bad"] for key in bad["keys"]}) == (
        0, set(listed),
    )  # fmt: skip


@needs_data
def test_hostile_rows_are_bad_where_a_loader_says_so_and_what_comes_of_others_is_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "a.db")
    files = sorted(file for file in (DATA / "corpora").rglob("*") if file.is_file())
    blobs = [file.read_bytes() for file in files]
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE images (id INTEGER PRIMARY KEY, image_data BLOB)")
        connection.executemany("INSERT INTO images VALUES (?, ?)", enumerate(blobs))
    options: dict[str, Any] = {"label": None, "on_error": "fill", "size": (8, 8), "workers": 2}
    with FastLoader(path, max_pixels=10**7, **options) as loader:
        for _ in loader:
            pass
        wanted = {key for key, _ in [*loader.bad_rows, *loader.partial_rows]}
    code, found = shrink(capsys, path, "--into", "small", "--side", 32, "--max-pixels", 10**7)
    assert code == 1
    assert {key for bad in found["bad"] for key in bad["keys"]} == wanted
    assert found["added"] == len(blobs) - len(wanted) > 500
    with FastLoader(path, table="small", **options) as loader:
        for _ in loader:
            pass
        assert [*loader.bad_rows, *loader.partial_rows] == []
    small = rows_of(path, "small")
    same = {row[0] for row in small if row[1] == blobs[row[0]]}
    assert len(same) == found["copied"]
    for key, blob in small:
        if key not in same:
            assert min(size_of(blob)) <= 32


@few(2)
def test_only_a_bounded_number_of_bytes_is_read_at_a_time(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = [b"x" * (9000 if i % 5 == 0 else 100 * i) for i in range(1, 41)]
    make_table(pair.source, pair.columns, [(i, i, blob, "n") for i, blob in enumerate(blobs)])
    monkeypatch.setattr(reading, "PART_BYTES", 6000)
    config = make_config({"url": pair.source, "label": None}, {})
    keys = np.arange(40)
    parts = reading.Rows(config, [], "")
    sizes = []
    for part in parts.read(keys, keys):
        its = part.images.blobs[:, 1].tolist()
        assert sum(its[:-1]) <= 6000
        sizes += its
    parts.close()
    assert sizes == [len(blob) for blob in blobs]


def test_a_copied_image_may_be_any_value_of_sqlite(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "a.db")
    values = ["photos/1.jpg", 7, 1.5, b"x", None]
    make_table(path, "id INTEGER PRIMARY KEY, image_data", list(enumerate(values)))
    run_sql(path, "INSERT INTO images VALUES (5, CAST(x'ff41' AS TEXT))")
    for url, expected in (
        (str(tmp_path / "b.db"), [*values, b"\xffA"]),
        (database.url(), [b"photos/1.jpg", b"7", b"1.5", b"x", None, b"\xffA"]),
    ):
        code, found = shrink(capsys, path, "--to", url, "--bad-rows", "copy")
        assert (code, found["added"]) == (1, 6)
        assert [row[1] for row in rows_of(url, "images")] == expected


# ---- what is refused -----------------------------------------------------------------------------


def test_a_table_that_shrink_has_not_made_is_never_written_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "a.db")
    link = tmp_path / "link.db"
    make_table(path, "id INTEGER PRIMARY KEY, image_data BLOB", [(1, jpeg(90, 60))])
    make_table(path, "id INTEGER PRIMARY KEY, image_data BLOB", [], name="other")
    link.symlink_to(path)
    run_sql(path, "CREATE VIEW a_view AS SELECT * FROM images")
    for more, code, words in (
        (["--into", "images"], 2, "second table"), (["--into", "IMAGES"], 2, "second table"),
        (["--to", path], 2, "second table"), (["--to", link], 2, "second table"),
        (["--into", "other"], 2, "shrink has not made it"),
        (["--into", "a_view"], 2, "shrink has not made it"),
        (["--into", "small", "--columns", "none,other"], 2, "no column 'other'"),
        (["--into", "sqlite_small"], 3, "reserved"), (["--to", tmp_path], 3, "is a folder"),
        (["--to", tmp_path / "none" / "x.db"], 4, "no folder"),
        (["--table", "nothing"], 3, "no table 'nothing'"),
        (["--image", "a,b"], 2, "one column of images"), (["--key", "label"], 3, "no column"),
    ):  # fmt: skip
        assert cli.main(["shrink", path, *map(str, more)]) == code, more
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert len(rows_of(path, "images")) == 1
    names = {name for (name,) in run_sql(path, "SELECT name FROM sqlite_master")}
    assert names == {"images", "other", "a_view"}


@few(2)
def test_a_table_is_only_resumed_with_what_it_was_made_with(
    pair: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(pair.source, pair.columns, [(1, 2, jpeg(90, 60), "*/ -- \\ '")])
    arguments = ["shrink", pair.source, "--to", pair.target, "--side", "20"]
    assert cli.main(arguments) == 0
    run_sql(pair.source, "INSERT INTO images VALUES (2, 2, ?, 'x')", [jpeg()])
    capsys.readouterr()
    for more, words in (
        (["--side", "30"], "made with --side 20, and this is 30"),
        (["--quality", "80"], "--quality 90"),
        (["--background", "1,2,3"], "--background none"), (["--bad-rows", "copy"], "--bad-rows"),
        (["--columns", "name"], "other columns"),
    ):  # fmt: skip
        assert cli.main([*arguments, *more]) == 2
        assert words in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr("fastloader.cli.shrink.shrink.libraries", lambda: "libjpeg 6b")
        assert cli.main(arguments) == 2
        assert "--mix-versions" in capsys.readouterr().err
        assert cli.main([*arguments, "--mix-versions"]) == 0
    assert len(rows_of(pair.target, "images")) == 2


# ---- a source that changes -----------------------------------------------------------------------


@few(2)
def test_rows_that_come_and_go_between_two_runs_end_in_a_clear_state(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = [jpeg(64, 48, seed=i) for i in range(8)]
    make_table(pair.source, pair.columns, [(i, i, blobs[i], "n") for i in range(0, 8, 2)])
    arguments = [pair.source, "--to", pair.target, "--side", 16]
    assert shrink(capsys, *arguments)[1]["added"] == 4
    run_sql(pair.source, "DELETE FROM images WHERE id = 4")
    run_sql(pair.source, "INSERT INTO images VALUES (3, 3, ?, 'n')", [blobs[3]])
    code, found = shrink(capsys, *arguments)
    assert (code, found["added"], found["there"], found["stale"]) == (1, 1, 4, 1)
    assert [row[0] for row in rows_of(pair.target, "images")] == [0, 2, 3, 4, 6]


@few(2)
def test_rows_that_are_deleted_while_it_runs_are_counted(
    pair: Pair, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(pair.source, pair.columns, [(i, i, jpeg(64, 48), "n") for i in range(6)])
    from fastloader.cli.shrink import run

    made = run.Rows

    def delayed(*arguments: Any) -> Any:
        run_sql(pair.source, "DELETE FROM images WHERE id = 2")
        run_sql(pair.source, "INSERT INTO images VALUES (9, 9, ?, 'late')", [jpeg()])
        return made(*arguments)

    monkeypatch.setattr(run, "Rows", delayed)
    code, found = shrink(capsys, pair.source, "--to", pair.target, "--side", 16)
    assert (code, found["added"], found["gone"]) == (1, 5, 1)
    monkeypatch.undo()
    code, found = shrink(capsys, pair.source, "--to", pair.target, "--side", 16)
    assert (code, found["added"], found["there"]) == (0, 1, 5)
    assert [row[0] for row in rows_of(pair.target, "images")] == [0, 1, 3, 4, 5, 9]

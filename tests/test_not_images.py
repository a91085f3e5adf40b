"""Paths, addresses and encoded text in the image column are called what they are."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader, Image, RowError, SourceError, cli
from fastloader.fields.not_images import kind_of

from .conftest import Either
from .servers.postgres import Database
from .support import jpeg, table

IMAGE = jpeg()

KINDS: dict[str, tuple[str, str]] = {
    "path": ("photos/cat/été 1.JPG", "a file path"),
    "absolute": ("/data/photos/1", "a file path"),
    "windows": ("C:\\photos\\1.png", "a file path"),
    "url": ("https://example.org/1.jpg?size=large", "an address"),
    "s3": ("s3://bucket/1", "an address"),
    "base64": (base64.b64encode(IMAGE).decode(), "base64 text"),
    "lines": (base64.encodebytes(IMAGE).decode(), "base64 text"),
    "data": ("data:image/jpeg;base64," + base64.b64encode(IMAGE).decode(), "a data URL"),
    "hex": (IMAGE.hex(), "hexadecimal text"),
    "bytea": ("\\x" + IMAGE.hex().upper(), "hexadecimal text"),
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_known_as_text_and_as_bytes(name: str) -> None:
    value, kind = KINDS[name]
    assert kind_of(value) == kind
    assert kind_of(value.encode()) == kind


@pytest.mark.parametrize(
    "value",
    ["", "cat", "no image", b"\x00\x01\x02", b"GIF89a....", "A" * 50, "\u20ac" * 20, b"\xff"],
)
def test_what_is_none_of_them_has_no_name(value: str | bytes) -> None:
    assert kind_of(value) == ""


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["path", "url", "base64", "data", "hex"])
@pytest.mark.parametrize("as_text", [True, False])
def test_a_row_error_says_what_the_column_holds(
    tmp_path: Path, name: str, as_text: bool, workers: int
) -> None:
    value, kind = KINDS[name]
    stored: Any = value if as_text else value.encode()
    path = table(tmp_path / "t.db", [(1, stored, 0), (2, IMAGE, 1)])
    with FastLoader(path, size=(8, 8), workers=workers) as loader:
        with pytest.raises(RowError) as caught:
            list(loader)
        assert f"column 'image_data' holds {kind}, not the bytes of an image: " in str(caught.value)
        assert "Repair or delete" not in str(caught.value)


def test_a_row_that_is_merely_broken_is_still_to_be_repaired(tmp_path: Path) -> None:
    path = table(tmp_path / "t.db", [(1, b"nothing known", 0)])
    with FastLoader(path, workers=0) as loader, pytest.raises(RowError, match="Repair or delete"):
        list(loader)


@pytest.mark.parametrize("as_text", [True, False])
def test_plan_and_check_find_them_and_end_with_1(
    tmp_path: Path, as_text: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [f"photos/{i}.jpg" for i in range(30)]
    rows = [(i, value if as_text else value.encode(), i) for i, value in enumerate(values)]
    path = table(tmp_path / "t.db", rows)
    assert cli.main(["plan", path]) == 1
    out = capsys.readouterr().out
    assert "problem: in 30 rows of the sample, column 'image_data' holds a file path" in out
    assert "no image; see fastloader check" not in out
    assert cli.main(["plan", path, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["sample"]
    assert list(found["not_images"].values()) == [30]
    assert cli.main(["check", path, "--workers", "0"]) == 1
    out = capsys.readouterr().out
    assert out.count("holds a file path") == 1
    assert "Repair or delete" not in out


def test_a_good_table_is_no_problem(either: Either, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", either.table([(1, IMAGE, 0)])]) == 0
    assert "problem" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["base64", "data", "hex"])
def test_the_query_in_the_message_decodes_the_bytes_of_postgres(
    database: Database, name: str
) -> None:
    url = database.table([(1, KINDS[name][0].encode(), 0)])
    with (
        FastLoader(url, size=(8, 8), workers=0) as loader,
        pytest.raises(RowError, match=f"holds {KINDS[name][1]}, not") as caught,
    ):
        list(loader)
    cast = str(caught.value).split('query="SELECT ..., ')[1].split(" AS image_data")[0]
    query = f"SELECT id, {cast} AS image_data, label FROM images"
    with FastLoader(url, query=query, size=(8, 8), workers=0) as loader:
        assert len(list(loader)) == 1


@pytest.mark.parametrize("name", ["path", "url"])
def test_postgres_refuses_a_column_of_paths_with_words_of_ours(
    database: Database, name: str
) -> None:
    columns = "id int4 PRIMARY KEY, image_data text, label int4"
    url = database.table([(1, KINDS[name][0], 0)], columns=columns)
    with pytest.raises(SourceError, match=f"'image_data' holds {KINDS[name][1]}, not the bytes"):
        FastLoader(url, workers=0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", ["relative", "absolute"])
@pytest.mark.parametrize("as_text", [True, False])
def test_the_fields_in_the_message_read_the_files(
    either: Either, tmp_path: Path, name: str, as_text: bool, workers: int
) -> None:
    folder = tmp_path / "the photos"
    folder.mkdir()
    paths = [f"{i}.jpg" for i in range(4)]
    for path in paths:
        (folder / path).write_bytes(IMAGE)
    if name == "absolute":
        paths = [str(folder / path) for path in paths]
    rows = [(i, path if as_text else path.encode(), i) for i, path in enumerate(paths)]
    kind = "TEXT" if as_text else "BYTEA"
    url = either.table(rows, columns=f"id INTEGER PRIMARY KEY, image_data {kind}, label INTEGER")
    with pytest.raises((RowError, SourceError)) as caught, FastLoader(url, workers=0) as loader:
        list(loader)
    words = str(caught.value)
    assert "holds a file path, not the bytes of an image: fields=" in words
    said = re.search(r"fields=(\{.*?\}) reads the files", words)
    assert said
    query = re.search(r'query="SELECT \.\.\., (.*) FROM \.\.\."', words)
    assert bool(query) == (name == "absolute")
    options: dict[str, Any] = {"fields": eval(said[1].replace("/the/folder", str(folder)))}
    if query:
        options["query"] = f"SELECT id, {query[1]} FROM images"
    with FastLoader(url, **options, workers=workers) as loader:
        assert sum(len(x["image"]) for x in loader) == 4


def test_a_file_that_holds_a_path_is_not_called_a_column_of_paths(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_text("https://example.org/1.jpg")
    url = table(tmp_path / "t.db", [(1, "1.jpg", 0)])
    fields = {"image": Image("image_data", files=tmp_path)}
    with FastLoader(url, fields=fields, workers=0) as loader, pytest.raises(RowError) as caught:
        list(loader)
    assert caught.value.reason.startswith("unknown image format (")

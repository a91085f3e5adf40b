"""plan, check and preview, on sound and on damaged tables of both databases."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fastloader import cli
from fastloader.cli.plan import has_limit
from fastloader.cli.sheet import SHEET_WIDTH

from .conftest import Either
from .servers.postgres import Database
from .support import jpeg, simple_rows, table
from .tiers import full

OPTIONS = ["--size", "16x16", "--batch-size", "8"]


def run(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> dict[str, Any]:
    assert cli.main([*map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def text_of(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> str:
    assert cli.main([*map(str, argv)]) == code
    return capsys.readouterr().out


# ---- plan ----------------------------------------------------------------------------------------


def test_plan_says_what_there_is_and_how_it_is_read(
    either: Either, capsys: pytest.CaptureFixture[str]
) -> None:
    url = either.table(simple_rows(100, gap=3))
    found = run(capsys, "plan", url, *OPTIONS, "--workers", "2", "--slots", "3")
    assert found["rows"] == 100
    assert found["key"] | {"seconds": 0} == {
        "column": "id", "type": "integer", "first": 3, "last": 300, "seconds": 0
    }  # fmt: skip
    assert found["labels"] == {"label": ["int64"]}
    sample = found["sample"]
    assert sample["formats"] == {"JPEG": 100}
    sizes = [len(image) for _, image, _ in simple_rows(100)]
    assert sample["mean_bytes"] == pytest.approx(np.mean(sizes))
    assert sample["max_bytes"] == max(sizes)
    assert sample["table_bytes"] == pytest.approx(sum(sizes))
    assert sample["missing_or_too_large"] == 0
    assert found["batches"] == 13
    assert found["ranges_in_a_batch"] == 1
    slot_bytes = found["shared_memory_bytes"] / 2 / 3
    assert slot_bytes >= 8 * 16 * 16 * 3 + 8 * 8
    index = "Index" if url.startswith("postgresql") else "INTEGER PRIMARY KEY"
    assert index in found["explain"]
    assert found["server"].startswith("PostgreSQL" if "://" in url else "SQLite")


def test_plan_of_a_shuffled_epoch_has_more_ranges(
    small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(capsys, "plan", small, *OPTIONS, "--shuffle", "--shuffle-block", "1")
    assert found["ranges_in_a_batch"] == 8


def test_plan_advises_blocks_for_a_full_shuffle_of_small_rows(
    either: Either, capsys: pytest.CaptureFixture[str]
) -> None:
    url = either.table(simple_rows(100))
    small = ["plan", url, "--image", "none", "--batch-size", "8"]
    (advice,) = run(capsys, *small, "--shuffle")["advice"]
    assert "rows of about 8 B are small" in advice
    assert "shuffle_block=64 can double the rows read per second" in advice
    assert run(capsys, *small, "--shuffle", "--shuffle-block", "64")["advice"] == []
    assert run(capsys, *small)["advice"] == []
    assert run(capsys, "plan", url, *OPTIONS, "--shuffle")["advice"] == []


def test_plan_gives_advice_to_shrink_images_that_are_much_larger_than_training_sees(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "a.db", [(i, jpeg(500, 375), 0) for i in range(3)])
    for options, side in (
        ([], "--side 256"), (["--size", "128x160"], "--side 147"), (["--size", "256x256"], ""),
        (["--filter", "nearest"], ""), (["--query", "SELECT * FROM images"], ""),
    ):  # fmt: skip
        assert cli.main(["plan", path, *options]) == 0
        out = capsys.readouterr().out
        assert ("fastloader shrink" in out) == bool(side), options
        assert side in out


def test_plan_looks_at_a_sample_and_says_what_it_has_not_found(
    either: Either, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[tuple[Any, ...]] = [(i, jpeg(), 1) for i in range(1, 301)]
    rows[0] = (1, None, 1)
    rows[299] = (300, b"GIF89a and so on", 1)
    url = either.table(rows)
    found = run(capsys, "plan", url, *OPTIONS)
    assert found["sample"]["images"] == 199
    assert found["sample"]["missing_or_too_large"] == 1
    assert found["sample"]["formats"] == {"JPEG": 198, "GIF": 1}
    assert "1 row of the sample has no image; see fastloader check" in text_of(
        capsys, "plan", url, *OPTIONS
    )


def test_plan_gives_the_advice_of_the_loader(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    without = "id integer NOT NULL, image_data bytea, label integer"
    url = database.table(simple_rows(20), columns=without)
    path = table(
        tmp_path / "t.db", simple_rows(20), columns="id INTEGER, image_data BLOB, label INTEGER"
    )
    for where in (url, path):
        out = text_of(capsys, "plan", where, *OPTIONS)
        assert "advice: " in out
        assert "CREATE" in out
        assert "INDEX" in out


def test_plan_advises_no_index_for_a_query_with_a_limit(
    either: Either, capsys: pytest.CaptureFixture[str]
) -> None:
    url = either.table(simple_rows(20))
    query = "SELECT * FROM images ORDER BY id LIMIT 10"
    (advice,) = run(capsys, "plan", url, *OPTIONS, "--query", query)["advice"]
    assert "the query has a LIMIT" in advice
    assert "indexed" not in advice


@pytest.mark.parametrize(
    ("query", "limited"),
    [
        ("SELECT * FROM t LIMIT 3", True),
        ("select * from t\noffset 3", True),
        ("SELECT * FROM t FETCH FIRST 5 ROWS ONLY", True),
        ("SELECT * FROM t WHERE a IN (SELECT a FROM u LIMIT 3)", False),
        ("SELECT 'no limit', \"limit\" FROM t -- limit\n/* limit */", False),
    ],
)
def test_plan_knows_a_limit(query: str, limited: bool) -> None:
    assert has_limit(query) is limited


# ---- check ---------------------------------------------------------------------------------------


@pytest.fixture
def spoilt(either: Either) -> str:
    """Return the URL of 100 rows, of which 3 cannot be delivered and one ends early."""
    rows: list[tuple[Any, ...]] = list(simple_rows(100))
    rows[9] = (10, b"no image", 1)
    rows[19] = (20, None, 1)
    rows[29] = (30, b"not an image either", 1)
    whole = jpeg(320, 240, seed=9)
    rows[39] = (40, whole[: len(whole) * 3 // 4], 1)
    return either.table(rows)


def test_check_of_a_table_that_is_all_right(
    either: Either, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(capsys, "check", either.table(simple_rows(100)))
    assert found["rows"] == 100
    assert found["bad"] == found["partial"] == found["passed_over"] == 0
    assert found["reasons"] == []
    size = sum(len(image) for _, image, _ in simple_rows(100))
    assert found["pictures"] == {
        "JPEG": {"decoded": 100, "bytes": size, "pixels": 100 * 32 * 24, "largest": 32 * 24}
    }


def test_check_finds_all_that_is_wrong_and_lists_it(
    spoilt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "bad.csv"
    found = run(capsys, "check", spoilt, "--csv", listing, code=1)
    assert (found["rows"], found["bad"], found["partial"]) == (100, 3, 1)
    with listing.open(newline="") as lines:
        listed = list(csv.DictReader(lines))
    assert sorted((row["key"], row["kind"]) for row in listed) == [
        ("10", "bad"), ("20", "bad"), ("30", "bad"), ("40", "partial")
    ]  # fmt: skip
    reasons = {row["key"]: row["reason"] for row in listed}
    assert "NULL" in reasons["20"]
    assert sorted(reasons.values()) == sorted(
        reason["reason"] for reason in found["reasons"] for _ in reason["keys"]
    )


def test_check_says_it_in_words(spoilt: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = text_of(capsys, "check", spoilt, code=1)
    assert out.startswith("100 rows: 3 cannot be delivered, 1 end early")
    assert 'on_error="skip"' in out
    assert "mean megapixels" in out
    assert "10" in out


def test_what_check_finds_depends_on_the_options(
    spoilt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "check", spoilt, "--strict", code=1)["bad"] == 4
    assert run(capsys, "check", spoilt, "--max-pixels", "10", code=1)["bad"] == 100


def test_check_shows_some_keys_of_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(tmp_path / "t.db", [(i, b"no image", 0) for i in range(30)])
    found = run(capsys, "check", path, code=1)
    assert found["reasons"][0]["rows"] == 30
    assert found["reasons"][0]["keys"] == list(range(10))
    assert "8, 9, ..." in text_of(capsys, "check", path, code=1)


def test_check_needs_a_folder_for_its_list(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["check", small, "--csv", "/no/such/folder/bad.csv"])
    assert caught.value.code == 2
    assert "no folder /no/such/folder; create it first" in capsys.readouterr().err


# ---- preview -------------------------------------------------------------------------------------


def colors(count: int) -> list[tuple[int, bytes, int]]:
    """Return rows whose image has one color, which depends on the key."""
    return [(i, _filled((40 * i, 255 - 40 * i, 90)), 100 + i) for i in range(1, count + 1)]


def _filled(color: tuple[int, int, int]) -> bytes:
    import io

    out = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(out, "JPEG", quality=95, subsampling=0)
    return out.getvalue()


def sheet_of(path: Path) -> np.ndarray[Any, np.dtype[np.int16]]:
    with Image.open(path) as sheet:
        assert sheet.width == SHEET_WIDTH
        return np.asarray(sheet.convert("RGB"), np.int16)


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--layout", "NCHW"],
        ["--dtype", "float32", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.1"],
        ["--dtype", "bfloat16", "--mean", "0.4,0.5,0.6", "--std", "0.2,0.3,0.1"],
    ],
    ids=["uint8", "NCHW", "float32", "bfloat16"],
)
def test_preview_draws_a_batch_as_it_is(
    either: Either, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, sheet = either.table(colors(5)), tmp_path / "sheet.png"
    found = run(
        capsys, "preview", url, "--size", "16x16", "--batch-size", "4", *options, "-o", sheet
    )
    assert [row["key"] for row in found["rows"]] == [1, 2, 3, 4]
    pixels, cell = sheet_of(sheet), (SHEET_WIDTH - 8) // 8
    for i in range(4):
        centre = pixels[50, 10 + i * cell + cell // 2]
        expected = (40 * (i + 1), 255 - 40 * (i + 1), 90)
        assert np.abs(centre - expected).max() <= 5


@full
def test_preview_writes_what_the_suffix_says(small: str, tmp_path: Path) -> None:
    for suffix, kind in (("png", "PNG"), ("jpg", "JPEG"), ("JPEG", "JPEG"), ("webp", "WEBP")):
        sheet = tmp_path / f"sheet.{suffix}"
        assert cli.main(["preview", small, *OPTIONS, "-o", str(sheet)]) == 0
        with Image.open(sheet) as image:
            assert image.format == kind


def test_preview_shows_the_names_of_labels(
    either: Either, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("owl", "cat"):
        (tmp_path / "p" / name).mkdir(parents=True)
        (tmp_path / "p" / name / "1.jpg").write_bytes(jpeg())
    run(capsys, "ingest", tmp_path / "p", either.url)
    argv = ["preview", either.url, *OPTIONS, "-o", tmp_path / "sheet.png"]
    assert [row["caption"] for row in run(capsys, *argv)["rows"]] == ["1: cat", "2: owl"]
    found = run(capsys, *argv, "--label", "label:float32")
    assert [row["caption"] for row in found["rows"]] == ["1: 0.0", "2: 1.0"]


@full
def test_preview_of_another_batch_and_of_fewer_rows(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["preview", small, *OPTIONS, "-o", tmp_path / "sheet.png", "--rows", "3"]
    found = run(capsys, *argv, "--batch", "2")
    assert [row["key"] for row in found["rows"]] == [51, 54, 57]
    first = run(capsys, *argv, "--shuffle")
    again = run(capsys, *argv, "--shuffle", "--epoch", "1")
    assert first["rows"] != again["rows"]


def test_preview_marks_bad_rows_and_says_why(
    spoilt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["preview", spoilt, *OPTIONS, "-o", tmp_path / "sheet.png", "--batch", "1"]
    found = run(capsys, *argv)
    assert [row["key"] for row in found["rows"] if row["bad"]] == [10]
    out = text_of(capsys, *argv)
    assert "key 10: " in out


def test_preview_of_two_images_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = "id INTEGER PRIMARY KEY, a BLOB, b BLOB, label INTEGER"
    rows = [(i, _filled((200, 0, 0)), _filled((0, 0, 200)), i) for i in range(1, 9)]
    path, sheet = table(tmp_path / "t.db", rows, columns=columns), tmp_path / "sheet.png"
    argv = ["preview", path, "--size", "20x20", "--batch-size", "8", "--image", "a,b"]
    run(capsys, *argv, "-o", sheet)
    pixels, cell = sheet_of(sheet), (SHEET_WIDTH - 8) // 8
    left, right = pixels[30, 10 + cell // 4], pixels[30, 10 + 3 * cell // 4]
    assert np.abs(left - (200, 0, 0)).max() <= 5
    assert np.abs(right - (0, 0, 200)).max() <= 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "13"], "--batch 13: the batches of an epoch are 0 to 12"),
        (["--batch", "-1"], "--batch -1: the batches of an epoch are 0 to 12"),
        (["--epoch", "-1"], "--epoch -1: epochs are counted from 0"),
    ],
)
def test_preview_of_what_there_is_not(
    small: str,
    arguments: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sheet = tmp_path / "sheet.png"
    assert cli.main(["preview", small, *OPTIONS, "-o", str(sheet), *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not sheet.exists()


# ---- what goes wrong on the way ------------------------------------------------------------------


@pytest.mark.parametrize("command", ["plan", "check", "preview"])
def test_a_table_that_there_is_not_is_one_line(
    either: Either, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = either.table(simple_rows(3))
    more = ["-o", str(tmp_path / "sheet.png")] if command == "preview" else []
    for arguments, words in (
        (["--table", "pictures"], "there are: images"),
        (["--label", "lable"], "there are id, image_data, label"),
    ):
        assert cli.main([command, url, *arguments, *more]) == 3
        err = capsys.readouterr().err.strip()
        assert len(err.splitlines()) == 1
        assert err.startswith(f"fastloader {command}: ")
        assert words in err

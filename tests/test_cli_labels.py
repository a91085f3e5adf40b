"""How ingest finds labels, which numbers classes get, and how a table follows its folder."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import FastLoader, cli

from .conftest import Either
from .support import jpeg, table
from .test_cli_ingest import ingest, rows_of


@pytest.fixture
def url(either: Either) -> str:
    return either.url


def images(folder: Path, *names: str) -> Path:
    """Fill a folder with small images, all of them different, and return it."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed=len(name) + sum(name.encode())))
        os.utime(path, (1e9, 1e9))  # so old that its time can be trusted
    return folder


def classes_of(url: str, name: str = "images_classes") -> dict[str, int]:
    if url.startswith("postgres"):
        import psycopg2

        connection = psycopg2.connect(url)
        cursor = connection.cursor()
    else:
        connection = sqlite3.connect(url)
        cursor = connection.cursor()
    cursor.execute(f"SELECT name, id FROM {name}")
    found = dict(cursor.fetchall())
    connection.close()
    return found


def labels_of(url: str, **options: Any) -> Any:
    with FastLoader(url, size=(8, 8), workers=1, **options) as loader:
        return np.concatenate([labels for _, labels in loader])


def error_of(capsys: pytest.CaptureFixture[str], *argv: object, code: int) -> str:
    assert cli.main(["ingest", *map(str, argv)]) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


# ---- classes -------------------------------------------------------------------------------------


def test_the_first_subfolder_is_the_class(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "p", "daisy/2019/june/a.jpg", "daisy/b.jpg", "rose/c.jpg", "d.jpg")
    code, found = ingest(capsys, folder, url)
    assert code == 1
    assert found["labels"] == {"daisy": 0, "rose": 1}
    assert found["images_by_label"] == {"daisy": 2, "rose": 1}
    assert found["refused"] == {
        "not in a subfolder, which would name the class": {"count": 1, "files": ["d.jpg"]}
    }


def test_images_in_no_subfolder_have_no_class(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "p", "a.jpg", "b.jpg")
    err = error_of(capsys, folder, url, code=2)
    assert "labels.csv" in err
    assert "--one-class" in err
    code, found = ingest(capsys, folder, url, "--one-class", "cat")
    assert (code, found["labels"]) == (0, {"cat": 0})
    images(folder, "sub/c.jpg")
    code, found = ingest(capsys, folder, url, "--one-class", "dog")
    assert (code, found["labels"]) == (1, {"cat": 0, "dog": 1})
    assert found["relabeled"] == ["a.jpg", "b.jpg"]


def test_a_subset_gets_the_numbers_that_the_table_has(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(capsys, images(tmp_path / "a", "cat/1.jpg", "dog/2.jpg", "owl/3.jpg"), url)
    code, found = ingest(capsys, images(tmp_path / "b", "ant/4.jpg", "owl/5.jpg"), url)
    assert (code, found["labels"]) == (0, {"owl": 2, "ant": 3})
    assert classes_of(url) == {"cat": 0, "dog": 1, "owl": 2, "ant": 3}


def test_another_table_takes_the_classes_of_the_first(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train = images(tmp_path / "train", "cat/1.jpg", "dog/2.jpg", "owl/3.jpg")
    val = images(tmp_path / "val", "dog/4.jpg", "owl/5.jpg")
    ingest(capsys, train, url, "--table", "train")
    _, found = ingest(capsys, val, url, "--table", "val", "--classes-of", "train")
    assert found["labels"] == {"dog": 1, "owl": 2}
    assert labels_of(url, table="val").tolist() == [1, 2]
    assert classes_of(url, "val_classes") == classes_of(url, "train_classes")
    images(val, "bee/6.jpg")
    err = error_of(capsys, val, url, "--table", "val", "--classes-of", "train", code=2)
    assert "'bee' is none of the 3 classes" in err
    err = error_of(capsys, val, url, "--table", "val", "--classes-of", "trian", code=3)
    assert "no table 'trian'" in err


def test_a_file_says_what_the_classes_are(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("owl\nbee\n\ncat\n")
    folder = images(tmp_path / "p", "cat/1.jpg", "owl/2.jpg")
    code, found = ingest(capsys, folder, url, "--classes", names)
    assert (code, found["labels"]) == (0, {"owl": 0, "cat": 2})
    assert classes_of(url) == {"owl": 0, "bee": 1, "cat": 2}
    names.write_text("cat\nowl\n")
    err = error_of(capsys, folder, url, "--classes", names, code=2)
    assert "'cat' is 0 here and 2 in the table" in err
    names.write_text("cat\nowl\ncat\n")
    assert "'cat' twice" in error_of(capsys, folder, url, "--classes", names, code=2)


def test_a_table_that_has_no_list_of_classes_gets_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(
        tmp_path / "t.db",
        [(1, "x/1.jpg", 7, "dog", b"x")],
        columns="id INTEGER PRIMARY KEY, file TEXT UNIQUE, label, label_name, image_data BLOB",
    )
    code, found = ingest(capsys, images(tmp_path / "p", "cat/1.jpg", "dog/2.jpg"), path)
    assert (code, found["added"]) == (0, 2)
    assert classes_of(path) == {"dog": 7, "cat": 0}


def test_a_table_of_that_name_with_other_columns_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "t.db", [(1,)], columns="x", name="images_classes")
    folder = images(tmp_path / "p", "cat/1.jpg")
    err = error_of(capsys, folder, path, code=3)
    assert "in the columns id and name; rename yours" in err
    assert ingest(capsys, folder, path, "--table", "pets")[0] == 0


@pytest.mark.parametrize(
    "names",
    [
        ["train/daisy/a.jpg", "train/rose/b.jpg", "val/daisy/c.jpg"],
        ["Train/a.jpg", "Test/b.jpg"],
        ["validation/a.jpg"],
    ],
)
def test_splits_are_no_classes(
    names: list[str], tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "p", *names)
    err = error_of(capsys, folder, url, code=2)
    assert "look like the splits" in err
    for split in {name.partition("/")[0] for name in names}:
        assert f"{folder / split} URL --table {split}" in err
    if "val/daisy/c.jpg" in names:
        assert "--table val --classes-of train" in err
    listing = tmp_path / "names.txt"
    listing.write_text("\n".join(sorted({name.partition("/")[0] for name in names})))
    assert ingest(capsys, folder, url, "--classes", listing)[0] == 0


# ---- a CSV file ----------------------------------------------------------------------------------


def test_floats_stay_floats(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = images(tmp_path / "p", "a.jpg", "b.jpg", "c.jpg")
    (folder / "labels.csv").write_text("file,label\na.jpg,0.5\nb.jpg,3\nc.jpg,-1e-3\n")
    code, found = ingest(capsys, folder, url)
    assert (code, found["labels"]) == (0, {"-1e-3": -0.001, "0.5": 0.5, "3": 3.0})
    labels = labels_of(url)
    assert labels.dtype == np.float64
    assert labels.tolist() == [0.5, 3.0, -0.001]
    images(folder, "d.jpg")
    (folder / "labels.csv").write_text("file,label\nd.jpg,7\n")  # by itself an integer
    assert ingest(capsys, folder, url)[0] == 0
    assert labels_of(url).tolist() == [0.5, 3.0, -0.001, 7.0]


def test_floats_and_other_labels_do_not_mix(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "p", "a.jpg", "b.jpg")
    (folder / "labels.csv").write_text("file,label\na.jpg,0.5\nb.jpg,nan\n")
    err = error_of(capsys, folder, url, code=2)
    assert "numbers such as 0.5, but 'nan' is not a number" in err
    (folder / "labels.csv").write_text("file,label\na.jpg,3\n")
    assert ingest(capsys, folder, url)[0] == 0
    (folder / "labels.csv").write_text("file,label\nb.jpg,3.5\n")
    assert "holds integers" in error_of(capsys, folder, url, code=3)


def test_other_columns_are_named_and_may_be_chosen(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "p", "a.jpg", "b.jpg")
    (folder / "labels.csv").write_text("file,age,label,by\na.jpg,31,cat,me\nb.jpg,40,dog,you\n")
    code, found = ingest(capsys, folder, url, "--table", "one")
    assert (code, found["unused_columns"]) == (0, ["age", "by"])
    assert cli.main(["ingest", str(folder), url, "--table", "one"]) == 0
    assert f"not used: the columns age, by of {folder}/labels.csv" in capsys.readouterr().out
    _, found = ingest(capsys, folder, url, "--label-column", "age")
    assert found["labels"] == {"31": 31, "40": 40}
    assert "--label-column" in error_of(capsys, folder, url, "--label-column", "size", code=2)


# ---- a table follows its folder ------------------------------------------------------------------


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    return images(tmp_path / "p", "daisy/1.jpg", "daisy/2.jpg", "rose/3.jpg", "rose/4.jpg")


@pytest.mark.parametrize(("same_time", "same_size"), [(True, False), (False, True), (False, False)])
def test_a_changed_image_is_noticed(
    same_time: bool,
    same_size: bool,
    flowers: Path,
    url: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ingest(capsys, flowers, url)
    path = flowers / "daisy" / "1.jpg"
    before = path.read_bytes()
    after = before[:-3] + b"\0\xff\xd9" if same_size else before + b"more"
    path.write_bytes(after)
    os.utime(path, (1e9, 1e9) if same_time else (2e9, 2e9))
    code, found = ingest(capsys, flowers, url)
    assert (code, found["changed"], found["unchanged"]) == (1, ["daisy/1.jpg"], 3)
    assert rows_of(url)["daisy/1.jpg"][2] == before
    assert cli.main(["ingest", str(flowers), url]) == 1
    out = capsys.readouterr().out
    assert "changed: 1 differ from the table and were left unchanged (daisy/1.jpg)" in out
    assert "--update" in out
    code, found = ingest(capsys, flowers, url, "--update")
    assert (code, found["updated"]) == (0, 1)
    assert rows_of(url)["daisy/1.jpg"] == (0, "daisy", after)
    code, found = ingest(capsys, flowers, url)
    assert (code, found["changed"], found["unchanged"]) == (0, [], 4)


def test_an_image_that_was_only_touched_is_the_same(
    flowers: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(capsys, flowers, url)
    (flowers / "daisy" / "1.jpg").touch()
    code, found = ingest(capsys, flowers, url)
    assert (code, found["unchanged"]) == (0, 4)


def test_unchanged_files_are_not_read_again(
    flowers: Path,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from fastloader.cli.ingest.folder import Folder

    ingest(capsys, flowers, url)
    monkeypatch.setattr(Folder, "read", None)
    monkeypatch.setattr(Folder, "look", None)
    code, found = ingest(capsys, flowers, url)
    assert (code, found["unchanged"]) == (0, 4)


def test_a_renamed_class_leaves_no_image_twice(
    flowers: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(capsys, flowers, url)
    before = rows_of(url)
    (flowers / "daisy").rename(flowers / "bellis")
    images(flowers, "bellis/5.jpg")
    code, found = ingest(capsys, flowers, url)
    moved = {"daisy/1.jpg": "bellis/1.jpg", "daisy/2.jpg": "bellis/2.jpg"}
    assert (code, found["added"], found["moved"], found["gone"]) == (1, 1, moved, [])
    assert rows_of(url) == before | {"bellis/5.jpg": rows_of(url)["bellis/5.jpg"]}
    assert cli.main(["ingest", str(flowers), url]) == 1
    assert "daisy/1.jpg is now bellis/1.jpg" in capsys.readouterr().out
    code, found = ingest(capsys, flowers, url, "--update")
    assert (code, found["updated"]) == (0, 2)
    assert sum(found["images_by_label"].values()) == found["unchanged"] + found["added"] + 2
    assert {file: label for file, (_, label, _) in rows_of(url).items()} == {
        "bellis/1.jpg": "bellis",
        "bellis/2.jpg": "bellis",
        "bellis/5.jpg": "bellis",
        "rose/3.jpg": "rose",
        "rose/4.jpg": "rose",
    }
    assert ingest(capsys, flowers, url)[0] == 0


def test_rows_whose_files_are_gone_are_told_and_stay(
    flowers: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ingest(capsys, flowers, url)
    shutil.rmtree(flowers / "daisy")
    code, found = ingest(capsys, flowers, url, "--update")
    assert (code, found["gone"]) == (0, ["daisy/1.jpg", "daisy/2.jpg"])
    assert cli.main(["ingest", str(flowers), url]) == 0
    assert "not in the folder: 2 rows of the table, which stay" in capsys.readouterr().out
    assert len(rows_of(url)) == 4


def test_another_label_is_told_and_taken_with_update(
    flowers: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = flowers / "labels.csv"
    listing.write_text("file,label\ndaisy/1.jpg,white\nrose/3.jpg,red\n")
    ingest(capsys, flowers, url)
    listing.write_text("file,label\ndaisy/1.jpg,white\nrose/3.jpg,pink\n")
    code, found = ingest(capsys, flowers, url)
    assert (code, found["relabeled"]) == (1, ["rose/3.jpg"])
    assert rows_of(url)["rose/3.jpg"][:2] == (0, "red")
    code, found = ingest(capsys, flowers, url, "--update")
    assert (code, found["updated"]) == (0, 1)
    assert rows_of(url)["rose/3.jpg"][:2] == (2, "pink")

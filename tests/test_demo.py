"""``make demo``: it trains, chooses its images, and draws contact sheets."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from benchmarks import training_images
from fastloader.cli import sheet as sheets

from .support import ROOT, jpeg
from .tiers import full


@full
def test_the_demo_trains_beside_the_usual_generator(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.demo", "--folder", str(tmp_path)]
    few = ["--rows", "130", "--steps", "60", "--batch-size", "2"]
    done = subprocess.run(
        [*command, *few], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "images per second" in done.stdout
    assert "loss, accuracy at step 60" in done.stdout
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width == sheets.SHEET_WIDTH
    script = subprocess.run(
        [sys.executable, tmp_path / "train.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert script.returncode == 0, script.stderr
    assert "val_accuracy" in script.stdout
    assert script.stdout.count("looks like a") == 5


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["a.jpg", "b.jpg"], "have no labels; put them into a subfolder for each label"),
        (["cat/a.jpg", "cat/b.jpg"], "all 2 JPEGs of {} have the label 'cat'"),
        (["train/a.jpg", "val/b.jpg"], "are splits and not labels; pass {}/train"),
    ],
)
def test_images_that_teach_nothing_are_refused(
    files: list[str], words: str, tmp_path: Path
) -> None:
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg())
    with pytest.raises(training_images.ImagesError, match=re.escape(words.format(tmp_path))):
        training_images.find_images(tmp_path)


def test_the_first_subfolder_is_the_label_and_the_rest_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a/b/1.jpg", "c/2.jpg", "3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(jpeg())
    found = training_images.find_images(tmp_path)
    assert [name for _, name in found] == ["a", "c"]
    assert "left out 1 JPEGs in no subfolder" in capsys.readouterr().out


@full
def test_another_database_is_refused_with_words(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo", "--folder", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "DB": "mysql"}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "demo: DB=mysql is not supported; use sqlite or postgres\n"


@pytest.mark.parametrize("freetype", [True, False])
def test_a_contact_sheet_has_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freetype: bool
) -> None:
    """Captions are also drawn if Pillow was built without FreeType, for lack of its headers."""
    bitmap = ImageFont.load_default_imagefont()

    def load_default(size: float | None = None) -> Any:
        if size is not None:
            raise ImportError("cannot import name '_imagingft' from 'PIL'")
        return bitmap

    if not freetype:
        monkeypatch.setattr(ImageFont, "load_default", load_default)
    images = np.zeros((3, 20, 30, 3), np.uint8)
    captions = ["ship", "a caption that is too long for its image, by far", "日本"]
    sheets.contact_sheet(images, captions, tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("L")).astype(int)
    below = pixels[-sheets.CAPTION_HEIGHT - sheets.GAP :]
    columns = np.flatnonzero((below != pixels[0, 0]).any(axis=0))
    assert columns.min() < sheets.SHEET_WIDTH / sheets.COLUMNS
    assert columns.max() > 2 * sheets.SHEET_WIDTH / sheets.COLUMNS

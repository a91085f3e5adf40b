"""The commands run a transform, as a loader does."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastloader import FastLoader, cli

from . import small_transforms as functions

MODULE = functions.__name__


def test_check_lists_rows_on_which_a_function_fails(
    small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", small, "--transform", f"{MODULE}:fails"]) == 1
    out = capsys.readouterr().out
    assert "18" in out
    assert "no such label" in out
    assert cli.main(["check", small, "--transform", f"{MODULE}:jitter"]) == 0


def test_preview_draws_what_a_function_makes(small: str, tmp_path: Path) -> None:
    sheets = {}
    for name in ("nothing", "inverted", "to_tensor"):
        path = tmp_path / f"{name}.png"
        words = ["preview", small, "-o", str(path), "--size", "64x64", "--rows", "8"]
        assert cli.main([*words, "--transform", f"{MODULE}:{name}"]) == 0
        with Image.open(path) as sheet:
            sheets[name] = np.asarray(sheet.convert("RGB"), int)
    assert np.abs(sheets["to_tensor"] - sheets["nothing"]).max() <= 1
    assert np.abs(sheets["inverted"] - sheets["nothing"]).mean() > 5


def test_preview_prints_rows_without_images(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["preview", small, "-o", "unused.png", "--rows", "2"]
    assert cli.main([*words, "--transform", f"{MODULE}:only_mean"]) == 0
    out = capsys.readouterr().out
    assert "mean 1" in out or "mean " in out
    assert not Path("unused.png").exists()


def test_bench_and_tune_run_it(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    transform = ["--transform", f"{MODULE}:slow"]
    words = ["bench", small, "--rounds", "1", "--seconds", "0.2", "--workers", "1", *transform]
    assert cli.main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["stages"]["transform_s"] > found["stages"]["decode_s"]
    assert found["bottleneck"] == "transform"
    assert cli.main(words) == 0
    assert "runs transform" in capsys.readouterr().out
    assert cli.main(["tune", small, "--seconds", "0.1", "--slots", "3", *transform]) == 0


def test_the_log_says_what_a_function_needs(small: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "fastloader")
    with FastLoader(small, workers=1, transform=functions.jitter):
        pass
    assert "importing what the functions use" in caplog.text

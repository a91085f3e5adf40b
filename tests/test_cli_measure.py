"""bench and tune, on real tables: that they measure, choose and draw, not how fast anything is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastloader import cli, machine
from fastloader.cli import tune
from fastloader.cli.throughput import Measured

from .postgres import Database
from .support import jpeg, simple_rows, table

OPTIONS = ["--size", "16x16", "--batch-size", "8"]


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> dict[str, Any]:
    assert cli.main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_bench_compares_with_the_generator_and_draws_it(
    kind: str, small: str, database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = small if kind == "sqlite" else database.table(simple_rows(100))
    plot = tmp_path / "bench.png"
    argv = ["bench", url, *OPTIONS, "--rounds", "2", "--seconds", "0.2", "-o", plot]
    found = run(capsys, *argv)
    assert found["workers"] == machine.cores()
    for name in ("fastloader", "generator"):
        rate = found["images_per_s"][name]
        assert 0 < rate["low"] <= rate["median"] <= rate["high"]
    assert found["ratio"]["median"] > 0
    assert found["rows"] >= 16
    assert found["stages"]["decode_s"] > 0
    assert found["advice"].startswith(found["bottleneck"])
    with Image.open(plot) as image:
        assert image.size[0] == 880


def test_bench_says_it_in_words(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", small, *OPTIONS, "--rounds", "1", "--seconds", "0.1"]) == 0
    out = capsys.readouterr().out
    for words in ("plain generator", "times as fast", "decodes and resizes", "s CPU for 1000"):
        assert words in out


def test_bench_takes_pictures_that_nobody_can_decode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(1, jpeg(), 1), (2, b"no picture", 2), (3, jpeg(), 3)]
    path = table(tmp_path / "t.db", rows)
    argv = ["bench", path, *OPTIONS, "--rounds", "1", "--seconds", "0.1", "--on-error", "skip"]
    assert run(capsys, *argv)["rows"] > 0
    assert cli.main(["bench", path, *OPTIONS, "--seconds", "0.1"]) == 4
    assert "row with key 2: " in capsys.readouterr().err


def test_tune_measures_chooses_and_prints_variables(
    small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "tune.png"
    argv = [*OPTIONS, "--seconds", "1", "--slots", "3", "--fetch-bytes", "9999", "-o", plot]
    found = run(capsys, "tune", small, *argv)
    measured = {tuple(m["setting"].items()): m["images_per_s"] for m in found["measured"]}
    counts = tune.worker_counts(machine.cores())
    workers = found["chosen"]["workers"]
    assert all(len(measured[(("workers", count),)]) >= tune.ROUNDS for count in counts)
    assert workers in counts
    assert f"export FASTLOADER_WORKERS={workers}" in found["exports"]
    assert {name for m in found["measured"] for name in m["setting"]} == {"workers"}
    with Image.open(plot) as image:
        assert image.size[0] == 880


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({1: [100, 90, 110], 2: [200, 180, 220], 4: [202, 181, 223]}, 2),  # not worth two more
        ({1: [100, 100, 100], 2: [99, 150, 150], 4: [101, 104, 104]}, 4),  # once slower
        ({1: [100, 50, 100], 2: [104, 52, 104], 4: [90, 60, 90]}, 2),  # a slow minute
        ({1: [100, 100, 100], 2: [90, 90, 90], 4: [90, 90, 90]}, 1),
    ],
)
def test_tune_takes_more_workers_only_where_they_are_faster_in_every_round(
    rates: dict[int, list[float]], chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = {count: iter(values) for count, values in rates.items()}
    monkeypatch.setattr(
        tune, "of_loader", lambda options, _: Measured(next(left[options["workers"]]), 1)
    )
    sweep = tune.Sweep({}, 1.0)
    assert sweep.best([{"workers": n} for n in rates], "workers", share=1)["workers"] == chosen


@pytest.mark.parametrize("cores", [1, 2, 3, 8, 96])
def test_few_numbers_of_workers_are_tried(cores: int) -> None:
    counts = tune.worker_counts(cores)
    assert counts[0] == 1
    assert cores in counts
    assert counts[-1] <= max(2, 2 * cores)
    assert counts == sorted(set(counts))


@pytest.mark.parametrize("command", ["bench", "tune"])
def test_a_wrong_output_is_said_before_anything_is_measured(
    command: str, small: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main([command, small, "-o", str(tmp_path / "nowhere" / "plot.png")])
    assert "there is no folder" in capsys.readouterr().err
    assert cli.main([command, str(tmp_path / "none.db")]) == 3
    assert "there is no such file" in capsys.readouterr().err

"""bench and tune measure real tables, choose and draw. How fast anything is, is not tested."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastloader import cli
from fastloader.cli.measure import tune
from fastloader.cli.measure.throughput import Measured
from fastloader.system import machine

from .servers.postgres import Database
from .support import jpeg, simple_rows, table
from .tiers import full

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


@full
def test_bench_takes_images_that_cannot_be_decoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(1, jpeg(), 1), (2, b"no image", 2), (3, jpeg(), 3)]
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
    assert all(measured[(("workers", count),)] for count in counts)
    assert workers in counts
    assert f"export FASTLOADER_WORKERS={workers}" in found["exports"]
    assert {name for m in found["measured"] for name in m["setting"]} == {"workers"}
    with Image.open(plot) as image:
        assert image.size[0] == 880


@pytest.mark.parametrize(
    ("rates", "default", "chosen", "words"),
    [
        # Two more workers are not worth it, and one fewer is too slow.
        ({1: [100, 90, 110], 2: [200, 180, 220], 4: [202, 181, 223]}, 2, 2, None),
        # Faster in six of seven rounds.
        ({1: [60] * 3, 2: [100] * 7, 4: [99, *[150] * 6]}, 2, 4, "so it replaces the default"),
        # Faster at first, but not in the repetition.
        ({1: [60] * 3, 2: [100] * 7, 4: [99, 150, 150, 90, 95, 150, 90]}, 2, 2, "which is noise"),
        # In one slow round both are slow.
        ({1: [50, 25, 50], 2: [100, 50, 100] + [100] * 4, 4: [120, 60, 120] + [120] * 4}, 2, 4,
         "so it replaces the default"),
        # Fewer workers that are as fast, and fewer that only seemed to be.
        ({1: [50] * 3, 2: [99] * 7, 4: [100] * 7}, 4, 2, "so it replaces the default"),
        ({1: [50] * 3, 2: [99, 98, 99, 80, 85, 99, 70], 4: [100] * 7}, 4, 4, "which is noise"),
    ],
)  # fmt: skip
def test_tune_leaves_the_default_only_for_what_shows_again(
    rates: dict[int, list[float]],
    default: int,
    chosen: int,
    words: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = {count: iter(values) for count, values in rates.items()}
    monkeypatch.setattr(
        tune, "of_loader", lambda options, _: Measured(next(left[options["workers"]]), 1)
    )
    sweep = tune.Sweep({}, 1000.0)
    settings = [{"workers": n} for n in rates]
    found = sweep.best(settings, {"workers": default}, "workers", share=1)
    assert found == {"workers": chosen}
    assert [words in verdict for verdict in sweep.verdicts if words] == [True] * bool(words)


@pytest.mark.parametrize("overhead_s", [0.1, 2.0, 10.0])
def test_tune_keeps_to_its_time(overhead_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a loader takes long to start, there are fewer rounds. The clock is the test's."""
    sweep = tune.Sweep({}, 60.0)
    began = time.monotonic()
    now = [began]

    def of_loader(options: dict[str, Any], seconds: float) -> Measured:
        now[0] += overhead_s + seconds
        return Measured(100.0 + options.get("workers", 0) * 10, 1)

    monkeypatch.setattr(tune, "of_loader", of_loader)
    monkeypatch.setattr(tune.time, "monotonic", lambda: now[0])
    sweep.warm_up()
    settings = [{"workers": n} for n in (1, 2, 4)]
    chosen = sweep.best(settings, {"workers": 2}, "workers", share=0.6)
    others = [chosen, *(chosen | {"slots": n} for n in (4, 16))]
    sweep.best(others, chosen, "slots", share=1.0)
    assert 40 < now[0] - began <= 60 + overhead_s
    assert all("--seconds" in verdict for verdict in sweep.verdicts if overhead_s == 10)


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
    assert "no folder" in capsys.readouterr().err
    assert cli.main([command, str(tmp_path / "none.db")]) == 3
    assert "no such file" in capsys.readouterr().err

"""python -m benchmarks lists, runs and reports; peers deliver every row once."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import benchmarks.__main__ as package
from benchmarks import measure
from benchmarks.cases import CASES
from benchmarks.peers import PEERS

from .support import ROOT, jpeg, table
from .tiers import full

pytestmark = full

MODULES = {"torch-dataloader": "torch", "huggingface": "datasets", "grain": "grain"}
MODULES |= {"spdl": "spdl", "ray-data": "ray"}


def test_list_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert package.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(CASES)
    assert sum("(quick)" in line for line in lines) == sum(
        c.quick is not None for c in CASES.values()
    )


@pytest.mark.parametrize("name", CASES)
def test_a_case_has_a_module_that_knows_its_arguments(name: str) -> None:
    """The last argument is refused, so nothing runs; all arguments before it are known."""
    module, *words = CASES[name].command
    argv = [*words, *(CASES[name].quick or ()), "--json", "x", "--no-such-argument"]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *argv],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "unrecognized arguments: --no-such-argument" in done.stderr


def test_run_and_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["run", "plan", "--quick", "-o", str(tmp_path), "--", "--rows", "3000"]
    assert package.main(argv) == 0
    assert "the keys of 3000 rows" in capfd.readouterr().out
    record = json.loads((tmp_path / "plan.json").read_text())
    assert record["benchmark"] == "plan"
    assert record["machine"]["cores"] >= 1
    assert len(record["samples"]["keys"]) == 1
    assert package.main(["report", "-o", str(tmp_path)]) == 0
    report = (tmp_path / "report.md").read_text()
    assert "## plan" in report
    assert "(a quick run, on little data). `benchmarks.plan`" in report
    assert "10 million" not in report
    assert "| shuffle_block=8 |" in report
    assert "![plan](plan.png)" in report
    with Image.open(tmp_path / "plan.png") as plot:
        assert plot.width == 880


def test_the_plots_of_scaling_and_memory(tmp_path: Path) -> None:
    machine = {"cpu": "some", "cores": 2, "load": 0.1}
    rates = {f"{kind} {n}": [{"images_per_s": 100.0 * n}] for kind in ("fastloader", "bare")
             for n in (1, 2, 4)}  # fmt: skip
    looks = [{"batches": n, "training_mb": 20.0, "worker_mb": 25.0} for n in (10, 20)]
    for name, samples in (("scaling", rates), ("memory", {"fastloader": looks})):
        record = {"date": "2026-01-01", "machine": machine, "samples": samples}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    assert package.main(["report", "-o", str(tmp_path)]) == 0
    for name in ("scaling", "memory"):
        with Image.open(tmp_path / f"{name}.png") as plot:
            assert plot.width == 880
    assert (
        "| fastloader 4 | 400 [400..400] | 4.00 [4.00..4.00] |"
        in (tmp_path / "report.md").read_text()
    )


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["run", "nothing"], "no case 'nothing'; there are cursor, plan"),
        (["run", "--", "--rows", "1"], "arguments after -- need the action run"),
        (["report", "plan", "--", "--rows", "1"], "arguments after -- need the action run"),
    ],
)
def test_what_makes_no_sense_is_refused(
    argv: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        package.main([*argv[:1], "-o", str(tmp_path), *argv[1:]])
    assert words in capsys.readouterr().err


def test_a_report_of_nothing_and_a_quick_run_of_what_is_slow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert package.main(["report", "-o", str(tmp_path)]) == 2
    assert "run python -m benchmarks run first" in capsys.readouterr().err
    assert package.main(["run", "shuffle", "--quick", "-o", str(tmp_path)]) == 2
    assert "shuffle: no quick run" in capsys.readouterr().err


def test_a_case_that_fails_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    argv = ["run", "scaling", "--quick", "-o", str(tmp_path), "--", "--images", str(tmp_path)]
    assert package.main(argv) == 1
    found = capfd.readouterr()
    assert "no photos" in found.err
    assert "failed: scaling" in found.err


def test_what_is_missing_is_left_out_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    def run(name: str) -> dict[str, Any]:
        return {"missing": "not installed (no such thing)"} if name == "b" else {"x": 1}

    found = measure.paired(["a", "b", "c"], 3, run=run)
    assert found == {"a": [{"x": 1}] * 3, "c": [{"x": 1}] * 3}
    assert "b: not installed (no such thing)" in capsys.readouterr().out


def test_a_package_that_is_not_installed_is_a_sample(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> Any:
        import no_such_package_at_all  # noqa: F401

    measure.print_sample(run)
    assert "no_such_package_at_all" in json.loads(capsys.readouterr().out)["missing"]


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_delivers_every_row_once(name: str, tmp_path: Path) -> None:
    """Each peer runs in a process of its own, as in the benchmarks."""
    if not importlib.util.find_spec(MODULES[name]):
        pytest.skip(f"{MODULES[name]} is not installed")
    if name == "spdl":
        pytest.importorskip("cv2")
    rows = [(i + 1, jpeg(80, 60, seed=i % 8), 10 * i) for i in range(150)]
    path = table(tmp_path / "t.db", rows)
    program = (
        "import sys\n"
        "from benchmarks.peers import PEERS\n"
        "if __name__ == '__main__':\n"
        "    batches = list(PEERS[sys.argv[1]](sys.argv[2]))\n"
        "    print([int(label) for _, labels in batches for label in labels])\n"
        "    print({tuple(images.shape[1:]) for images, _ in batches}, len(batches))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, name, path],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    labels, shapes = done.stdout.splitlines()[-2:]
    assert np.array_equal(sorted(json.loads(labels)), range(0, 1500, 10))
    assert shapes == "{(224, 224, 3)} 3"

"""The case formats: what a peer cannot do is named with the reason, and all read the same bytes."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import chart_formats
from benchmarks.formats import __main__ as formats
from benchmarks.formats import environments, page
from benchmarks.formats.environments import ENVIRONMENTS, STAMP, Environment
from benchmarks.formats.peers import shared
from benchmarks.formats.sets import LONGEST, at_most_512
from benchmarks.measure import Sample
from benchmarks.photos import write

from .support import ROOT, jpeg

SCRIPTS = ROOT / "benchmarks" / "formats" / "peers"
ABSENT = Environment("Nothing", ("--no-index", "no-such-package-at-all==1.0"))
RANDOM = formats.Section("256", "jpeg", "random")
CENTER = formats.Section("256", "jpeg", "center")

FAKE = """
import shared
def write(rows, folder, mode):
    for i, (blob, _) in enumerate(rows):
        (folder / str(i)).write_bytes(blob + ADDED)
def stored(folder):
    return (path.read_bytes() for path in folder.iterdir())
shared.main(shared.Peer(write, stored, lambda folder, mode, view: 1 / 0))
"""


@pytest.fixture
def fake_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> formats.Peers:
    """Return peers whose scripts run in this Python: one keeps the bytes, the other adds one."""
    for name, added in (("honest", b""), ("other", b"x")):
        script = FAKE.replace("ADDED", repr(added))
        (tmp_path / f"with_{name}.py").write_text(script, encoding="utf-8")
    shutil.copy(SCRIPTS / "shared.py", tmp_path)
    monkeypatch.setattr(formats, "SCRIPTS", tmp_path)
    monkeypatch.setattr(formats, "BUILD", tmp_path)
    monkeypatch.setattr(formats, "python_of", lambda _: Path(sys.executable))
    return formats.Peers([], may_install=False)


def sample(images_per_s: float, **more: float) -> Sample:
    usual = {"cpu_ms_per_image": 1.0, "rows": 640, "mean": 100.0}
    return {"images_per_s": images_per_s, **usual, **more}


# ---- environments --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_peer_has_a_script_and_pins(name: str) -> None:
    environment = ENVIRONMENTS[name]
    assert (SCRIPTS / f"with_{name}.py").exists()
    for pin in (*environment.pins, *environment.from_source):
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+(\+cpu)?", pin)


def test_no_script_hides_a_package_that_another_one_imports() -> None:
    """A script's folder is the first place that its imports are looked for in."""
    packages = {pin.split("==")[0] for each in ENVIRONMENTS.values() for pin in each.pins}
    packages |= {"ffcv", "streaming", "nvidia", "lancedb", "PIL"} | set(sys.stdlib_module_names)
    assert not packages & {path.stem for path in SCRIPTS.glob("*.py")}


def test_a_system_package_needs_root_and_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments.os, "geteuid", lambda: 1000)
    needing = Environment("Nothing", (), system=(("no-such-library", "no-such-library-dev"),))
    why = environments.install("nothing", needing)
    assert why is not None
    assert why.startswith("not installed: it needs no-such-library-dev, and this is not root")


def test_an_environment_with_other_pins_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    old, new = Environment("X", ("x==1",)), Environment("X", ("x==2",))
    (tmp_path / "x" / STAMP).write_text(old.stamp, encoding="utf-8")
    assert environments.is_installed("x", old, tmp_path)
    assert not environments.is_installed("x", new, tmp_path)


@pytest.mark.parametrize(
    ("errors", "found"),
    [
        (
            "ERROR: first\nERROR: No matching distribution\nhint: see above\n",
            "No matching distribution",
        ),
        ("Traceback\n  File x\nImportError: no libcuda\n\n", "ImportError: no libcuda"),
        ("", "exit code 3"),
        (f"OSError: {ROOT}/build/x", "OSError: ./build/x"),
    ],
)
def test_the_reason_is_the_line_that_says_it(errors: str, found: str) -> None:
    assert environments.reason(errors, 3) == found


# ---- running them --------------------------------------------------------------------------------


def test_the_run_goes_on_without_a_peer_that_does_not_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["file,label"]
    for i in range(8):
        (tmp_path / f"{i}.jpg").write_bytes(jpeg(400, 300, seed=i))
        lines.append(f"{i}.jpg,{i}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    known = {"nothing": ABSENT}
    monkeypatch.setattr(formats, "ENVIRONMENTS", known)
    monkeypatch.setattr(formats, "NAMES", ("fastloader", "nothing"))
    monkeypatch.setattr(
        formats, "install", lambda name, its: environments.install(name, its, tmp_path)
    )
    record = tmp_path / "formats.json"
    argv = ["--images", tmp_path, "--rounds", 1, "--copies", 1, "--seconds", 0, "--json", record]
    argv += ["--sets", "256", "--modes", "jpeg", "--views", "random"]
    monkeypatch.setattr(sys, "argv", ["formats", *map(str, argv)])
    formats.main()
    assert "nothing: not installed: " in capsys.readouterr().out
    assert not environments.is_installed("nothing", ABSENT, tmp_path)
    found = json.loads(record.read_text(encoding="utf-8"))
    assert "no-such-package-at-all" in found["options"]["missing"]["nothing"]
    (ours,) = found["samples"][f"{RANDOM.title}: fastloader"]
    assert (ours["rows"], ours["shape"]) == (8, [224, 224, 3])


def test_a_peer_that_stores_other_bytes_is_left_out(
    fake_peers: formats.Peers, tmp_path: Path
) -> None:
    rows = [(jpeg(40, 30, seed=i), i) for i in range(3)]
    path = str(tmp_path / "t.db")
    write(path, rows)
    digest = shared.digest_of(blob for blob, _ in rows)
    for name in ("honest", "other"):
        fake_peers.write(name, path, tmp_path / f"{name}-jpeg", "jpeg", digest)
    assert fake_peers.missing == {"other, jpeg": "it has stored other bytes than it was given"}
    assert fake_peers.can("honest", "jpeg")
    assert not fake_peers.can("other", "jpeg")


def test_a_peer_that_does_not_run_is_named_with_its_reason(
    fake_peers: formats.Peers, tmp_path: Path
) -> None:
    found = fake_peers.read("honest", tmp_path, RANDOM, 0.0)
    assert found == {"missing": "did not run: ZeroDivisionError: division by zero"}
    assert list(fake_peers.missing) == [f"honest, {RANDOM.title}"]


def test_raw_is_left_out_where_a_loader_has_no_such_mode() -> None:
    names = formats.Section("256", "raw", "random").names(formats.NAMES)
    assert names == ["ffcv", "litdata", "mosaic", "lancedb"]
    names = formats.Section("256", "raw", "center").names(formats.NAMES)
    assert names == ["fastloader", "fastloader-postgres", "ffcv", "litdata", "mosaic", "lancedb"]


# ---- what they read and deliver ------------------------------------------------------------------


def test_the_digest_is_of_all_bytes_in_any_order() -> None:
    assert shared.digest_of([b"a", b"b"]) == shared.digest_of([b"b", b"a"])
    assert shared.digest_of([b"a", b"b"]) != shared.digest_of([b"a", b"c"])
    assert shared.digest_of([b"a", b"b"]) != shared.digest_of([b"a", b"b", b"b"])


def test_the_larger_images_have_at_most_512_pixels() -> None:
    from PIL import Image

    (wide, label), (small, _) = at_most_512([(jpeg(1000, 500), 7), (jpeg(300, 400), 8)])
    assert label == 7
    with Image.open(io.BytesIO(wide)) as image:
        assert image.size == (LONGEST, LONGEST // 2)
    with Image.open(io.BytesIO(small)) as image:
        assert image.size == (300, 400)


def test_epochs_are_counted_by_the_rows_that_they_deliver() -> None:
    batches = [(np.full((n, 224, 224, 3), 9, np.uint8), np.zeros(n)) for n in (64, 36)]
    found = shared.measured(batches, 0.0)
    assert (found["rows"], found["rows_of_later_epochs"], found["epochs"]) == (100, 100, 1)
    assert found["mean"] == 9
    with pytest.raises(SystemExit, match="float64, not uint8"):
        shared.measured([(np.zeros((1, 2, 2, 3)), [0])], 0.0)


def test_missing_rows_and_other_pixels_are_doubts() -> None:
    samples = {
        "fastloader": [sample(9)],
        "ffcv": [sample(9, rows=512)],
        "dali": [sample(9, mean=90)],
    }
    assert list(formats.doubts(RANDOM, samples, 640)) == [
        "ffcv delivered 512 rows an epoch, not 640"
    ]
    assert "dali: the mean pixel is 90.0, and ours is 100.0" in formats.doubts(CENTER, samples, 640)
    assert not list(formats.doubts(RANDOM, {"dali": [sample(9, rows=703)]}, 640))


# ---- what is shown -------------------------------------------------------------------------------


def test_the_goal_is_about_the_shrunk_images_alone() -> None:
    samples = {"fastloader": [sample(1500)], "ffcv": [sample(400)]}
    assert "goal: 3 x ffcv: reached, 3.75 [3.75..3.75]" in formats.lines(RANDOM, samples)
    assert not any("goal" in line for line in formats.lines(CENTER, samples))


def test_the_tables_of_the_page_have_all_columns() -> None:
    samples = {
        f"{RANDOM.title}: fastloader": [sample(1500.4)],
        f"{RANDOM.title}: ffcv": [sample(500)],
        f"{CENTER.title}: ffcv": [sample(900)],
    }
    head, rule, ours, theirs, end = page.tables(samples)
    assert head.count("|") == rule.count("|") == ours.count("|") == theirs.count("|") == 8
    assert ours == "| **fastloader**, SQLite | **1500** |  | **1.00** |  |  |  |"
    assert theirs == "| FFCV 1.0.2 | 500 | 3.00 [3.00..3.00] | 1.00 | 900 |  | 1.00 |"
    assert end == ""


def test_the_chart_has_the_figures_of_the_page() -> None:
    found = chart_formats.bars((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"))
    assert any(bar.name.startswith("fastloader") for bar in found)
    chart = (ROOT / "docs" / "_static" / "formats.svg").read_text(encoding="utf-8")
    assert chart_formats.text_of(found) in chart, "run python -m benchmarks.chart_formats"

"""Some benchmarks run on little data, and print what they should."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

from benchmarks import (
    epochs,
    labels,
    measure,
    page_cache,
    photos,
    server_load,
    shuffle,
    training_images,
)

from .servers.postgres import bindirs
from .support import ROOT
from .tiers import full

pytestmark = full

PHOTOS = ROOT.parent / "shared" / "data" / "photos"


@pytest.fixture
def few_photos(tmp_path: Path) -> Path:
    """Return a folder with 130 of the photographs, which make three batches."""
    if not (PHOTOS / "labels.csv").exists():
        pytest.skip("needs the photographs in ../shared/data/photos")
    folder = tmp_path / "photos"
    folder.mkdir()
    head, *rows = (PHOTOS / "labels.csv").read_text(encoding="utf-8").splitlines()
    names = [f"{PHOTOS}/{row}" for row in rows[:130]]
    (folder / "labels.csv").write_text("\n".join([head, *names]), encoding="utf-8")
    return folder


def run(module: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def on_a_disk(folder: Path) -> bool:
    """Return whether files in the folder can be evicted from the page cache."""
    path = folder / "some"
    path.write_bytes(os.urandom(1 << 20))
    before = page_cache.resident_mb([str(path)])
    page_cache.forget(str(path))
    return before > page_cache.resident_mb([str(path)]) == 0


# ---- without photographs, and ended in the middle ------------------------------------------------


def test_without_photographs_images_are_made_once_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "build" / "photos"
    monkeypatch.setattr(photos, "MADE", made)
    monkeypatch.setattr(training_images, "DISTINCT", 3)
    found = photos.read_photos(made, 2)
    assert "images that the benchmark makes" in capsys.readouterr().err
    assert [blob[:3] for blob, _ in found] == [b"\xff\xd8\xff"] * 2
    assert os.listdir(made.parent) == ["photos"]
    monkeypatch.setattr(training_images, "make_images", None)
    assert photos.read_photos(made)[:2] == found


def test_the_default_is_a_folder_that_is_there_or_can_be_made() -> None:
    options = measure.parser("any", "", rounds=1).parse_args([])
    assert options.images == (PHOTOS if PHOTOS.exists() else measure.MADE)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_what_is_told_to_end_leaves_no_database_behind(kind: str, number: int) -> None:
    if kind == "postgres" and all(bindir is None for bindir in bindirs()):
        pytest.skip("no PostgreSQL")
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # which nohup ignores
        "from benchmarks.photos import database\n"
        f"with database([(b'x', 1)], 3, kind={kind!r}) as url:\n"
        "    print(url, flush=True)\n"
        "    time.sleep(100)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        path = Path(unquote(urlsplit(url).netloc).partition("@")[2].rpartition(":")[0])
        path = path if kind == "postgres" else Path(url).parent
        assert path.is_dir()
        assert path.name.startswith("fastloader-")
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    assert not path.exists()


# ---- shuffle -------------------------------------------------------------------------------------


def test_shuffle_knows_what_is_in_the_page_cache(tmp_path: Path) -> None:
    path = tmp_path / "some"
    path.write_bytes(os.urandom(64 * 4096 + 1))
    assert page_cache.resident_mb([str(path)]) == pytest.approx(65 * 4096 / 1e6)
    if not on_a_disk(tmp_path):
        pytest.skip(f"{tmp_path} is not on a disk")
    page_cache.drop(str(path))
    assert page_cache.resident_mb([str(path)]) == 0
    with open(path, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(file.fileno(), 2 * 4096, 4 * 4096)
    assert page_cache.resident_mb([str(path)]) == pytest.approx(2 * 4096 / 1e6)


def test_shuffle_reports_each_order_and_what_came_from_the_disk(
    tmp_path: Path, few_photos: Path
) -> None:
    words = ["--db", "sqlite", "--part", "read", "--copies", 1, "--rounds", 1]
    words += [] if on_a_disk(tmp_path) else ["--cache", "warm"]
    out = run("shuffle", "--images", few_photos, "--json", tmp_path / "out.json", *words)
    for name in shuffle.ORDERS:
        assert f"\n{name} " in out
        assert f"\n| {name} |" in out or f"\n| `{name}` |" in out
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    for name, samples in record["samples"].items():
        for sample in samples:
            assert sample.get("rows", 130) == 130
            if "warm" in name:
                assert sample["disk_mb"] < 0.1 * sample["resident_mb_before"]
            elif "cold" in name:
                assert sample["disk_mb"] > 10 * sample["resident_mb_before"]


# ---- labels --------------------------------------------------------------------------------------


def test_labels_prints_and_draws_what_it_counts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib, which comes with [benchmarks]")
    words = ["--epochs", 2, "--json", tmp_path / "out.json", "-o", tmp_path / "plot.png"]
    out = run("labels", *words)
    for name in labels.ORDERS:
        assert f"\n{name} " in out
    with Image.open(tmp_path / "plot.png") as plot:
        assert plot.size == (labels.WIDTH_PX, labels.HEIGHT_PX)
    assert (tmp_path / "plot.png").stat().st_size < 40_000


def test_a_full_shuffle_has_as_many_labels_as_expected() -> None:
    found = labels.samples_of(labels.ORDERS["shuffle_block=1"], epochs=3)
    distinct = labels.values_of(found["distinct"])
    error = distinct.std() / np.sqrt(len(distinct))
    assert abs(distinct.mean() - labels.expected()) < 4 * error


# ---- epochs --------------------------------------------------------------------------------------


def test_epochs_reports_the_gaps_of_each_loop(tmp_path: Path, few_photos: Path) -> None:
    copies = len(os.sched_getaffinity(0))  # two batches for each worker
    words = ["--loop", "numpy", "--consumer", "slow", "--rounds", 1, "--epochs", 2]
    words += ["--copies", copies, "--images", few_photos, "--json", tmp_path / "out.json"]
    out = run("epochs", *words)
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    for name in (epochs.NUMPY, epochs.NUMPY + epochs.ANEW):
        assert f"\n{name}  " in out
        (sample,) = record["samples"][f"slow: {name}"]
        assert len(sample["between_ms"]) == 2
        assert min(sample["inside_ms"]) >= sample["sleep_ms"] > 0


def test_gaps_are_free_of_bunches() -> None:
    """Two workers take 2 s for each batch, and 3 s more at the end of the first epoch."""
    inside, between = epochs.gaps([[0, 0, 2, 2, 4, 4], [9, 9, 11, 11]], 2)
    assert inside == [1.0] * 6
    assert between == [4.0]


# ---- the load of many hosts ----------------------------------------------------------------------


@pytest.mark.parametrize("hosts", [1, 8, 64])
@pytest.mark.parametrize("row_bytes", [20_000, 84_000])
@pytest.mark.parametrize("cpu_s", [6e-5, 2e-3])
def test_a_simulated_server_delivers_what_is_wanted_or_all_that_it_can(
    hosts: int, row_bytes: float, cpu_s: float
) -> None:
    load = server_load.Load(hosts, row_bytes=row_bytes, cpu_s=cpu_s)
    wanted = hosts * load.wanted
    found = server_load.simulated(load)
    assert found == pytest.approx(min(wanted, load.limit), rel=0.08)
    enough = server_load.Load(
        hosts, row_bytes=row_bytes, cpu_s=cpu_s, cores=load.cores * load.servers,
        network=load.network * load.servers,
    )  # fmt: skip
    assert server_load.simulated(enough) == pytest.approx(wanted, rel=0.08)


def test_the_load_prints_what_each_number_of_hosts_gets(tmp_path: Path) -> None:
    out = run("server_load", "--part", "simulate", "--json", tmp_path / "out.json")
    assert "which makes 37,202 rows/s, enough for 9 hosts" in out
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert record["samples"]["64 hosts of 4000 images/s, 84 KB"][0]["share"] < 0.2


def test_reading_costs_a_server_something(tmp_path: Path, few_photos: Path) -> None:
    words = ["--part", "measure", "--rounds", 1, "--copies", 4]
    run("server_load", "--images", few_photos, "--json", tmp_path / "out.json", *words)
    record = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    (sample,) = record["samples"]["fastloader"]
    assert 0 < sample["server_cpu_ms"] < 10
    assert sample["row_bytes"] > 10_000
    assert 400 < sample["rows"] <= 520

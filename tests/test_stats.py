"""Times of the stages, the bottleneck among them, and a trace that shows both."""

from __future__ import annotations

import io
import itertools
import json
import logging
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fastloader import ConfigError, FastLoader, Pictures
from fastloader.observe.stats import Stages, advice, bottleneck

from .servers.postgres import Database
from .support import jpeg, simple_rows, table
from .tiers import full

OPTIONS: dict[str, Any] = {"size": (16, 16), "batch_size": 4, "workers": 1, "slots": 2}

# The database takes a few milliseconds for each row.
SLOW_SQLITE = """
SELECT id, image_data, label + 0 * (
    WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 20000)
    SELECT count(*) FROM c WHERE c.x > id
) AS label FROM images
"""
SLOW_POSTGRES = "SELECT id, image_data, label, length(pg_sleep(0.005)::text) AS slept FROM images"


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_counted_by_format_whoever_decodes_them(tmp_path: Path, workers: int) -> None:
    rows: list[tuple[Any, ...]] = list(simple_rows(6))
    gifs = [encoded("GIF", width, 10) for width in (20, 30)]
    rows += [(7, gifs[0], 0), (8, gifs[1], 0), (9, b"none", 0)]
    path = table(tmp_path / "t.db", rows)
    with FastLoader(path, on_error="skip", **{**OPTIONS, "workers": workers}) as loader:
        for _ in range(2):
            for _ in loader:
                pass
        found = dict(loader.stats().pictures)
    jpegs = sum(len(image) for _, image, _ in rows[:6])
    assert found["JPEG"] == Pictures(12, 2 * jpegs, 12 * 32 * 24, 32 * 24)
    assert found["GIF"] == Pictures(4, 2 * sum(map(len, gifs)), 2 * (200 + 300), 300)
    assert set(found) == {"JPEG", "GIF"}


def encoded(format: str, width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, format)
    return out.getvalue()


def events_of(path: Path | str) -> list[dict[str, Any]]:
    return json.loads(Path(path).read_text())


def rows_of(events: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the spans of each row, by the name of its loader and its own."""
    names = {(e["name"], e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M"}
    rows = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            pid, tid = event["pid"], event["tid"]
            rows[names["process_name", pid, 0], names["thread_name", pid, tid]].append(event)
    return rows


# ---- each bottleneck -----------------------------------------------------------------------------


def slow_consumer(_: Database, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    return table(tmp_path / "t.db", simple_rows(60)), {"pause_s": 0.02, "slots": 2}


def slow_decode(_: Database, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    large = jpeg(1500, 1500)
    return table(tmp_path / "t.db", ((i, large, i) for i in range(60))), {}


def slow_sqlite(_: Database, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    return table(tmp_path / "t.db", simple_rows(60)), {"query": SLOW_SQLITE, "fetch_bytes": 1}


def slow_postgres(database: Database, _: Path) -> tuple[str, dict[str, Any]]:
    return database.table(simple_rows(60)), {"query": SLOW_POSTGRES, "label": ["label", "slept"]}


def slow_transform(_: Database, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    def sleeps(_row: dict[str, Any]) -> None:
        time.sleep(0.01)

    return table(tmp_path / "t.db", simple_rows(60)), {"transform": sleeps}


@pytest.mark.parametrize(
    ("case", "bottleneck"),
    [
        (slow_transform, "transform"),
        (slow_consumer, "consumer"),
        (slow_decode, "decode"),
        (slow_sqlite, "source"),
        (slow_postgres, "source"),
    ],
)
def test_statistics_trace_and_log_name_the_bottleneck(
    case: Callable[[Database, Path], tuple[str, dict[str, Any]]],
    bottleneck: str,
    database: Database,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fastloader")
    url, options = case(database, tmp_path)
    pause_s = options.pop("pause_s", 0.0)
    # Room for the whole epoch, so that a consumer that gets no core is never the one waited for.
    options = {**OPTIONS, "slots": 16, **options}
    trace = tmp_path / "trace.json"
    with FastLoader(url, trace=trace, **options) as loader:
        for _ in loader:
            time.sleep(pause_s)
        stats = loader.stats()
    times = {
        "consumer": stats.slot_wait_s,
        "source": stats.source_wait_s,
        "decode": stats.decode_s,
        "transform": stats.transform_s,
    }
    assert max(times, key=times.__getitem__) == bottleneck
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert line.startswith("epoch 0: 60 rows in ")
    assert f"images/s; {bottleneck}-bound: " in line
    rows = {row: spans for (_, row), spans in rows_of(events_of(trace)).items()}
    (epoch,) = rows["epochs"]
    assert (epoch["name"], epoch["args"]["bottleneck"]) == ("epoch 0", bottleneck)
    seconds: dict[str, float] = defaultdict(float)
    for span in rows["worker 0"]:
        seconds[span["name"]] += span["dur"] / 1e6
    stage = {"consumer": "slot_wait", "source": "source_wait"}.get(bottleneck, bottleneck)
    assert max(seconds, key=seconds.__getitem__) == stage


@pytest.mark.parametrize(
    ("stages", "workers", "cores", "words"),
    [
        (Stages(slot_wait_s=2, decode_s=8), 2, 2, ["consumer-bound", "fine", "20%"]),
        (
            Stages(slot_wait_s=2, source_wait_s=6, decode_s=2, wait_s=4, consumer_s=1), 2, 2,
            ["source-bound", "60%"],
        ),
        (
            Stages(source_wait_s=6, decode_s=4), 2, 4,
            ["source-bound", "2 workers wait 60%", "workers=4"],
        ),
        (Stages(decode_s=10, cpu_s=9.8), 2, 2, ["decode-bound", "2.0 of 2 cores", "quality="]),
        (Stages(decode_s=10, cpu_s=9.8), 1, 2, ["1 worker use", "1.0 of 2", "workers=2"]),
        (Stages(decode_s=10, cpu_s=5), 2, 2, ["1.0 of 2 cores", "other processes use the cores"]),
        (Stages(decode_s=6, source_wait_s=2, consumer_s=2), 0, 4, ["decode", "80%", "workers=4"]),
        (Stages(decode_s=2, consumer_s=8), 0, 4, ["consumer-bound", "20%"]),
        (Stages(), 2, 2, ["decode-bound"]),
        (
            Stages(transform_s=6, decode_s=4, cpu_s=9.8), 2, 2,
            ["transform-bound", "2.0 of 2 cores", "60% of their time in transform"],
        ),
        (Stages(transform_s=6, decode_s=2, consumer_s=2), 0, 4, ["transform-bound", "80%"]),
    ],
)  # fmt: skip
def test_the_advice_fits_the_stages(
    stages: Stages, workers: int, cores: int, words: list[str]
) -> None:
    text = advice(stages, workers=workers, cores=cores)
    assert text.startswith(bottleneck(stages, workers))
    for word in words:
        assert word in text
    assert "\n" not in text


# ---- the seconds ---------------------------------------------------------------------------------


@full
@pytest.mark.parametrize("workers", [0, 2])
def test_every_moment_of_a_thread_is_in_one_stage(tmp_path: Path, workers: int) -> None:
    path = table(tmp_path / "t.db", ((i, jpeg(600, 600), i) for i in range(80)))
    with FastLoader(path, **{**OPTIONS, "workers": workers}) as loader:
        list(loader)  # the workers have begun
        before, start = loader.stats(), time.perf_counter()
        for _ in loader:
            time.sleep(0.002)
        took_s, stats = time.perf_counter() - start, loader.stats()
    consumer_s = sum(
        getattr(stats, name) - getattr(before, name)
        for name in ("wait_s", "hand_over_s", "consumer_s")
    )
    assert 0.9 * took_s < consumer_s <= took_s
    assert stats.consumer_s - before.consumer_s >= 20 * 0.002
    assert 0 < stats.cpu_s <= 2 * stats.workers_s
    assert stats.fetch_s > 0
    # A worker may be some batches ahead or behind at both ends.
    assert stats.workers_s - before.workers_s < max(1, workers) * took_s * 2
    assert (stats.slot_wait_s == 0) == (workers == 0)


# ---- the file ------------------------------------------------------------------------------------


def test_the_spans_of_a_row_follow_one_another(small: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    with FastLoader(small, trace=trace, **{**OPTIONS, "workers": 2}) as loader:
        for _ in itertools.chain(loader, loader):
            pass
    rows = {row: spans for (_, row), spans in rows_of(events_of(trace)).items()}
    workers = [f"worker {i}{thread}" for i in (0, 1) for thread in ("", " fetch")]
    assert set(rows) == {"consumer", "epochs", *workers}
    for spans in rows.values():
        spans.sort(key=lambda span: span["ts"])
        for one, other in itertools.pairwise(spans):
            assert one["ts"] + one["dur"] <= other["ts"] + 0.2  # rounded to 0.1 us
    assert [span["name"] for span in rows["epochs"]] == ["epoch 0", "epoch 1"]
    assert {span["name"] for span in rows["worker 0 fetch"]} == {"fetch"}
    delivered = {(s["args"]["epoch"], s["args"]["batch"]) for s in rows["consumer"]}
    assert delivered == {(epoch, batch) for epoch in (0, 1) for batch in range(25)}


def test_a_trace_can_be_read_while_it_is_written(small: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    with FastLoader(small, trace=trace, **{**OPTIONS, "batch_size": 1}) as loader:
        found = [len(events_of(trace)) for _ in itertools.chain(loader, loader, loader)]
    assert sorted(set(found)) != [0]
    assert found == sorted(found)
    assert found[-1] <= len(events_of(trace))


def test_loaders_of_a_process_share_a_trace(small: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace-%p.json"
    with FastLoader(small, trace=trace, **OPTIONS) as train:
        list(train)
        with FastLoader(small, query="SELECT * FROM images", trace=trace, **OPTIONS) as val:
            list(val)
        list(train)
    rows = rows_of(events_of(tmp_path / f"trace-{os.getpid()}.json"))
    assert {loader.rpartition(", ")[2] for loader, _ in rows} == {"images", "query"}
    assert len({(span["pid"]) for spans in rows.values() for span in spans}) == 2
    assert len(rows[train.config.place, "epochs"]) == 2


def test_a_trace_that_cannot_be_written_is_an_error_at_once(small: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trace=.* cannot be written: No such file or directory"):
        FastLoader(small, trace=tmp_path / "nowhere" / "trace.json", **OPTIONS)


def test_a_killed_program_leaves_a_trace_that_can_be_read(small: str, tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    script = f"""
import os, signal
from fastloader import FastLoader
loader = FastLoader({small!r}, size=(8, 8), batch_size=1, workers=1)
for epoch in range(3):
    list(loader)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environ = {**os.environ, "FASTLOADER_TRACE": str(trace)}
    subprocess.run([sys.executable, "-c", script], env=environ, timeout=200, check=False)
    assert len(events_of(trace)) >= 500


def test_a_trace_that_is_full_says_so_and_stays_whole(
    small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("fastloader.observe.trace.MOST_EVENTS", 50)
    trace = tmp_path / "trace.json"
    with FastLoader(small, trace=trace, **OPTIONS) as loader:
        list(loader)
    assert len(events_of(trace)) == 49
    assert "full after 50 events" in caplog.text

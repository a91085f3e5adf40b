"""The statistics are what a scrape shows."""

from __future__ import annotations

import dataclasses
import gc

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from fastloader import FastLoader
from fastloader.adapters.prometheus import GAUGES, HELP, LoaderCollector
from fastloader.observe.stats import Stages, Stats

from .programs import in_a_fork


def test_a_scrape_shows_every_statistic_of_each_loader(small: str) -> None:
    registry = CollectorRegistry()
    options = {"size": (8, 8), "batch_size": 30, "workers": 1}
    with FastLoader(small, **options) as train, FastLoader(small, **options) as validation:
        LoaderCollector(registry=registry, train=train, validation=validation)
        kept = list(train)
        stats, text = train.stats(), generate_latest(registry).decode()
    assert "# TYPE fastloader_rows counter" in text
    for name in HELP:
        line = f'fastloader_{name}_total{{loader="train"}} {float(getattr(stats, name))}'
        assert line in text.splitlines()
        assert f'fastloader_{name}_total{{loader="validation"}}' in text
    for field in dataclasses.fields(Stages):
        stage = field.name.removesuffix("_s")
        assert f'fastloader_stage_seconds_total{{loader="train",stage="{stage}"}}' in text
    assert f'fastloader_leased{{loader="train"}} {float(len(kept))}' in text
    assert 'fastloader_pictures_total{format="JPEG",loader="train"}' in text
    counts = {f.name for f in dataclasses.fields(Stats)} - {
        f.name for f in dataclasses.fields(Stages)
    }
    assert counts == {*HELP, *GAUGES, "pictures"}


def test_a_loader_that_is_gone_is_left_out(small: str) -> None:
    registry = CollectorRegistry()
    loader = FastLoader(small, size=(8, 8), workers=0)
    LoaderCollector(registry=registry, train=loader)
    loader.close()
    assert 'loader="train"' in generate_latest(registry).decode()
    del loader
    gc.collect()
    assert 'loader="train"' not in generate_latest(registry).decode()


def test_a_fork_leaves_its_parents_loaders_out(small: str) -> None:
    registry = CollectorRegistry()
    with FastLoader(small, workers=0, size=(8, 8)) as loader:
        LoaderCollector(registry=registry, train=loader)
        assert "train" in generate_latest(registry).decode()

        def collect() -> None:
            assert "train" not in generate_latest(registry).decode()

        in_a_fork(collect)

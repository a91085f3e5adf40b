"""Options: arguments win over the environment, the environment over defaults; all are checked."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from fastloader.config import Config, make_config
from fastloader.errors import ConfigError

FULL_ENVIRONMENT = {
    "FASTLOADER_URL": "sqlite:////data/e.db",
    "FASTLOADER_TABLE": "t",
    "FASTLOADER_KEY": "k",
    "FASTLOADER_IMAGE": "i",
    "FASTLOADER_LABEL": "a, b:float32",
    "FASTLOADER_SIZE": "96x128",
    "FASTLOADER_BATCH_SIZE": "8",
    "FASTLOADER_WORKERS": "3",
    "FASTLOADER_SLOTS": "5",
    "FASTLOADER_ON_ERROR": "fill",
    "FASTLOADER_MAX_RESTARTS": "0",
    "FASTLOADER_DROP_REMAINDER": "yes",
    "FASTLOADER_WITH_KEYS": "1",
    "FASTLOADER_PREFETCH": "4",
    "FASTLOADER_MAX_PIXELS": "1000000",
}


def make(environ: dict[str, str] | None = None, **arguments: Any) -> Config:
    return make_config({"url": "x.db", **arguments}, environ or {})


def test_defaults() -> None:
    config = make()
    assert config.url == f"sqlite:///{Path.cwd()}/x.db"
    assert config.workers == len(os.sched_getaffinity(0))
    assert (config.table, config.query, config.label) == ("images", None, "label")


def test_every_option_has_a_variable() -> None:
    config = make_config({}, FULL_ENVIRONMENT)
    assert config == Config(
        url="sqlite:////data/e.db", table="t", query=None, key="k", image="i",
        label=("a", "b:float32"), size=(96, 128), batch_size=8, workers=3, slots=5,
        on_error="fill", max_restarts=0, drop_remainder=True, with_keys=True, prefetch=4,
        max_pixels=1_000_000,
    )  # fmt: skip
    assert make(environ={"FASTLOADER_QUERY": "SELECT 1"}).query == "SELECT 1"
    covered = {*FULL_ENVIRONMENT, "FASTLOADER_QUERY"}
    assert covered == {f"FASTLOADER_{f.name.upper()}" for f in dataclasses.fields(Config)}


def test_an_argument_wins_over_its_variable() -> None:
    config = make(FULL_ENVIRONMENT, batch_size=9, drop_remainder=False, label=None, workers=None)
    assert (config.batch_size, config.drop_remainder, config.label) == (9, False, None)
    assert config.workers == len(os.sched_getaffinity(0))
    assert config.slots == 5


def test_a_query_given_is_not_contradicted_by_a_table_in_the_environment() -> None:
    assert make({"FASTLOADER_TABLE": "t"}, query="SELECT 1").table is None
    assert make({"FASTLOADER_QUERY": "SELECT 1"}, table="t").query is None
    with pytest.raises(ConfigError, match="exclude each other"):
        make(query="SELECT 1", table="t")
    with pytest.raises(ConfigError, match="exclude each other"):
        make({"FASTLOADER_QUERY": "SELECT 1", "FASTLOADER_TABLE": "t"})
    with pytest.raises(ConfigError, match="neither a table nor a query"):
        make(table=None)


def test_none_and_auto_in_the_environment_are_none() -> None:
    config = make({"FASTLOADER_LABEL": "none", "FASTLOADER_WORKERS": "auto"})
    assert config.label is None
    assert config.workers > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "mysql://h/db"}, "url='mysql://h/db' names a database that is not supported yet"),
        ({"url": "sqlite://x.db"}, "needs three slashes"),
        ({"url": ":memory:"}, "use a file"),
        ({"url": ""}, "must be a URL or a path"),
        ({"url": 3}, "url=3 "),
        ({"size": 224}, r"size=224 must be \(height, width\)"),
        ({"size": (0, 224)}, "both from 1 to 65535"),
        ({"size": (224, 2.5)}, "both from 1 to 65535"),
        ({"batch_size": 0}, "batch_size=0 must be from 1"),
        ({"batch_size": "64"}, "batch_size='64' must be an integer"),
        ({"batch_size": True}, "batch_size=True must be an integer"),
        ({"workers": -1}, "workers=-1 must be from 0"),
        ({"slots": 1}, "slots=1 must be from 2"),
        ({"on_error": "ignore"}, 'must be "raise", "skip" or "fill"'),
        ({"max_restarts": -1}, "must be from 0"),
        ({"drop_remainder": 1}, "must be True or False"),
        ({"label": []}, "at least one column"),
        ({"label": ["a", "a:int32"]}, "none of them twice"),
        ({"label": "a:complex64"}, "no type for a label"),
        ({"key": ""}, "must be a name"),
        ({"colour": 1}, "no option 'colour'; there are url, table"),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_wanted(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("WORKERS", "two", "FASTLOADER_WORKERS='two' must be an integer"),
        ("BATCH_SIZE", "0", "FASTLOADER_BATCH_SIZE=0 must be from 1"),
        ("SIZE", "224", "FASTLOADER_SIZE"),
        ("SIZE", "axb", "must be HEIGHTxWIDTH"),
        ("WITH_KEYS", "maybe", "FASTLOADER_WITH_KEYS='maybe' must be 1 or 0"),
        ("ON_ERROR", "ignore", "FASTLOADER_ON_ERROR='ignore' must be"),
    ],
)
def test_a_wrong_variable_is_named_with_what_is_wanted(
    variable: str, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make({f"FASTLOADER_{variable}": text})


def test_without_a_database_the_error_says_how_to_name_one() -> None:
    with pytest.raises(ConfigError, match="set FASTLOADER_URL"):
        make_config({}, {})


def test_a_config_survives_the_pipe() -> None:
    config = make_config({}, FULL_ENVIRONMENT)
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config


def test_relative_and_absolute_urls_are_paths() -> None:
    assert make(url="sqlite:///a/b.db").url == f"sqlite:///{Path.cwd()}/a/b.db"
    assert make(url="sqlite:////a/b.db").url == "sqlite:////a/b.db"
    assert make(url=Path("/a/b.db")).url == "sqlite:////a/b.db"

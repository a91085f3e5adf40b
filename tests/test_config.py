"""Options: arguments win over the environment, the environment over defaults; all are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastloader
from fastloader.errors import ConfigError
from fastloader.fields.columns import Column
from fastloader.options.config import Config, make_config
from fastloader.options.url import DatabaseUrl, parse_dsn, parse_url
from fastloader.system import machine
from fastloader.transport.serial import pack, unpack

FULL_ENVIRONMENT = {
    "FASTLOADER_URL": "sqlite:////data/e.db",
    "FASTLOADER_TABLE": "t",
    "FASTLOADER_WHERE": "a < $1 AND b = $2",
    "FASTLOADER_PARAMS": '[3, "x"]',
    "FASTLOADER_SPLIT": "0.5:",
    "FASTLOADER_SPLIT_BY": "g",
    "FASTLOADER_KEY": "k",
    "FASTLOADER_IMAGE": "i",
    "FASTLOADER_LABEL": "a, b:float32",
    "FASTLOADER_SIZE": "96x128",
    "FASTLOADER_BATCH_SIZE": "8",
    "FASTLOADER_WORKERS": "3",
    "FASTLOADER_SLOTS": "5",
    "FASTLOADER_ON_ERROR": "fill",
    "FASTLOADER_TRANSFORM_TIMEOUT_S": "7.5",
    "FASTLOADER_MAX_RESTARTS": "0",
    "FASTLOADER_DROP_REMAINDER": "yes",
    "FASTLOADER_WITH_KEYS": "1",
    "FASTLOADER_EPOCH_ROWS": "1000",
    "FASTLOADER_PREFETCH": "4",
    "FASTLOADER_MAX_PIXELS": "1000000",
    "FASTLOADER_MAX_BLOB_BYTES": "5000",
    "FASTLOADER_FETCH_BYTES": "70000",
    "FASTLOADER_CONSISTENCY": "latest",
    "FASTLOADER_STALL_TIMEOUT_S": "2.5",
    "FASTLOADER_RECONNECT_TIMEOUT_S": "4",
    "FASTLOADER_SIMD": "portable",
    "FASTLOADER_WORKER_IMPORTS": "a.b, c",
    "FASTLOADER_CHANNELS": "1",
    "FASTLOADER_FIT": "random_crop",
    "FASTLOADER_CROP_FRACTION": "0.875",
    "FASTLOADER_SCALE": "0.25, 1",
    "FASTLOADER_RATIO": "0.5,2",
    "FASTLOADER_FLIP": "1",
    "FASTLOADER_SHUFFLE": "1",
    "FASTLOADER_SHUFFLE_BLOCK": "8",
    "FASTLOADER_SHARD": "1/8",
    "FASTLOADER_DETERMINISTIC": "0",
    "FASTLOADER_SAMPLE_WEIGHT": "w:float32",
    "FASTLOADER_SEED": "18446744073709551615",
    "FASTLOADER_FILTER": "lanczos",
    "FASTLOADER_ORIENTATION": "0",
    "FASTLOADER_QUALITY": "fast",
    "FASTLOADER_BACKGROUND": "255,0,7",
    "FASTLOADER_LAYOUT": "NCHW",
    "FASTLOADER_DTYPE": "float16",
    "FASTLOADER_MEAN": "0.485,0.456,0.406",
    "FASTLOADER_STD": "0.25",
    "FASTLOADER_STRICT": "true",
    "FASTLOADER_MAX_SCANS": "7",
    "FASTLOADER_MAX_CHUNKS": "70",
    "FASTLOADER_TRACE": "trace.json",
    "FASTLOADER_CACHE_SIZE": "40x50",
}


def make(environ: dict[str, str] | None = None, **arguments: Any) -> Config:
    return make_config({"url": "x.db", **arguments}, environ or {})


def test_defaults() -> None:
    config = make()
    assert config.url == f"sqlite:///{Path.cwd()}/x.db"
    assert config.workers == machine.cores()
    assert (config.table, config.query, config.label) == ("images", None, "label")


def test_image_names_one_column_or_several_in_order() -> None:
    assert make().images == (fastloader.Image("image_data"),)
    assert (make(image="i").image, make(image="i").image_columns) == ("i", ("i",))
    for given in (["right", "left"], ("right", "left")):
        config = make(image=given)
        assert (config.image, config.image_columns) == (("right", "left"), ("right", "left"))
        assert unpack(pack(config), Config) == config
    assert make(image=["i"]).image_columns == ("i",)
    assert make({"FASTLOADER_IMAGE": "left, right"}).image == ("left", "right")
    assert make({"FASTLOADER_IMAGE": "none"}).image is None


def test_every_option_has_a_variable() -> None:
    config = make_config({}, FULL_ENVIRONMENT)
    assert config == Config(
        url=DatabaseUrl("sqlite:////data/e.db"), table="t", query=None,
        where="a < $1 AND b = $2", params=(3, "x"), split="0.5:",
        split_by="g", key="k", image="i",
        label=("a", "b:float32"), size=(96, 128), batch_size=8, workers=3, slots=5,
        on_error="fill", transform_timeout_s=7.5, max_restarts=0, drop_remainder=True,
        with_keys=True, prefetch=4, epoch_rows=1000,
        max_pixels=1_000_000, max_blob_bytes=5000, fetch_bytes=70000, consistency="latest",
        stall_timeout_s=2.5, reconnect_timeout_s=4.0, simd="portable", channels=1,
        fit="random_crop", crop_fraction=0.875, scale=(0.25, 1.0), ratio=(0.5, 2.0), flip=True,
        shuffle=True, shuffle_block=8, shard=(1, 8), deterministic=False, sample_weight="w:float32",
        seed=2**64 - 1, filter="lanczos", orientation=False, quality="fast",
        background=(255, 0, 7), layout="NCHW", dtype="float16", mean=(0.485, 0.456, 0.406),
        std=(0.25, 0.25, 0.25), strict=True, max_scans=7, max_chunks=70, trace="trace.json",
        cache_size=(40, 50), worker_imports=("a.b", "c"),
    )  # fmt: skip
    assert make(environ={"FASTLOADER_QUERY": "SELECT 1"}).query == "SELECT 1"
    # Nor can there be a cache of what is read as it is.
    cached = make(environ={"FASTLOADER_CACHE": "kept", "FASTLOADER_CACHE_BYTES": "1000"})
    assert (cached.cache, cached.cache_bytes) == ("kept", 1000)
    # Hosts with a shard cannot follow a table.
    assert make(environ={"FASTLOADER_FOLLOW": "epoch"}).follow == "epoch"
    # A field says what an image is, in place of the image options.
    covered = {
        *FULL_ENVIRONMENT,
        "FASTLOADER_FIELDS",
        "FASTLOADER_QUERY",
        "FASTLOADER_SAMPLING",  # tests/test_sampling_plan.py
        "FASTLOADER_FOLLOW",
        "FASTLOADER_TRANSFORM",  # tests/test_transforms.py
        "FASTLOADER_CACHE_TRANSFORMED",
        "FASTLOADER_TRANSFORM_VERSION",
        "FASTLOADER_CACHE",
        "FASTLOADER_CACHE_BYTES",
    }
    assert covered == {f"FASTLOADER_{f.name.upper()}" for f in dataclasses.fields(Config)}


def test_an_argument_wins_over_its_variable() -> None:
    config = make(
        FULL_ENVIRONMENT, batch_size=9, drop_remainder=False, label=None, sample_weight=None,
        workers=None,
    )  # fmt: skip
    assert (config.batch_size, config.drop_remainder, config.label) == (9, False, None)
    assert config.workers == machine.cores()
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
        ({"url": "mysql://h/db"}, "url names a database that is not supported: mysql"),
        ({"url": "sqlite://x.db"}, "needs three slashes"),
        ({"url": ":memory:"}, "use a file"),
        ({"url": ""}, "must be a URL or a path"),
        ({"url": 3}, "url=3 "),
        ({"channels": 2}, r"channels=2 must be 3 \(RGB\) or 1 \(luma\)"),
        ({"fit": "squash"}, '"stretch", "crop", "pad" or "random_crop"'),
        ({"crop_fraction": 0}, "crop_fraction=0 must be more than 0 and up to 1"),
        ({"scale": (0.5, 0.1)}, r"scale=\(0.5, 0.1\) must be \(least, greatest\) share"),
        ({"scale": (0.5, 1.1)}, "up to 1"),
        ({"scale": 0.5}, r"must be \(least, greatest\) share"),
        ({"ratio": (0, 1)}, "from 0.001 to 1000"),
        ({"seed": -1}, "seed=-1 must be from 0"),
        ({"seed": {"image_data": 1}}, "seed=.* must be an integer"),
        ({"shuffle": 1}, "shuffle=1 must be True or False"),
        ({"shuffle_block": 0}, "shuffle_block=0 must be from 1"),
        ({"shard": (8, 8)}, r"shard=\(8, 8\) must be \(index, count\) with an index from 0"),
        ({"shard": (-1, 8)}, r"must be \(index, count\)"),
        ({"shard": (0, 0)}, r"must be \(index, count\)"),
        ({"shard": 3}, r"must be \(index, count\)"),
        ({"shard": "1/8"}, r"must be \(index, count\)"),
        ({"sample_weight": "label"}, "sample_weight='label' is a label column already"),
        ({"sample_weight": "w", "label": None}, "sample_weight needs a label"),
        ({"sample_weight": "w:text"}, "must be a column of numbers"),
        ({"background": (0, 0)}, "each from 0 to 255"),
        ({"background": (0, 0, 256)}, "each from 0 to 255"),
        ({"background": "red"}, "each from 0 to 255"),
        ({"dtype": "int8"}, '"uint8", "float32", "float16" or "bfloat16"'),
        ({"mean": (123.7, 116.8, 103.9)}, "levels are divided by 255 first"),
        ({"std": 0}, "levels are divided by 255 first"),
        ({"std": (0.2, float("nan"), 0.2)}, "levels are divided by 255 first"),
        (
            {"size": {"img": (2, 2)}},
            "'img', which is not an image column; .* are 'image_data'",
        ),
        ({"size": {"image_data": 7}}, r"size=.* must be \(height, width\)"),
        ({"size": 224}, r"size=224 must be \(height, width\).* a square, write \(224, 224\)"),
        ({"size": (0, 224)}, "both from 1 to 65535"),
        ({"size": (224, 2.5)}, "both from 1 to 65535"),
        ({"batch_size": 0}, "batch_size=0 must be from 1"),
        ({"batch_size": "64"}, "batch_size='64' must be an integer"),
        ({"batch_size": True}, "batch_size=True must be an integer"),
        ({"workers": -1}, "workers=-1 must be from 0"),
        ({"slots": 1}, "slots=1 must be from 2"),
        ({"on_error": "ignore"}, 'must be "raise", "skip" or "fill"'),
        ({"max_restarts": -1}, "must be from 0"),
        ({"consistency": "eventual"}, 'must be "snapshot" or "latest"'),
        ({"stall_timeout_s": 0}, "stall_timeout_s=0 must be a number of seconds, more than 0"),
        ({"reconnect_timeout_s": "5"}, "must be a number of seconds"),
        ({"fetch_bytes": 0}, "fetch_bytes=0 must be from 1"),
        ({"max_blob_bytes": 2**31}, "must be from 1 to 1073741824"),
        ({"drop_remainder": 1}, "must be True or False"),
        ({"label": []}, "at least one column"),
        ({"label": ["a", "a:int32"]}, "none of them twice"),
        ({"label": "a:complex64"}, "'complex64' cannot be the type of a label"),
        ({"key": ""}, "must be a name"),
        ({"image": ""}, "image='' must be a name"),
        ({"image": None, "label": None}, "nothing to deliver: name an image, fields or a label"),
        ({"image": []}, r"image=\[\] must name at least one column"),
        ({"image": ["a", "b", "a"]}, "none of them twice"),
        ({"image": ["a", ""]}, r"image=\['a', ''\] must be a name"),
        ({"image": ["a", 3]}, "must be a name"),
        ({"image": {"a", "b"}}, "must be a name"),
        ({"colour": 1}, "there is no option 'colour'; the options are url, table"),
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
        ("SIZE", "224", "FASTLOADER_SIZE='224' must be HEIGHTxWIDTH: write 224x224"),
        ("SIZE", "axb", "must be HEIGHTxWIDTH"),
        ("SCALE", "small", "FASTLOADER_SCALE='small' must be 2 numbers with commas between them"),
        ("MEAN", "1,2", "FASTLOADER_MEAN=.* must be a number, or one for each"),
        ("WITH_KEYS", "maybe", "FASTLOADER_WITH_KEYS='maybe' must be 1 or 0"),
        ("IMAGE", "a,,b", r"FASTLOADER_IMAGE=\['a', '', 'b'\] must be a name"),
        ("IMAGE", "a,a", "none of them twice"),
        ("ON_ERROR", "ignore", "FASTLOADER_ON_ERROR='ignore' must be"),
        ("STALL_TIMEOUT_S", "soon", "FASTLOADER_STALL_TIMEOUT_S='soon' must be a number"),
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
    assert unpack(pack(config), Config) == config


def test_relative_and_absolute_urls_are_paths() -> None:
    assert make(url="sqlite:///a/b.db").url == f"sqlite:///{Path.cwd()}/a/b.db"
    assert make(url="sqlite:////a/b.db").url == "sqlite:////a/b.db"
    assert make(url=Path("/a/b.db")).url == "sqlite:////a/b.db"


# ---- where the database is -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://u:hunter2@h:5433/db", "postgresql://u@h:5433/db"),
        ("postgres://u:hunter2@h/db", "postgresql://u@h/db"),
        ("postgresql+psycopg2://u:hunter2@h/db?sslmode=require", "postgresql://u@h/db"),
        ("postgresql://u:p%40hunter2@h1:1,h2:2/db", "postgresql://u@h1,h2:1,2/db"),
        ("postgresql://u:hunter2:x@[::1]:5/db", "postgresql://u@::1:5/db"),
        ("postgresql:///db?host=/run/pg&password=hunter2", "postgresql://%2Frun%2Fpg/db"),
        ("postgresql://", "postgresql:///"),
        ("host=h dbname=db user=u password='hunter2 and more'", "postgresql://u@h/db"),
        (" dbname = db", "postgresql:///db"),
        ("service=train password=hunter2", "postgresql:///?service=train"),
        ("postgresql://h/db?sslpassword=hunter2", "postgresql://h/db"),
    ],
)
def test_a_url_of_postgresql_shows_no_password_and_keeps_it_for_libpq(
    given: str, shown: str
) -> None:
    url = parse_url(given)
    assert str(url) == shown.replace("%2F", "/")
    assert ("hunter2" in url.secret) == ("hunter2" in given)
    config = make(url=given)
    for text in (repr(config), str(config), f"{config.url}", repr(config.url)):
        assert "hunter2" not in text
    again = unpack(pack(config), Config)
    assert again == config
    assert again.url.secret == config.url.secret


@pytest.mark.parametrize(
    "given",
    [
        "postgresql://u:hunter2@2@h/db",
        "postgresql://u:hunter/2@h/db",
        "postgresql://u:hunt/er2@h:5/db",
        "host=h password=my hunter2",
        "host=h password='hunter2",
        "host=h passwd=hunter2",
        "postgresql://h/db?passwd=hunter2",
        "postgresql://u:hunter2%zz@h/db",
        "redis://u:hunter2@h/db",
    ],
)
@pytest.mark.parametrize("from_environment", [False, True])
def test_a_url_that_cannot_be_read_is_refused_without_showing_any_of_it(
    given: str, from_environment: bool
) -> None:
    with pytest.raises(ConfigError) as caught:
        if from_environment:
            make_config({}, {"FASTLOADER_URL": given})
        else:
            make(url=given)
    assert "hunt" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_file_whose_name_looks_like_a_dsn_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dbname=x.db").touch()
    assert make(url="dbname=x.db").url == f"sqlite:///{tmp_path}/dbname=x.db"
    assert make(url=Path("host=h")).url == f"sqlite:///{tmp_path}/host=h"


def test_connecting_is_given_up_after_the_stall_timeout_unless_the_user_says_when() -> None:
    def timeout(url: str, environ: dict[str, str]) -> str | None:
        secret = make(environ, url=url, stall_timeout_s=7.0).url.secret
        return parse_dsn(secret).get("connect_timeout")

    assert timeout("postgresql://h/db", {}) == "7"
    assert timeout("postgresql://h/db?connect_timeout=3", {}) == "3"
    assert timeout("postgresql://h/db", {"PGCONNECT_TIMEOUT": "3"}) is None
    assert timeout("service=s", {}) is None


def test_image_options_are_one_for_all_columns_or_one_for_each() -> None:
    config = make(
        image=["left", "depth"],
        size={"left": (32, 48), "depth": (16, 24)},
        channels={"depth": 1},
        layout="NCHW",
        dtype={"left": np.float32},
    )
    left, depth = config.images
    assert (left.size, depth.size) == ((32, 48), (16, 24))
    assert (left.channels, depth.channels) == (3, 1)
    assert left.layout == depth.layout == "NCHW"
    assert left.delivered("left") == Column("left", "float32", (3, 32, 48))
    assert depth.delivered("depth") == Column("depth", "uint8", (1, 16, 24))
    assert unpack(pack(config), Config) == config


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32")])
def test_a_dtype_may_be_given_as_frameworks_call_it(dtype: Any) -> None:
    assert make(dtype=dtype).dtype == "float32"


def test_numbers_may_come_as_arrays() -> None:
    assert make(mean=np.array([0.25, 0.5, 0.75])).mean == (0.25, 0.5, 0.75)
    assert make(std=np.float32(0.5)).std == (0.5, 0.5, 0.5)
    assert make(mean=[np.float32(0.5)] * 3).mean == (0.5, 0.5, 0.5)
    assert make(crop_fraction=np.float64(0.5), flip=np.True_).flip is True
    assert make(channels=np.int64(1)).channels == 1


def test_a_shard_may_be_whatever_knows_it() -> None:
    class InputContext:  # of tf.distribute, without TensorFlow
        input_pipeline_id, num_input_pipelines = 2, 5

    assert make(shard=InputContext()).shard == (2, 5)
    assert make(shard=None).shard == (0, 1)
    assert make(shard=np.array([3, 4])).shard == (3, 4)
    with pytest.raises(ConfigError, match="FASTLOADER_SHARD='8' must be INDEX/COUNT, with INDEX"):
        make({"FASTLOADER_SHARD": "8"})
    with pytest.raises(ConfigError, match=r"FASTLOADER_SHARD=\(8, 8\) must be"):
        make({"FASTLOADER_SHARD": "8/8"})


def test_worker_imports_are_names_of_modules_in_order() -> None:
    assert make().worker_imports == ()
    assert make(worker_imports=None).worker_imports == ()
    assert make(worker_imports="a.b").worker_imports == ("a.b",)
    config = make(worker_imports=["b", "a", "b"])
    assert config.worker_imports == ("b", "a")
    assert unpack(pack(config), Config) == config
    assert make({"FASTLOADER_WORKER_IMPORTS": "a"}).worker_imports == ("a",)


@pytest.mark.parametrize("given", ["", "a b", "a.", "./a.py", ["a", 3], 3, {"a"}])
def test_what_is_no_name_of_a_module_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match="worker_imports=.* must be the name of a module"):
        make(worker_imports=given)


def test_the_main_module_cannot_be_imported_by_workers() -> None:
    with pytest.raises(ConfigError, match="cannot be __main__, which only this process has"):
        make(worker_imports="__main__")

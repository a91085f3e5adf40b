"""A table through Ray Data, on a real cluster of three nodes on this machine."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.on_ray import cluster_of
from fastloader import (
    Array,
    Bytes,
    Category,
    ConfigError,
    FastLoader,
    FastloaderWarning,
    Field,
    Image,
    Json,
    PlanError,
    RowError,
    SourceError,
    Text,
    per_row,
)

from . import small_transforms as functions
from .conftest import Either
from .ray_rows import check_equal, in_order, loaded, rows_of
from .servers.postgres import PASSWORD, Database, lock
from .support import jpeg, photos, simple_rows, table, unpacked, wait_until
from .tiers import full

ray = pytest.importorskip("ray", reason="no Ray: fastloader.adapters.ray is not tested")
pytest.importorskip("ray.data", reason="no Ray Data: fastloader.adapters.ray is not tested")

from ray.cluster_utils import Cluster  # noqa: E402

from fastloader.adapters.ray import NOT_HERE, read  # noqa: E402  # an error without Ray

pytestmark = [
    full,
    pytest.mark.ray,
    # Warnings of Ray and of the packages that it brings along are not about this package.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("error::fastloader.FastloaderWarning"),
]

SMALL: dict[str, Any] = {"size": (16, 24), "with_keys": True}
KEYS = list(range(3, 301, 3))
NODE = {"num_cpus": 1, "object_store_memory": 200 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a cluster of three nodes with a core each; this process is on the first."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with cluster_of(3, object_store_memory=NODE["object_store_memory"]) as cluster:
            logging.getLogger("ray").propagate = False  # or a failure shows pages of it
            yield cluster


@pytest.fixture(autouse=True)
def on_the_cluster(cluster: Cluster) -> None:
    """Run every test of this file on the cluster."""


# ---- rows ----------------------------------------------------------------------------------------


def test_every_row_is_there_once_with_the_loaders_pixels(either: Either) -> None:
    url = either.table(simple_rows(500))
    dataset = read(url, **SMALL)
    check_equal(rows_of(dataset), loaded(url, **SMALL))
    assert dataset.count() == 500


def test_functions_of_rows_make_what_they_make_in_a_loader(either: Either) -> None:
    url = either.table(simple_rows(100))
    steps = [functions.jitter, functions.mean, per_row(functions.drop_thirds, drops=True)]
    options: dict[str, Any] = {**SMALL, "transform": steps}
    rows = read(url, **options).take_all()
    found = {row["id"]: (row["image_data"].tobytes(), row["mean"]) for row in rows}
    assert len(rows) == len(found) == 66
    with FastLoader(url, **options, workers=0) as loader:
        for x, _ in loader:
            values = zip(x["id"].tolist(), x["image_data"], x["mean"].tolist(), strict=True)
            assert all(found[key] == (image.tobytes(), mean) for key, image, mean in values)
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        read(url, **SMALL, transform=functions.fails).materialize()
    assert "fails raised ValueError: no such label" in str(caught.value)


def test_values_of_any_size_are_lists_text_and_bytes(either: Either) -> None:
    columns = "id INTEGER PRIMARY KEY, tokens BYTEA, meta TEXT, breed TEXT"
    tokens = {key: np.arange(key % 9, dtype=np.int32) for key in range(1, 101)}
    url = either.table(
        [(key, its.tobytes(), f'{{"a": {key}}}', f"b{key % 3}") for key, its in tokens.items()],
        columns=columns,
    )
    fields: dict[str, Field] = {
        "tokens": Array(dtype="int32", ragged=True),
        "boxes": Array("tokens", dtype="uint8", ragged=True, shape=(2, 2)),
        "scan": Bytes("tokens"),
        "meta": Json(),
        "text": Text("meta"),
        "breed": Category(),
    }
    dataset = read(url, fields=fields, with_keys=True)
    rows = dataset.take_all()
    assert sorted(row["id"] for row in rows) == [*tokens]
    for row in rows:
        key, its = row["id"], tokens[row["id"]]
        assert list(row["tokens"]) == its.tolist()
        assert np.array(list(map(list, row["boxes"]))).tolist() in (
            its.view(np.uint8).reshape(-1, 2, 2).tolist(),
            [[[*half] for half in item] for item in its.view(np.uint8).reshape(-1, 2, 2).tolist()],
        )
        assert row["scan"] == its.tobytes()
        assert row["meta"] == row["text"] == f'{{"a": {key}}}'
        assert row["breed"] == (key - 1) % 3


def test_tasks_read_files_and_name_a_folder_that_their_node_lacks(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        (folder / f"{i}.jpg").write_bytes(jpeg(seed=i))
    columns = "id INTEGER PRIMARY KEY, path TEXT, label INTEGER"
    rows = [(i, f"{i}.jpg", i) for i in range(20)]
    url = table(tmp_path / "t.db", rows, columns=columns)
    fields = {"image_data": Image("path", files=folder, size=(16, 24))}
    options: dict[str, Any] = {"fields": fields, "label": "label", "with_keys": True}
    dataset = read(url, **options)
    check_equal(rows_of(dataset), loaded(url, **options))
    folder.rename(tmp_path / "moved")
    with pytest.raises(ray.exceptions.RayTaskError) as caught:
        rows_of(dataset)
    assert f"files='{folder}': cannot open this folder on {os.uname().nodename}" in str(
        caught.value
    )


@pytest.mark.parametrize("blocks", [1, 7, 1000])
def test_any_number_of_blocks(small: str, blocks: int) -> None:
    dataset = read(small, **SMALL, override_num_blocks=blocks)
    check_equal(rows_of(dataset), loaded(small, **SMALL))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_types_and_layouts(small: str, dtype: str, layout: str) -> None:
    options = {**SMALL, "dtype": dtype, "layout": layout, "channels": 1}
    rows = rows_of(read(small, **options))
    assert rows["image_data"].dtype == dtype
    check_equal(rows, loaded(small, **options))


def test_columns_are_called_as_in_the_table(tmp_path: Path) -> None:
    vector = np.arange(3, dtype=np.float32)
    rows = [(i, jpeg(seed=i), jpeg(seed=50 + i), f"näme {i}", vector.tobytes(), i % 2, i / 2)
            for i in range(10)]  # fmt: skip
    columns = "k INTEGER PRIMARY KEY, left BLOB, right BLOB, t TEXT, v BLOB, b BOOL, w REAL"
    url = table(tmp_path / "t.db", rows, columns=columns, name="pairs")
    dataset = read(
        url, table="pairs", key="k", image=["left", "right"], label=["t", "v:float32", "b"],
        size={"left": (16, 24), "right": (8, 8)}, sample_weight="w", with_keys=True,
    )  # fmt: skip
    names = ["left", "right", "t", "v", "b", "w", "k"]
    assert dataset.schema().names == names
    found = rows_of(dataset)
    assert list(found) == names
    order = np.argsort(found["k"])
    assert found["left"].shape == (10, 16, 24, 3)
    assert found["right"].shape == (10, 8, 8, 3)
    assert found["t"][order].tolist() == [f"näme {i}" for i in range(10)]
    assert found["v"].tolist() == [[0, 1, 2]] * 10
    assert found["b"][order].tolist() == [False, True] * 5
    assert found["w"][order].tolist() == [i / 2 for i in range(10)]


def test_keys_of_text(database: Database) -> None:
    rows = [(f"k{i}", jpeg(seed=i), i) for i in range(20)]
    url = database.table(rows, columns="id text PRIMARY KEY, image_data bytea, label int8")
    check_equal(rows_of(read(url, **SMALL)), loaded(url, **SMALL))


@pytest.mark.parametrize("options", [{"shuffle": True, "shuffle_block": 8}, {}])
def test_each_execution_is_the_loaders_next_epoch(small: str, options: dict[str, Any]) -> None:
    options = {**SMALL, **options, "fit": "random_crop", "flip": True, "seed": 5}
    dataset = in_order(read(small, **options, override_num_blocks=5))
    epochs = [rows_of(dataset) for _ in range(2)]
    for epoch, rows in enumerate(epochs):
        images, labels, keys = loaded(small, epoch, **options)
        np.testing.assert_array_equal(rows["id"], keys)
        np.testing.assert_array_equal(rows["label"], labels)
        np.testing.assert_array_equal(rows["image_data"], images)
    assert (epochs[0]["image_data"] != epochs[1]["image_data"]).any()
    later = rows_of(in_order(read(small, **options, epoch=1)))
    np.testing.assert_array_equal(later["image_data"], epochs[1]["image_data"])


@pytest.mark.parametrize(
    ("missing", "options"), [("counter", {"shuffle": True}), ("context", {"flip": True})]
)
def test_a_ray_that_does_not_count_executions_is_a_warning(
    small: str, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], missing: str
) -> None:
    """A later version of Ray might have no such counter, or not pass it to a datasource."""

    def get_read_tasks(self: Any, parallelism: int) -> Any: ...

    if missing == "counter":
        monkeypatch.delattr(ray.data.DataContext.get_current(), "_execution_idx")
    else:
        monkeypatch.setattr(ray.data.Datasource, "get_read_tasks", get_read_tasks)
    with pytest.warns(FastloaderWarning, match=r"every execution is epoch 3 .*epoch=N") as caught:
        dataset = read(small, **SMALL, **options, epoch=3)
    assert caught[0].filename == __file__
    assert ray.__version__ in str(caught[0].message)
    assert dataset.count() == 100
    # A warning would be an error: here each epoch is the same anyway.
    read(small, **SMALL)


def test_what_ray_offers_works(small: str) -> None:
    images, labels, keys = loaded(small, **SMALL)
    dataset = read(small, **SMALL)
    assert dataset.take(1)[0]["image_data"].shape == (16, 24, 3)
    assert dataset.limit(30).count() == 30
    assert len(dataset.limit(30).take_all()) == 30
    doubled = dataset.map_batches(lambda batch: {"two": batch["label"] * 2})
    assert sorted(rows_of(doubled)["two"].tolist()) == (labels * 2).tolist()
    assert sorted(rows_of(dataset.random_shuffle())["id"].tolist()) == keys.tolist()
    assert rows_of(dataset.sort("id"))["image_data"].shape == images.shape
    parts = dataset.streaming_split(2, equal=True)
    assert len(parts) == 2
    assert dataset.materialize().count() == 100
    assert "secret" not in repr(dataset)


def test_torch_and_tensorflow_get_tensors(small: str) -> None:
    torch = pytest.importorskip("torch")
    dataset = read(small, **SMALL, layout="NCHW")
    for batch in dataset.iter_torch_batches(batch_size=25):
        assert batch["image_data"].shape == (25, 3, 16, 24)
        assert batch["image_data"].dtype == torch.uint8
    pairs = dataset.to_tf("image_data", "label", batch_size=50)
    for images, _ in pairs:
        assert images.shape == (50, 3, 16, 24)


def test_tasks_take_what_they_are_given(small: str) -> None:
    dataset = read(small, **SMALL, concurrency=1, ray_remote_args={"num_cpus": 0.5})
    dataset = dataset.map_batches(_with_cpus, batch_size=None, num_cpus=0.5)
    assert set(rows_of(dataset)["cpus"].tolist()) == {0.5}


def _with_cpus(batch: dict[str, Any]) -> dict[str, Any]:
    cpus = ray.get_runtime_context().get_assigned_resources()["CPU"]
    return {"cpus": np.full(len(batch["id"]), cpus)}


# ---- nodes that die ------------------------------------------------------------------------------


def test_a_node_killed_in_the_middle_loses_and_doubles_nothing(
    cluster: Cluster, tmp_path: Path
) -> None:
    blobs = [path.read_bytes() for path in photos(40)] or [
        jpeg(300, 200, seed=i) for i in range(40)
    ]
    url = table(tmp_path / "t.db", [(i, blobs[i % len(blobs)], i * 2) for i in range(1600)])
    options = {"with_keys": True, "size": (224, 224)}
    dataset = read(url, **options, override_num_blocks=80)
    where = dataset.map_batches(_with_node, batch_size=None)
    seen: dict[int, bytes] = {}
    nodes: list[str] = []
    victim = None
    for batch in where.iter_batches(batch_size=20, batch_format="numpy", prefetch_batches=0):
        nodes += batch["node"].tolist()
        for key, label, image in zip(batch["id"], batch["label"], batch["image_data"], strict=True):
            assert key not in seen, "a row came twice"
            assert label == key * 2
            seen[int(key)] = image.tobytes()
        others = {node.node_id: node for node in cluster.worker_nodes}
        worked = [node for node in nodes if node in others]
        if victim is None and worked and len(seen) >= 100:
            victim = worked[-1]
            cluster.remove_node(others[victim], allow_graceful=False)
            before = len(seen)
    assert victim is not None, "no other node has done anything"
    cluster.add_node(**NODE)
    assert before < 1000, "it was the middle"
    assert len(seen) == 1600
    assert len(set(nodes)) > 1
    with FastLoader(url, workers=0, **options) as loader:
        for images, _, keys in unpacked(loader):
            for image, key in zip(images, keys, strict=True):
                assert seen[int(key)] == image.tobytes()


def _with_node(batch: dict[str, Any]) -> dict[str, Any]:
    node = ray.get_runtime_context().get_node_id()
    return {**batch, "node": np.array([node] * len(batch["id"]))}


# ---- rows that change ----------------------------------------------------------------------------


def connections(database: Database) -> int:
    return database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND application_name LIKE %s",
        (database.name, "fastloader%"),
    )[0][0]


def test_every_execution_sees_the_table_as_it_was(database: Database) -> None:
    url = database.table(simple_rows(200))
    expected = loaded(url, **SMALL)
    dataset, latest = read(url, **SMALL), read(url, **SMALL, consistency="latest")
    database.execute("UPDATE images SET label = -1")
    database.execute("INSERT INTO images SELECT id + 1000, image_data, label FROM images")
    for _ in range(2):
        check_equal(rows_of(dataset), expected)
    assert rows_of(latest)["label"].tolist() == [-1] * 200
    assert connections(database) == 1, "that of the snapshot"
    copy = dataset.map_batches(lambda batch: batch)
    del dataset
    check_equal(rows_of(copy), expected)
    del copy, latest
    gc.collect()  # Ray's datasets are in reference cycles
    wait_until(lambda: connections(database) == 0, timeout_s=30)


def test_a_password_does_not_show(cluster: Cluster, database: Database) -> None:
    lock(database.cluster)
    url = database.table(simple_rows(50))
    database.execute("GRANT SELECT ON images TO locked")
    given = f"postgresql://locked:{PASSWORD}@127.0.0.1:{database.cluster.port}/{database.name}"
    dataset = read(given, **SMALL)
    check_equal(rows_of(dataset), loaded(url, **SMALL))
    database.execute("UPDATE images SET image_data = 'nonsense' WHERE id = 30")
    with pytest.raises(Exception, match="unknown image format") as caught:
        rows_of(read(given, **SMALL))
    said = [repr(dataset), str(dataset), dataset.stats(), str(caught.value), repr(caught.value)]
    logs = Path(cluster.head_node.get_session_dir_path()) / "logs"
    said += [path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file()]
    assert not any(PASSWORD in text for text in said)


# ---- what is wrong -------------------------------------------------------------------------------


def with_bad_rows(path: Path) -> str:
    rows = [(i, b"nonsense" if i % 40 == 7 else blob, label) for i, blob, label in simple_rows(200)]
    return table(path, rows)


def causes(error: BaseException | None) -> list[type]:
    found = []
    while error is not None:
        found += [type(error), type(getattr(error, "cause", None))]
        error = error.__cause__
    return found


def test_a_bad_row_is_a_row_error(tmp_path: Path) -> None:
    dataset = read(with_bad_rows(tmp_path / "t.db"), **SMALL, override_num_blocks=1)
    with pytest.raises(Exception, match="row with key 7: unknown image format") as caught:
        rows_of(dataset)
    assert any(issubclass(kind, RowError) for kind in causes(caught.value))


@pytest.mark.parametrize("on_error", ["skip", "fill"])
def test_bad_rows_are_left_out_or_filled(tmp_path: Path, on_error: str) -> None:
    url = with_bad_rows(tmp_path / "t.db")
    options = {**SMALL, "on_error": on_error}
    dataset = read(url, **options)
    expected = loaded(url, **options)
    check_equal(rows_of(dataset), expected)
    assert dataset.count() == len(expected[2])


def test_a_file_that_a_node_does_not_have(small: str) -> None:
    dataset = read(small, **SMALL)
    os.rename(small, small + ".away")
    with pytest.raises(Exception, match="no such file on node .* Every node") as caught:
        rows_of(dataset)
    assert any(issubclass(kind, SourceError) for kind in causes(caught.value))


def test_a_file_that_was_replaced_is_not_read(small: str, tmp_path: Path) -> None:
    dataset = read(small, **SMALL)
    os.rename(table(tmp_path / "new.db", simple_rows(100, gap=3)), small)
    with pytest.raises(Exception, match="the file was replaced by another one") as caught:
        rows_of(dataset)
    assert any(issubclass(kind, SourceError) for kind in causes(caught.value))


def test_mistakes_are_errors_at_once(small: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        read(tmp_path / "nothing.db")
    with pytest.raises(SourceError, match="nothing"):
        read(small, table="nothing")
    with pytest.raises(PlanError, match="there are no rows"):
        read(table(tmp_path / "empty.db", []))
    with pytest.raises(ConfigError, match="no option 'sizes'"):
        read(small, sizes=3)
    with pytest.raises(ConfigError, match="not a type of Arrow"):
        read(small, dtype="bfloat16")


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_is_rays_business_is_refused_with_advice(small: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} is not for Ray: "):
        read(small, **{name: 1})


def test_the_environment_is_that_of_the_driver(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTLOADER_URL", small)
    monkeypatch.setenv("FASTLOADER_SIZE", "10,12")
    monkeypatch.setenv("FASTLOADER_CACHE", "ram")
    monkeypatch.setenv("FASTLOADER_SHARD", "1/3")
    rows = rows_of(read(with_keys=True))
    assert rows["image_data"].shape == (100, 10, 12, 3)


def test_notes_about_the_table_are_warnings(database: Database) -> None:
    columns = "id int8 NOT NULL, image_data bytea, label int8"
    url = database.table(simple_rows(20), columns=columns)
    with pytest.warns(FastloaderWarning, match="index"):
        dataset = read(url, **SMALL)
    assert rows_of(dataset)["id"].tolist() == list(range(1, 21))


# ---- how many tasks ------------------------------------------------------------------------------


def test_the_number_of_blocks_comes_from_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = table(tmp_path / "t.db", simple_rows(640))
    with monkeypatch.context() as patch:
        patch.setattr(ray.data.DataContext.get_current(), "target_max_block_size", 1 << 20)
        rows = rows_of(
            in_order(read(url, size=(64, 64), label=None).map_batches(_size, batch_size=None))
        )
    assert max(rows["size"]) <= 86  # of 12,288 bytes
    assert len(rows["size"]) >= 8
    # Small tables have four blocks for each core, but at least 64 rows in each.
    small = read(url, size=(8, 8), label=None).map_batches(_size, batch_size=None)
    assert sorted(rows_of(small)["size"].tolist()) == [64] * 10
    one = read(table(tmp_path / "one.db", simple_rows(1))).map_batches(_size, batch_size=None)
    assert rows_of(one)["size"].tolist() == [1]


def _size(batch: dict[str, Any]) -> dict[str, Any]:
    return {"size": np.array([len(batch["image_data"])])}

"""Batches through JAX: aliased on the CPU, over several devices, and no integer cut silently."""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastloader import ConfigError, FastLoader

from .support import ROOT, jpeg, parts_of, simple_rows, table, unpacked
from .tiers import full

jax = pytest.importorskip("jax", reason="no JAX: fastloader.adapters.jax is not tested")

from fastloader.adapters.jax import as_jax  # noqa: E402  # which is an error without JAX

OPTIONS: dict[str, Any] = {"size": (16, 16), "batch_size": 8, "workers": 2}
LABELS = list(range(0, 1000, 10))


@pytest.fixture(autouse=True)
def on_the_cpu() -> Any:
    with jax.default_device(jax.devices("cpu")[0]):
        yield


def with_64_bits() -> Any:
    """Return a context in which JAX has 64-bit types. Older releases call it experimental."""
    where = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")
    return where.enable_x64(True)


def labels_of(batches: Any) -> list[int]:
    return [label for _, labels in batches for label in labels.tolist()]


def in_ring(loader: FastLoader, array: Any) -> bool:
    return loader.delivery.aliases(array.unsafe_buffer_pointer())


# ---- arrays over the ring ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_images_lie_in_the_ring_and_hold_the_loaders_values(
    small: str, layout: str, dtype: str
) -> None:
    options = {**OPTIONS, "layout": layout, "dtype": dtype, "label": "label:int32"}
    with FastLoader(small, **options) as loader:
        expected = [images.copy() for images, _ in loader]
        assert len(as_jax(loader)) == 13
        for (images, labels), numbers in zip(as_jax(loader), expected, strict=True):
            assert isinstance(images, jax.Array)
            assert images.dtype == numbers.dtype
            np.testing.assert_array_equal(np.asarray(images), numbers)
            assert in_ring(loader, images)
            assert not in_ring(loader, labels), "which are small, and copied"
        assert loader.stats().copies == 0


def test_a_batch_has_the_loaders_structure(tmp_path: Path) -> None:
    vector = np.arange(3, dtype=np.float32)
    rows = [(i, jpeg(seed=i), jpeg(seed=50 + i), f"näme {i}", vector.tobytes(), i / 2, i % 2)
            for i in range(10)]  # fmt: skip
    columns = "id INTEGER PRIMARY KEY, left BLOB, right BLOB, t TEXT, v BLOB, w REAL, b BOOLEAN"
    url = table(tmp_path / "t.db", rows, columns=columns)
    options = {
        "image": ["left", "right"], "size": {"left": (16, 24), "right": (8, 8)},
        "label": ["t", "v:float32", "b"], "sample_weight": "w", "with_keys": True,
        "batch_size": 5, "workers": 0,
    }  # fmt: skip
    with FastLoader(url, **options) as loader:
        batch = next(iter(as_jax(loader)))
        assert type(batch) is tuple
        images, labels, weights, keys = parts_of(batch)
        assert {name: image.shape for name, image in images.items()} == {
            "left": (5, 16, 24, 3),
            "right": (5, 8, 8, 3),
        }
        assert labels["t"].tolist() == [f"näme {i}" for i in range(5)]
        assert labels["v"].tolist() == [[0, 1, 2]] * 5
        assert labels["b"].tolist() == [False, True] * 2 + [False]
        assert weights.tolist() == [0, 0.5, 1, 1.5, 2]
        assert keys.tolist() == [0, 1, 2, 3, 4]


def test_images_come_alone_where_there_are_no_labels(small: str) -> None:
    with FastLoader(small, label=None, **OPTIONS) as loader:
        assert [len(images) for images in as_jax(loader)] == [8] * 12 + [4]


@pytest.mark.parametrize("slots", [2, None])
def test_every_batch_can_be_kept_and_keeps_its_values(small: str, slots: int | None) -> None:
    with FastLoader(small, slots=slots, **OPTIONS) as loader:
        expected = [images.copy() for images, _ in loader] * 2
        batches = [batch for _ in range(2) for batch in as_jax(loader)]
        assert labels_of(batches) == LABELS * 2
        for (images, _), numbers in zip(batches, expected, strict=True):
            np.testing.assert_array_equal(np.asarray(images), numbers)


@full
def test_what_was_dispatched_sees_the_values_although_its_argument_is_gone(small: str) -> None:
    """JAX still works on a batch after the loop has dropped it and takes the next ones."""

    @jax.jit
    def slow_sum(images: Any) -> Any:
        x = images.reshape(len(images), -1).astype("float32")
        square = x.T @ x
        for _ in range(6):
            square = square @ square * 1e-9
        return images.astype("int32").sum() + (square[0, 0] * 0).astype("int32")

    options = {**OPTIONS, "size": (20, 20), "slots": 2, "drop_remainder": True}
    with FastLoader(small, **options) as loader:
        expected = [int(images.astype(int).sum()) for images, _ in loader]
        assert [int(total) for total in [slow_sum(images) for images, _ in as_jax(loader)]] == (
            expected
        )


def test_a_lease_ends_with_the_last_array(small: str) -> None:
    with FastLoader(small, **{**OPTIONS, "workers": 0}) as loader:
        ring = loader.delivery.feeders[0].ring
        images, _ = next(iter(as_jax(loader)))
        seen = np.asarray(images)
        del images, _
        gc.collect()
        assert ring.take_back() == []
        del seen
        gc.collect()
        assert ring.take_back() == [0]


def test_a_donated_batch_is_not_written_to(small: str) -> None:
    add_one = jax.jit(lambda images: images + 1, donate_argnums=0)
    with FastLoader(small, **{**OPTIONS, "workers": 0}) as loader:
        images, _ = next(iter(loader))
        before = images.copy()
        donated = jax.device_put(images)
        assert in_ring(loader, donated)
        np.testing.assert_array_equal(np.asarray(add_one(donated)), before + np.uint8(1))
        np.testing.assert_array_equal(images, before)


# ---- integers of 64 bits -------------------------------------------------------------------------


def test_integers_that_fit_become_int32(small: str) -> None:
    with FastLoader(small, with_keys=True, **OPTIONS) as loader:
        for _, labels, keys in unpacked(as_jax(loader)):
            assert labels.dtype == keys.dtype == np.int32


@pytest.mark.parametrize(
    ("dtype", "value", "cut"),
    [("int64", 2**31, "int32"), ("int64", -(2**31) - 1, "int32"), ("uint64", 2**32, "uint32")],
)
def test_an_integer_that_does_not_fit_is_an_error_that_names_its_column(
    tmp_path: Path, dtype: str, value: int, cut: str
) -> None:
    rows = [(i, jpeg(), value if i == 5 else i) for i in range(10)]
    url = table(tmp_path / "t.db", rows)
    options = {**OPTIONS, "batch_size": 5, "label": f"label:{dtype}"}
    with FastLoader(url, **options) as loader:
        batches = iter(as_jax(loader))
        assert next(batches)[1].tolist() == [0, 1, 2, 3, 4]
        with pytest.raises(
            ConfigError, match=f"column 'label' holds {value}, which does not fit into {cut}"
        ):
            next(batches)
        with with_64_bits():
            assert next(iter(as_jax(loader)))[1].dtype == dtype
            assert labels_of(as_jax(loader)) == [0, 1, 2, 3, 4, value, 6, 7, 8, 9]


def test_a_key_that_does_not_fit_is_an_error_that_names_its_column(tmp_path: Path) -> None:
    url = table(tmp_path / "t.db", [(2**40 + i, jpeg(), 0) for i in range(3)])
    with FastLoader(url, with_keys=True, **OPTIONS) as loader:
        with pytest.raises(ConfigError, match=f"column 'id' holds {2**40}, .*jax_enable_x64"):
            list(as_jax(loader))
        with with_64_bits():
            [(_, _, keys)] = unpacked(as_jax(loader))
            assert keys.tolist() == [2**40, 2**40 + 1, 2**40 + 2]


# ---- resuming ------------------------------------------------------------------------------------


def test_it_resumes_from_a_state(small: str) -> None:
    with FastLoader(small, shuffle=True, **OPTIONS) as loader:
        whole = labels_of(loader)
        batches = as_jax(loader)
        whole += labels_of(batches)
        first = labels_of(itertools.islice(batches, 5))
        state = batches.state_dict()
    with FastLoader(small, shuffle=True, **OPTIONS) as loader:
        whole = [labels_of(loader) for _ in range(3)][2]
        batches = as_jax(loader)
        batches.load_state_dict(json.loads(json.dumps(state)))
        assert first + labels_of(batches) == whole


# ---- shardings -----------------------------------------------------------------------------------

SHARDED = """
import gc, json, sys, warnings
warnings.simplefilter("error")
import numpy as np
import jax
from jax.sharding import NamedSharding, PartitionSpec as P, SingleDeviceSharding
from fastloader import ConfigError, FastLoader
from fastloader.adapters.jax import as_jax

options = {"size": (16, 16), "batch_size": 8, "workers": 2, "slots": 2}
mesh = jax.sharding.Mesh(jax.devices(), ("data",))
sharding = NamedSharding(mesh, P("data"))
said = {}

def refused(name, sharding, **more):
    with FastLoader(sys.argv[1], **{**options, **more}) as loader:
        try:
            as_jax(loader, sharding=sharding)
        except ConfigError as error:
            said[name] = str(error)
            assert loader.stats().epochs == 0

with FastLoader(sys.argv[1], drop_remainder=True, **options) as loader:
    expected = [(images.copy(), labels.copy()) for images, labels in loader] * 2
    batches = [batch for _ in range(2) for batch in as_jax(loader, sharding=sharding)]
    for (images, labels), (pixels, numbers) in zip(batches, expected, strict=True):
        assert images.sharding == labels.sharding == sharding
        assert [shard.data.shape for shard in images.addressable_shards] == [(2, 16, 16, 3)] * 4
        np.testing.assert_array_equal(np.asarray(images), pixels)
        np.testing.assert_array_equal(np.asarray(labels), numbers)
    del batches, images, labels
    gc.collect()
    images, _ = next(iter(as_jax(loader, sharding=sharding)))
    said["in ring"] = [
        loader.delivery.aliases(shard.data.unsafe_buffer_pointer())
        for shard in images.addressable_shards
    ]
    total = jax.jit(lambda x: x.astype("int32").sum())(images)
    assert int(total) == expected[0][0].astype(int).sum()

for name, unsharded in [
    ("replicated", NamedSharding(mesh, P())),
    ("one device", SingleDeviceSharding(jax.devices()[1])),
]:
    with FastLoader(sys.argv[1], on_error="skip", **options) as loader:
        batches = list(as_jax(loader, sharding=unsharded))
        assert [len(labels) for _, labels in batches] == [8] * 12 + [2]
        assert batches[0][0].sharding == unsharded
        said[name] = len(batches[0][0].addressable_shards)

refused("last batch", sharding)
refused("batch size", sharding, batch_size=10)
refused("skip", sharding, drop_remainder=True, on_error="skip")
refused("rank", NamedSharding(mesh, P(None, "data")), drop_remainder=True)
print(json.dumps(said))
"""


def test_batches_are_sharded_over_devices_and_what_cannot_be_divided_is_refused(
    tmp_path: Path,
) -> None:
    url = table(tmp_path / "t.db", simple_rows(98))
    out = subprocess.run(
        [sys.executable, "-c", SHARDED, url],
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    said = json.loads(out.stdout)
    assert said["in ring"] == [True] * 4
    assert said["replicated"] == 4
    assert said["one device"] == 1
    assert said["last batch"].startswith("a batch of 2 rows cannot be divided into 4 equal parts")
    assert "drop_remainder=True" in said["last batch"]
    assert "make batch_size a multiple of 4" in said["batch size"]
    assert 'on_error="skip"' in said["skip"]
    assert "the sharding cannot divide column 'label'" in said["rank"]

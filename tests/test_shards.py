"""Several hosts share a table: together every row once an epoch, and as many batches each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fastloader import FastLoader, PlanError

from .support import simple_rows, table, unpacked
from .tiers import full

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "with_keys": True, "seed": 3}
KEYS = list(range(3, 301, 3))


def epoch_of(loader: FastLoader) -> list[list[int]]:
    return [keys.tolist() for *_, keys in unpacked(loader)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_all_shards_together_see_every_row_once_in_as_many_batches(
    small: str, workers: int, shuffle: bool, count: int
) -> None:
    epochs = []
    for index in range(count):
        options = {**OPTIONS, "workers": workers, "shuffle": shuffle, "shard": (index, count)}
        with FastLoader(small, **options) as loader:
            epochs.append([epoch_of(loader) for _ in range(2)])
            assert [len(epoch) for epoch in epochs[-1]] == [len(loader)] * 2
    assert len({len(epoch) for shard in epochs for epoch in shard}) == 1
    for e in range(2):
        assert sorted(key for shard in epochs for batch in shard[e] for key in batch) == KEYS
    if not shuffle:
        assert epochs[0][0][0] + epochs[1][0][0] == KEYS[:16], "hosts take batches in turn"


def test_the_rows_of_a_last_step_are_shared_out_evenly(small: str) -> None:
    """100 rows for 3 hosts of 8: four steps of 24 rows, and one of 4."""
    sizes = []
    for index in range(3):
        with FastLoader(small, **OPTIONS, workers=0, shard=(index, 3)) as loader:
            sizes.append([len(batch) for batch in epoch_of(loader)])
    assert sizes == [[8, 8, 8, 8, 1], [8, 8, 8, 8, 1], [8, 8, 8, 8, 2]]
    with FastLoader(small, **OPTIONS, workers=0, shard=(0, 3), drop_remainder=True) as loader:
        assert [len(batch) for batch in epoch_of(loader)] == [8] * 4


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_batch_without_a_good_row_is_a_step_like_any_other(
    tmp_path: Path, workers: int, deterministic: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Or one host would have fewer steps than the others, which wait for it."""
    rows = [(key, b"" if 25 <= key <= 32 else image, n) for key, image, n in simple_rows(36)]
    url = table(tmp_path / "t.db", rows)
    options = {**OPTIONS, "on_error": "skip", "workers": workers, "deterministic": deterministic}
    sizes = []
    for index in range(2):
        with FastLoader(url, **options, shard=(index, 2)) as loader:
            for _ in range(2):
                batches = list(unpacked(loader))
                assert len(batches) == len(loader) == 3
                sizes.append([len(keys) for *_, keys in batches])
    if deterministic:
        assert sizes == [[8, 8, 2]] * 2 + [[8, 0, 2]] * 2
        images, labels, keys = batches[1]
        assert (images.shape, labels.shape, keys.shape) == ((0, 8, 8, 3), (0,), (0,))
        assert "batch 1 has no rows left and is delivered empty" in caplog.text
    assert sum(map(sum, sizes)) == 2 * 28


def test_a_batch_without_rows_counts_in_a_state(tmp_path: Path) -> None:
    rows = [(key, b"" if 25 <= key <= 32 else image, n) for key, image, n in simple_rows(36)]
    url = table(tmp_path / "t.db", rows)
    options = {**OPTIONS, "on_error": "skip", "workers": 1, "shard": (1, 2)}
    with FastLoader(url, **options) as loader:
        whole = epoch_of(loader)
    for taken in range(4):
        with FastLoader(url, **options) as loader:
            iterator = unpacked(iter(loader))
            begun = [next(iterator)[-1].tolist() for _ in range(taken)]
            assert loader.state_dict()["batch"] == taken % 3
            assert loader.state_dict(consumed=taken)["batch"] == taken % 3
            loader.load_state_dict(loader.state_dict())
            if taken % 3:
                assert begun + epoch_of(loader) == whole


def test_too_few_rows_for_the_shards_are_an_error_at_once(small: str) -> None:
    with pytest.raises(PlanError, match="100 rows are too few for 101 shards"):
        FastLoader(small, **OPTIONS, workers=0, shard=(100, 101))
    with pytest.raises(PlanError, match="do not fill a batch of 8 for each of 13 shards"):
        FastLoader(small, **OPTIONS, workers=0, shard=(0, 13), drop_remainder=True)


def test_the_shard_comes_from_the_environment(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTLOADER_SHARD", "1/4")
    with FastLoader(small, **OPTIONS, workers=0) as loader:
        assert epoch_of(loader)[0] == KEYS[8:16]


@full
def test_the_shard_comes_from_tf_distribute(small: str) -> None:
    tf = pytest.importorskip("tensorflow", reason="no TensorFlow: untested")
    context = tf.distribute.InputContext(num_input_pipelines=4, input_pipeline_id=2)
    with FastLoader(small, **OPTIONS, workers=0, shard=context) as loader:
        assert epoch_of(loader)[0] == KEYS[16:24]


def test_the_shard_comes_from_jax(small: str) -> None:
    jax = pytest.importorskip("jax", reason="no JAX: untested")
    with FastLoader(small, **OPTIONS, workers=0, shard=jax) as loader:
        assert loader.config.shard == (0, 1)

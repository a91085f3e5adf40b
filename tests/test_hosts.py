"""Several training hosts, as real processes.

Together they see every row once, and each takes the same number of steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fastloader import ConfigError, FastLoader

from .programs import on_hosts
from .servers.cluster import free_ports
from .servers.postgres import Database, standby_of
from .support import simple_rows, table
from .tiers import full

pytestmark = full

OPTIONS: dict[str, Any] = {"size": (8, 8), "batch_size": 8, "with_keys": True, "seed": 3}
KEYS = list(range(3, 301, 3))


def check(hosts: list[list[list[int]]], keys: list[int] = KEYS) -> None:
    """Check that all hosts see every key once, in the same number of batches.

    Parameters
    ----------
    hosts
        The keys of each batch, for an epoch of each host.
    keys
        All keys.
    """
    assert len({len(batches) for batches in hosts}) == 1, "the same number of steps"
    assert sorted(key for batches in hosts for batch in batches for key in batch) == keys


def table_with_an_empty_batch(path: Path) -> tuple[str, list[int]]:
    """Return a table of 36 rows for two hosts with batches of 8, and the keys of its good rows.

    Unless it is shuffled, the second host has no good row in its second batch.
    """
    bad = range(25, 33)
    rows = [(key, b"" if key in bad else image, key) for key, image, _ in simple_rows(36)]
    return table(path, rows), [key for key in range(1, 37) if key not in bad]


@pytest.mark.parametrize("skips", [False, True])
def test_multi_worker_mirrored_strategy(small: str, tmp_path: Path, skips: bool) -> None:
    pytest.importorskip("tensorflow", reason="no TensorFlow: untested")
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    url, keys, total = small, KEYS, 49500
    if skips:
        url, keys = table_with_an_empty_batch(tmp_path / "t.db")
        total = sum(keys)
    options = {"shuffle": not skips, "on_error": "skip" if skips else "raise"}
    found = on_hosts(
        [["-m", "tests.train_on_hosts", str(host), url, json.dumps(options)] for host in range(2)],
        [
            {"TF_CONFIG": json.dumps({
                "cluster": {"worker": workers}, "task": {"type": "worker", "index": host},
            })}
            for host in range(2)
        ],
    )  # fmt: skip
    for how in ("from function", "distributed"):
        epochs = list(zip(*(host[how] for host in found), strict=True))
        assert len(epochs) == 2
        for epoch in epochs:
            check(list(epoch), keys)
        assert (epochs[0] != epochs[1]) == (not skips), "another order"
    # Four times the sum of all labels.
    assert [host["weight"] for host in found] == [4 * total] * 2


TORCH = """
import json, sys, torch, torch.distributed
from fastloader import FastLoader
rank, url, options = int(sys.argv[1]), sys.argv[3], json.loads(sys.argv[4])
torch.distributed.init_process_group("gloo", sys.argv[2], rank=rank, world_size=2)
with FastLoader(url, **options, workers=1, shard=torch.distributed) as loader:
    epochs = []
    for epoch in range(2):
        batches = []
        for step, (batch, _) in enumerate(loader.as_torch()):
            steps = torch.tensor([step])
            torch.distributed.all_reduce(steps)  # waits for the other
            assert steps.item() == 2 * step, "it is at another step"
            batches.append(batch["id"].tolist())
        epochs.append(batches)
    end = torch.tensor([-1])
    torch.distributed.all_reduce(end)
    assert end.item() == -2, "it had more steps"
print(json.dumps(epochs))
torch.distributed.destroy_process_group()
"""


def in_gloo_group(urls: list[str], folder: Path, **options: Any) -> list[list[list[list[int]]]]:
    """Return the keys of each batch, for the epochs of each of two processes."""
    arguments = json.dumps({**OPTIONS, "shuffle": True, **options})
    return on_hosts(
        [
            ["-c", TORCH, str(rank), f"file://{folder / 'group'}", url, arguments]
            for rank, url in enumerate(urls)
        ],
        [{"GLOO_SOCKET_IFNAME": "lo"}] * 2,
    )


def test_torch_distributed(small: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="no PyTorch: untested")
    with pytest.raises(ConfigError, match="has no process group: call init_process_group first"):
        FastLoader(small, **OPTIONS, shard=torch.distributed)
    for epoch in zip(*in_gloo_group([small, small], tmp_path), strict=True):
        check(list(epoch))
        assert [len(batches) for batches in epoch] == [7, 7]


def test_torch_distributed_where_one_host_has_no_good_row_in_a_step(tmp_path: Path) -> None:
    """The hosts take the same number of steps, and every sum is over the same step."""
    pytest.importorskip("torch", reason="no PyTorch: untested")
    url, good = table_with_an_empty_batch(tmp_path / "t.db")
    found = in_gloo_group([url, url], tmp_path, shuffle=False, on_error="skip")
    for epoch in zip(*found, strict=True):
        check(list(epoch), good)
        assert [[len(batch) for batch in host] for host in epoch] == [[8, 8, 2], [8, 0, 2]]


def test_each_host_may_read_a_replica_of_its_own(database: Database, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="no PyTorch: untested")
    url = database.table(simple_rows(100, gap=3))
    with standby_of(database.cluster) as standby:
        replica = standby.url().removesuffix("postgres") + database.name
        for epoch in zip(*in_gloo_group([url, replica], tmp_path), strict=True):
            check(list(epoch))


def test_hosts_that_see_other_rows_have_other_prints(database: Database) -> None:
    """See docs/guides/several-hosts.md."""
    url = database.table(simple_rows(100, gap=3))
    prints = []
    for shard in (0, 2), (1, 2):
        with FastLoader(url, **OPTIONS, workers=0, shard=shard) as loader:
            prints.append(loader.state_dict()["plan"]["keys"])
    database.execute("INSERT INTO images SELECT id + 1, image_data, label FROM images WHERE id = 3")
    with FastLoader(url, **OPTIONS, workers=0, shard=(1, 2)) as late:
        prints.append(late.state_dict()["plan"]["keys"])
    assert prints[0] == prints[1] != prints[2]

"""One of two hosts in a MultiWorkerMirroredStrategy.

``python -m tests.train_on_hosts HOST URL OPTIONS``, with TF_CONFIG in the environment, and options
of the loader as JSON.

Trains for two epochs on datasets from a function of the InputContext, and two on one that the
strategy distributes. Prints, for each, the keys of its batches as lists of lists, and the weight in
the end, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

OPTIONS: dict[str, Any] = {
    "size": (8, 8), "batch_size": 8, "with_keys": True, "workers": 1,
}  # fmt: skip


def train(host: int, url: str, options: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    from fastloader import FastLoader

    options = {**OPTIONS, **options}
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    loaders = []
    with strategy.scope():
        weight = tf.Variable(0.0)

    def gradient(images: Any, labels: Any) -> Any:
        """Of all hosts' batches, which waits for all of them: each has to take as many steps."""
        replica = tf.distribute.get_replica_context()
        total = replica.all_reduce("sum", tf.reduce_sum(tf.cast(labels, tf.float32)))
        weight.assign_add(total)
        return images["id"]

    @tf.function  # type: ignore[untyped-decorator]  # mypy does not follow it
    def step(iterator: Any) -> Any:
        return strategy.run(gradient, args=next(iterator))

    def epoch(dataset: Any) -> list[list[int]]:
        iterator, found = iter(dataset), []
        while True:
            try:
                found.append(step(iterator).numpy().tolist())
            except (StopIteration, tf.errors.OutOfRangeError):
                return found

    def of_host(context: tf.distribute.InputContext) -> tf.data.Dataset:
        loaders.append(FastLoader(url, shard=context, **options))
        return loaders[0].as_dataset()

    from_function = strategy.distribute_datasets_from_function(of_host)
    found: dict[str, Any] = {"from function": [epoch(from_function) for _ in range(2)]}
    loaders.append(FastLoader(url, shard=(host, 2), **options))
    distributed = strategy.experimental_distribute_dataset(loaders[1].as_dataset())
    found["distributed"] = [epoch(distributed) for _ in range(2)]
    for loader in loaders:
        loader.close()
    return {**found, "weight": float(weight.numpy())}


if __name__ == "__main__":
    print(json.dumps(train(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))))

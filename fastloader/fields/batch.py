"""The structure of a batch: what stands where, for arrays, tensors and their types alike; and
whether a batch without rows is one."""

from __future__ import annotations

from typing import Any, TypeVar

from ..options.config import Config

T = TypeVar("T")


def arranged(config: Config, images: dict[str, T], columns: dict[str, T], keys: T | None) -> Any:
    """Return ``x``, ``(x, labels)`` or ``(x, labels, weights)``.

    Keras reads a second element as targets and a third one as sample weights, whatever they are. So
    keys never get a place of their own: they are in ``x``, which then is a dict.

    images, columns: by name, in the order of the configuration; the columns are those of the labels
    and last the one of the sample weights.
    """
    x = dict(images) if keys is None else {**images, config.key: keys}
    single = isinstance(config.image, str) and keys is None
    parts: list[Any] = [x[config.images[0]] if single else x]
    labels = dict(columns)
    weights = [labels.popitem()[1]] if config.sample_weight is not None else []
    if config.label is not None:
        parts.append(next(iter(labels.values())) if isinstance(config.label, str) else labels)
    parts += weights
    return parts[0] if len(parts) == 1 else tuple(parts)


def leaves_out_empty(config: Config) -> bool:
    """Return whether a batch is left out if ``on_error="skip"`` has dropped all of its rows.

    Not with shards: each host has to take ``len(loader)`` steps, or one waits for the others, and
    their collective operations pair wrongly. No other row could take the place of those that were
    dropped without coming twice, so the batch is delivered empty.
    """
    return config.on_error == "skip" and config.shard[1] == 1

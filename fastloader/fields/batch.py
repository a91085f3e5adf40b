"""The structure of a batch, the same for arrays, tensors and their types.

It also says whether a batch without rows is delivered.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ..options.config import Config

T = TypeVar("T")


def arranged(config: Config, images: dict[str, T], columns: dict[str, T], keys: T | None) -> Any:
    """Return ``x``, ``(x, labels)`` or ``(x, labels, weights)``.

    Keras reads a second element as targets and a third one as sample weights, whatever they are. So
    keys never get an element of their own. They are in ``x``, which then is a dict.

    Parameters
    ----------
    images
        The image columns by name, in the order of the configuration.
    columns
        The label columns likewise, and last the column of the sample weights, if there is one.
    keys
        The keys, if they are delivered.
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

    It is not left out with shards. Each host has to take ``len(loader)`` steps. Otherwise one would
    wait for the others, and their collective operations would pair wrongly. Every other row has a
    batch already and would come twice as a replacement, so the batch is delivered empty.
    """
    return config.on_error == "skip" and config.shard[1] == 1

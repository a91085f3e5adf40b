"""The structure of a batch: what stands where, for arrays, tensors and their types alike."""

from __future__ import annotations

from typing import Any, TypeVar

from .config import Config

T = TypeVar("T")


def arranged(config: Config, images: dict[str, T], columns: dict[str, T], keys: T | None) -> Any:
    """``(images, labels, sample weights, keys)`` without what there is not; what is single, alone.

    images, columns: by name, in the order of the configuration; the columns are those of the labels
    and last the one of the sample weights.
    """
    parts: list[Any] = [images[config.image] if isinstance(config.image, str) else images]
    labels = dict(columns)
    weights = [labels.popitem()[1]] if config.sample_weight is not None else []
    if config.label is not None:
        parts.append(next(iter(labels.values())) if isinstance(config.label, str) else labels)
    parts += weights
    if keys is not None:
        parts.append(keys)
    return parts[0] if len(parts) == 1 else tuple(parts)

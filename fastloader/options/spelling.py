"""What was probably meant by a name that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

USUAL = {
    "num_workers": "workers", "world_size": "shard", "rank": "shard", "num_replicas": "shard",
    "image_size": "size", "img_size": "size", "target_size": "size", "input_size": "size",
    "image_column": "image", "label_column": "label", "class_mode": "label", "target": "label",
    "drop_last": "drop_remainder", "color_mode": "channels", "interpolation": "filter",
    "resample": "filter", "data_format": "layout", "crop_to_aspect_ratio": "fit",
    "prefetch_factor": "slots", "db": "url", "path": "url", "database": "url", "sql": "query",
    "cache_dir": "cache", "filters": "where", "condition": "where", "args": "params",
    "transforms": "transform", "augment": "transform", "augmentation": "transform",
    "augmentations": "transform", "map_fn": "transform", "preprocess": "transform",
    "class_weight": "sample_weight", "weights": "sample_weight",
}  # fmt: skip
"""What other libraries call an option, and its name here."""

REMEDIES = {
    "collate_fn": "the loader makes whole batches: pass transform=per_batch(function)",
    "sampler": "the order is that of the keys, or random with shuffle=True; where= chooses the "
    "rows, and shard= this host's part",
    "epochs": "each iteration is the next epoch: for epoch in range(3): for batch in loader: ..., "
    "or model.fit(loader.as_dataset(), epochs=3)",
}
"""What to do instead of options that other libraries have and this one has not."""


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the one of the words that was probably meant, or ""."""
    import difflib

    words = list(words)
    usual = USUAL.get(word, "")
    return usual if usual in words else (difflib.get_close_matches(word, words, 1) or [""])[0]


def did_you_mean(word: str, words: Iterable[str], form: str = "{}=") -> str:
    """Return "did you mean label=?", or "" if nothing is near.

    Parameters
    ----------
    form
        How the word that was probably meant is written.
    """
    near = nearest(word, words)
    return f"did you mean {form.format(near)}?" if near else ""

"""The loader's options in the words of a command line: examples, and defaults as they are typed."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ..checks.option import Option
from ..options.table import OPTIONS

EXAMPLES: Mapping[str, str] = {
    "table": "train", "query": "'SELECT * FROM images WHERE id < 100'", "where": "'label < 10'",
    "params": "'[10, \"train\"]'", "split": ":0.9",
    "split_by": "patient", "key": "uuid",
    "image": "left,right", "fields": "fields.toml", "label": "label:int32",
    "sample_weight": "weight", "batch_size": "256", "drop_remainder": "1", "with_keys": "1",
    "on_error": "skip", "transform": "mypackage.augment:augment", "transform_timeout_s": "60",
    "cache_transformed": "1", "transform_version": "2", "shuffle": "1",
    "shuffle_block": "8", "sampling": "balanced", "epoch_rows": "100000", "seed": "42",
    "shard": "0/8", "deterministic": "0", "workers": "4",
    "slots": "16", "prefetch": "4", "max_restarts": "0",
    "worker_imports": "pillow_heif.HeifImagePlugin", "simd": "portable",
    "max_blob_bytes": "200000000", "fetch_bytes": "8388608", "consistency": "latest",
    "follow": "epoch",
    "stall_timeout_s": "10", "reconnect_timeout_s": "120", "cache": "/data/cache",
    "cache_bytes": "20000000000", "trace": "trace.json", "size": "224x320", "channels": "1",
    "fit": "crop", "crop_fraction": "0.875", "scale": "0.25,1", "ratio": "0.5,2", "flip": "1",
    "cache_size": "256x256", "filter": "lanczos", "orientation": "0", "quality": "fast",
    "background": "255,255,255", "layout": "NCHW", "dtype": "float32",
    "mean": "0.485,0.456,0.406", "std": "0.229,0.224,0.225", "strict": "1",
    "max_pixels": "50000000", "max_scans": "20", "max_chunks": "1000",
}  # fmt: skip
"""A value of each option but ``url``, as it is typed."""

_IN_PYTHON = re.compile(
    rf"(?:^|(?<=[\s(]))(?P<name>{'|'.join(EXAMPLES)})="
    r"""(?P<value>[A-Z]\w*\([^)]*\)|"[^"]*"|'[^']*'|\([^)]*\)|\[[^]]*\]|(?:[^\s;:,)]*[^\s;:,).])?)"""
)
"""An option as an argument in Python, in a message, with its value or without."""

_SQL = "LINE "
"""How the line begins in which PostgreSQL's message quotes a query."""


def in_words_of_the_command_line(message: str) -> str:
    """Return a message of the loader with its options as they are typed.

    ``label=None`` becomes ``--label none``, and ``label=`` becomes ``--label``.
    """
    return "\n".join(
        line if line.startswith(_SQL) else _IN_PYTHON.sub(_argument, line)
        for line in message.split("\n")
    )


def _argument(match: re.Match[str]) -> str:
    option, text = OPTIONS[match["name"]], match["value"]
    try:
        value = shlex.quote(_typed(option, ast.literal_eval(text)))
    except (ValueError, SyntaxError):  # a call, no value, or a sentence
        value = shlex.quote(text) if text.endswith(")") else text
    return f"{option.argument} {value}".rstrip()


def as_typed(option: Option) -> str:
    """Return the default of an option as it would be typed."""
    if option.shown == "None":
        return "none"
    if option.name == "ratio":
        return "0.75,1.3333333"
    return _typed(option, option.default)


def _typed(option: Option, value: Any) -> str:
    if value is None or value == ():
        return "none"
    if option.name == "params":
        return json.dumps(value)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        between = {"size": "x", "cache_size": "x", "shard": "/"}.get(option.name, ",")
        return between.join(_typed(option, item) for item in value)
    return str(value)

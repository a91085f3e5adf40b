"""Kinds of values that only the options of a loader have: databases, conditions, labels, shards."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..checks.kinds import (
    NAME,
    NAMES,
    SOME_NAMES,
    Kind,
    Rewrite,
    integer,
    optional,
    split_names,
)
from ..errors import ConfigError
from ..fields.every import kind_named
from ..fields.field import Field
from ..transforms.step import Step, per_row
from .labels import TEXT, split_label
from .sampling import check_sampling, parse_sampling
from .split import SPLITS, split_limits
from .url import parse_url


def _label(value: Any) -> Any:
    if isinstance(value, (Field, Mapping)):
        return value if isinstance(value, Field) else _fields(value)
    labels = NAMES.check(value)
    columns = [split_label(name)[0] for name in ([labels] if isinstance(labels, str) else labels)]
    if len(set(columns)) != len(columns):
        raise ValueError(SOME_NAMES)
    return labels


def _weight(value: Any) -> Any:
    name = NAME.check(value)
    if split_label(name)[1] == TEXT:
        raise ValueError("must be a column of numbers")
    return name


def _modules(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence):
        raise ValueError(_MODULES)
    for name in names:
        if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
            raise ValueError(_MODULES)
    if "__main__" in names:
        raise ValueError("cannot be __main__, which only this process has: name a module")
    return tuple(dict.fromkeys(names))


_MODULES = 'must be the name of a module, such as "package.module", or a list of such names'


def _fields(value: Any) -> dict[str, Field]:
    if not isinstance(value, Mapping) or not value:
        raise ValueError(_FIELDS)
    for name, field in value.items():
        if not isinstance(name, str) or not name or not isinstance(field, Field):
            raise ValueError(_FIELDS)
    return dict(value)


_FIELDS = 'must be a dict from names to fields, such as {"age": Number("age")}'


def _parse_fields(text: str) -> dict[str, Field]:
    """Return the fields that a file describes: a table for each, with its kind and its options."""
    try:
        content = Path(text).read_text("utf-8")
        if text.endswith(".json"):
            tables = json.loads(content)
        else:
            import tomllib

            tables = tomllib.loads(content)
    except (OSError, ImportError, ValueError) as error:
        raise ConfigError(f"cannot read the fields in {text}: {error}") from None
    return {name: _field(name, table, text) for name, table in tables.items()}


def _field(name: str, table: Any, file: str) -> Field:
    if not isinstance(table, dict) or not isinstance(table.get("kind"), str):
        raise ConfigError(f'{file}: {name} needs a kind, such as kind = "Number"')
    options = {option: value for option, value in table.items() if option != "kind"}
    try:
        return kind_named(table["kind"])(**options)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{file}: {name}: {error}") from None


FIELDS = optional(
    Kind(_fields, "dict from str to field", _parse_fields, "the path of a TOML or JSON file")
)
URL = Kind(parse_url, "str or path")
MODULES = optional(Kind(_modules, NAMES.type, split_names, "names of modules"), ())
LABEL = optional(Kind(_label, NAMES.type, split_names))
WEIGHT = optional(Kind(_weight))

# ---- transforms ----------------------------------------------------------------------------------

_TRANSFORM = (
    'must be a function, "package.module:function", per_row(...) or per_batch(...), or a list of '
    "these"
)


def _transform(value: Any) -> tuple[Step, ...]:
    if isinstance(value, str):
        value = _named(value)
    if isinstance(value, Step):
        return (value,)
    if callable(value):
        return (per_row(value),)
    if isinstance(value, Mapping) or not isinstance(value, Sequence):
        raise ValueError(_TRANSFORM)
    return tuple(step for one in value for step in _transform(one))


def _named(text: str) -> Any:
    """Return what "package.module:name" stands for. Raises ConfigError."""
    module, _, path = text.partition(":")
    if not all(map(str.isidentifier, [*module.split("."), *path.split(".")])):
        raise ValueError(_TRANSFORM)
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:  # whatever the module does
        raise ConfigError(
            f"transform: cannot import {text!r} ({type(error).__name__}: {error}). A module is "
            f"looked for in sys.path: {', '.join(map(repr, sys.path))}"
        ) from error
    return found


TRANSFORM = optional(
    Kind(
        _transform,
        "function, str or list",
        lambda text: [part.strip() for part in text.split(",")],
        'names of functions, such as "package.module:function"',
    ),
    (),
)

# ---- rows ----------------------------------------------------------------------------------------

Param: TypeAlias = bool | int | float | str | bytes | None
"""A value for a condition in SQL."""

_PARAMS = "must be a list of numbers, texts, bytes, bools or None"


def _condition(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError("must be a condition in SQL, such as \"label < 10 AND split = 'train'\"")
    _check_unicode(value)
    return value


def _params(value: Any) -> tuple[Param, ...]:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ValueError(_PARAMS)
    return tuple(map(_param, value))


def _param(value: Any) -> Param:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("must have integers of at most 64 bits")
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("cannot have text with a NUL in it")
        _check_unicode(value)
    if value is not None and not isinstance(value, (bool, int, float, str, bytes)):
        raise ValueError(f"{_PARAMS}, and {type(value).__name__} is none: write it as text")
    return value


def _check_unicode(text: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("cannot have text that is not Unicode")


def _parse_params(text: str) -> list[Any]:
    values = json.loads(text)
    if not isinstance(values, list):
        raise Rewrite(json.dumps([values]))
    return values


def _split(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(SPLITS)
    split_limits(value)
    return value


CONDITION = optional(Kind(_condition))
PARAMS = optional(
    Kind(_params, "list of values", _parse_params, "a list in JSON, such as '[3, \"train\"]'"), ()
)

SPLIT = optional(Kind(_split))
SAMPLING = optional(
    Kind(
        check_sampling,
        '"balanced", Balanced, Weighted or ClassBatch',
        parse_sampling,
        "balanced, or a call such as 'Weighted(\"column\")'",
    )
)

# ---- shards --------------------------------------------------------------------------------------

_SHARD = (
    "must be (index, count) with an index from 0 to count - 1, a tf.distribute.InputContext, or "
    "one of the modules torch.distributed and jax"
)


def _shard(value: Any) -> tuple[int, int]:
    """Return index and count, asking the framework's object where one is given."""
    if hasattr(value, "input_pipeline_id"):
        value = value.input_pipeline_id, value.num_input_pipelines
    elif hasattr(value, "process_index"):
        value = value.process_index(), value.process_count()
    elif hasattr(value, "get_rank"):
        if not value.is_initialized():
            raise ValueError("has no process group: call init_process_group first")
        value = value.get_rank(), value.get_world_size()
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(_SHARD)
    count = integer(1, 1_000_000, _SHARD).check(value[1])
    return integer(0, count - 1, _SHARD).check(value[0]), count


def _parse_shard(text: str) -> tuple[int, int]:
    index, count = map(int, text.split("/"))
    return index, count


SHARD = optional(
    Kind(
        _shard,
        "(int, int), tf.distribute.InputContext or module",
        _parse_shard,
        "INDEX/COUNT, with INDEX from 0 to COUNT - 1",
    ),
    (0, 1),
)

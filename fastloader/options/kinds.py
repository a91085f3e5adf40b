"""The kinds of options: what each takes as an argument, and how it is written in a variable."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .labels import TEXT, split_label


@dataclass(frozen=True)
class Kind:
    """How the values of an option are checked and read.

    check: returns the value as the configuration keeps it; raises ValueError or TypeError with the
        end of a sentence that begins with the option's name.
    parse: a variable's text to what an argument would be.
    wanted: what the text has to be, for the error.
    optional: whether "none" and "auto" in a variable stand for None.
    """

    check: Callable[[Any], Any]
    parse: Callable[[str], Any] = str
    wanted: str = "text"
    optional: bool = False


def optional(kind: Kind, default: Any = None) -> Kind:
    """The kind, or None, which stands for ``default``."""

    def check(value: Any) -> Any:
        return default if value is None else kind.check(value)

    return Kind(check, kind.parse, kind.wanted, optional=True)


# ---- text ----------------------------------------------------------------------------------------


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("must be a name")
    return value


def _names(value: Any) -> str | tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):  # a set has no order
        return _name(value)
    names = tuple(_name(item) for item in value)
    if not names or len(set(names)) != len(names):
        raise ValueError("must name at least one column and none of them twice")
    return names


def _label(value: Any) -> str | tuple[str, ...]:
    labels = _names(value)
    columns = [split_label(name)[0] for name in ([labels] if isinstance(labels, str) else labels)]
    if len(set(columns)) != len(columns):
        raise ValueError("must name at least one column and none of them twice")
    return labels


def _weight(value: Any) -> str:
    name = _name(value)
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


_MODULES = 'must be the name of a module, such as "package.module", or a list of them'


def _split_names(text: str) -> str | list[str]:
    names = [part.strip() for part in text.split(",")]
    return names if len(names) > 1 else names[0]


def _path(value: Any) -> str:
    return _name(os.fspath(value))


NAME = Kind(_name)
PATH = Kind(_path)
NAMES = Kind(_names, _split_names)
MODULES = optional(Kind(_modules, _split_names, "names of modules"), ())
LABEL = optional(Kind(_label, _split_names))
WEIGHT = optional(Kind(_weight))


def choice(*values: str) -> Kind:
    shown = ", ".join(f'"{value}"' for value in values[:-1]) + f' or "{values[-1]}"'

    def check(value: Any) -> str:
        if value not in values:
            raise ValueError(f"must be {shown}")
        return str(value)

    return Kind(check)


# ---- numbers -------------------------------------------------------------------------------------


def integer(low: int, high: int, message: str = "") -> Kind:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(message or f"must be an integer from {low} to {high}")
        if not low <= value.__index__() <= high:
            raise ValueError(message or f"must be from {low} to {high}")
        return int(value.__index__())

    return Kind(check, int, "an integer")


def number(least: float, most: float, message: str) -> Kind:
    """Reals above ``least``, up to ``most``."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(message)
        if not least < value <= most:
            raise ValueError(message)
        return float(value)

    return Kind(check, float, "a number")


def _channels(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in (1, 3):
        raise ValueError("must be 3 (RGB) or 1 (luma)")
    return value


CHANNELS = Kind(_channels, int, "3 or 1")

SECONDS = number(0, 1e6, "must be a number of seconds, more than 0")


def numbers(count: int, kind: Kind, message: str, *, ascending: bool = False) -> Kind:
    """So many of them as a tuple; a single one stands for all, unless they are a range."""

    def check(value: Any) -> tuple[Any, ...]:
        value = _plain(value)
        try:
            if not ascending and isinstance(value, (int, float)):
                return (kind.check(value),) * count
            values = tuple(kind.check(_plain(item)) for item in value)
        except (ValueError, TypeError):
            raise ValueError(message) from None
        if isinstance(value, str) or len(values) != count:
            raise ValueError(message)
        if ascending and list(values) != sorted(values):
            raise ValueError(message)
        return values

    def parse(text: str) -> Any:
        parts = [kind.parse(part) for part in text.split(",")]
        return parts[0] if len(parts) == 1 else parts

    return Kind(check, parse, f"{count} numbers with commas between them")


def _plain(value: Any) -> Any:
    """A NumPy array's numbers, or the value itself."""
    return value.tolist() if hasattr(value, "tolist") else value


_SIDES = "must be (height, width), both from 1 to 65535"


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(_SIDES)
    height, width = (integer(1, 65535, _SIDES).check(side) for side in value)
    return height, width


def _parse_size(text: str) -> tuple[int, ...]:
    return tuple(int(side) for side in text.lower().replace("x", ",").split(","))


SIZE = Kind(_size, _parse_size, "HEIGHTxWIDTH")

_LEVELS = "must be (red, green, blue), each from 0 to 255"
COLOUR = numbers(3, integer(0, 255), _LEVELS)

SHARES = numbers(
    2,
    number(0, 1, ""),
    "must be (least, greatest) share of the picture's area, more than 0 and up to 1",
    ascending=True,
)
PROPORTIONS = numbers(
    2,
    number(math.nextafter(1e-3, 0), 1e3, ""),
    "must be (least, greatest) width / height, from 0.001 to 1000",
    ascending=True,
)
MEAN = numbers(
    3,
    number(math.nextafter(0, -1), 1, ""),
    "must be a number, or one for each of red, green and blue, from 0 to 1: levels are divided by "
    "255 first",
)
STD = numbers(
    3,
    number(math.nextafter(1e-6, 0), 1, ""),
    "must be a number, or one for each of red, green and blue, from 0.000001 to 1: levels are "
    "divided by 255 first",
)

# ---- shards --------------------------------------------------------------------------------------

_SHARD = (
    "must be (index, count) with an index from 0 to count - 1, a tf.distribute.InputContext, or "
    "one of the modules torch.distributed and jax"
)


def _shard(value: Any) -> tuple[int, int]:
    """Which part, of how many. Whoever knows may be given in place of the numbers."""
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


SHARD = optional(Kind(_shard, _parse_shard, "INDEX/COUNT, from 0/COUNT on"), (0, 1))

# ---- flags ---------------------------------------------------------------------------------------


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

FLAG = Kind(_flag, lambda text: _FLAGS[text.lower()], "1 or 0")


def _dtype(value: Any) -> str:
    """Also what NumPy, TensorFlow and PyTorch call their types, such as ``np.float32``."""
    name = getattr(value, "__name__", None) or getattr(value, "name", None) or str(value)
    name = name.removeprefix("torch.")
    if name not in ("uint8", "float32", "float16", "bfloat16"):
        raise ValueError('must be "uint8", "float32", "float16" or "bfloat16"')
    if name == "bfloat16":
        try:
            import ml_dtypes  # noqa: F401
        except ImportError:
            raise ValueError(
                "needs the package ml_dtypes, which gives NumPy this type: pip install ml_dtypes"
            ) from None
    return str(name)


DTYPE = Kind(_dtype)

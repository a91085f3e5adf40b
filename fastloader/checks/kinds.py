"""Kinds of values that options have: how each is checked, and how it is written in a variable.

A kind knows nothing of particular options; whatever declares an option gives it its kind.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


class Rewrite(ValueError):
    """A text does not stand for a value, and the message is another text that probably does."""


@dataclass(frozen=True)
class Kind:
    """How the values of an option are checked, read and named.

    Attributes
    ----------
    check
        Returns the value as the configuration keeps it. Raises ValueError or TypeError with the end
        of a sentence that begins with the option's name: "must be True or False".
    type
        The values in documentation, as NumPy's docstrings write them: "int or None".
    parse
        Turns a variable's text into what an argument would be. Raises ValueError or KeyError, or
        :class:`Rewrite`.
    written
        What the text must be, for the error: "an integer".
    optional
        Whether the texts "none" and "auto" stand for None.
    """

    check: Callable[[Any], Any]
    type: str = "str"
    parse: Callable[[str], Any] = str
    written: str = "text"
    optional: bool = False


def optional(kind: Kind, default: Any = None) -> Kind:
    """Return a kind that also takes None and keeps ``default`` in its place."""

    def check(value: Any) -> Any:
        return default if value is None else kind.check(value)

    return Kind(check, either(kind.type, "None"), kind.parse, kind.written, optional=True)


def either(types: str, another: str) -> str:
    """Add a type to a list in words: "str or path" and "None" make "str, path or None"."""
    return f"{types.replace(' or ', ', ')} or {another}"


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
        raise ValueError(SOME_NAMES)
    return names


SOME_NAMES = "must name at least one column, and none of them twice"


def split_names(text: str) -> str | list[str]:
    """Return the names in a variable's text, which commas separate."""
    names = [part.strip() for part in text.split(",")]
    return names if len(names) > 1 else names[0]


def _path(value: Any) -> str:
    return _name(os.fspath(value))


def _folder(value: Any) -> str:
    # Workers and the nodes of a cluster may have another working directory.
    return os.path.abspath(_path(value))


NAME = Kind(_name)
PATH = Kind(_path, "str or path")
FOLDER = Kind(_folder, "str or path")
NAMES = Kind(_names, "str or list of str", split_names)


def choice(*values: str) -> Kind:
    """Return the kind of strings that are one of ``values``."""
    quoted = [f'"{value}"' for value in values]
    message = f"must be {' or '.join(filter(None, [', '.join(quoted[:-1]), quoted[-1]]))}"

    def check(value: Any) -> str:
        if value not in values:
            raise ValueError(message)
        return str(value)

    return Kind(check, f"{{{', '.join(quoted)}}}")


# ---- numbers -------------------------------------------------------------------------------------


def integer(low: int, high: int, message: str = "") -> Kind:
    """Return the kind of integers from ``low`` to ``high``, both included."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ValueError(message or f"must be an integer from {low} to {high}")
        if not low <= value.__index__() <= high:
            raise ValueError(message or f"must be from {low} to {high}")
        return int(value.__index__())

    return Kind(check, "int", int, "an integer")


def number(least: float, most: float, message: str, *, open_below: bool = False) -> Kind:
    """Return the kind of real numbers from ``least``, or above it if ``open_below``, to ``most``.

    The least one above 0 is no way to say this: in a thread of TensorFlow it equals 0.
    """

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(message)
        if not least <= value <= most or (open_below and value == least):
            raise ValueError(message)
        return float(value)

    return Kind(check, "float", float, "a number")


def _channels(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value not in (1, 3):
        raise ValueError("must be 3 (RGB) or 1 (luma)")
    return value


CHANNELS = Kind(_channels, "{3, 1}", int, "3 or 1")
FRACTION = number(0, 1, "must be more than 0 and up to 1", open_below=True)
SECONDS = number(0, 1e6, "must be a number of seconds, more than 0", open_below=True)


def numbers(count: int, kind: Kind, message: str) -> Kind:
    """Return the kind of tuples of ``count`` numbers; a single number stands for all of them."""

    def check(value: Any) -> tuple[Any, ...]:
        value = _plain(value)
        values = [value] * count if isinstance(value, (int, float)) else value
        return _tuple_of(count, kind, values, message)

    return Kind(
        check,
        f"{kind.type} or {_tuple_type(count, kind)}",
        _parse_numbers(kind),
        f"{count} numbers with commas between them",
    )


def interval(kind: Kind, message: str) -> Kind:
    """Return the kind of pairs of numbers of which the first is not greater than the second."""

    def check(value: Any) -> tuple[Any, ...]:
        low, high = _tuple_of(2, kind, _plain(value), message)
        if low > high:
            raise ValueError(message)
        return low, high

    return Kind(
        check, _tuple_type(2, kind), _parse_numbers(kind), "2 numbers with commas between them"
    )


def _tuple_of(count: int, kind: Kind, values: Any, message: str) -> tuple[Any, ...]:
    try:
        checked = tuple(kind.check(_plain(item)) for item in values)
    except (ValueError, TypeError):
        raise ValueError(message) from None
    if isinstance(values, str) or len(checked) != count:
        raise ValueError(message)
    return checked


def _tuple_type(count: int, kind: Kind) -> str:
    return f"({', '.join([kind.type] * count)})"


def _parse_numbers(kind: Kind) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        parts = [kind.parse(part) for part in text.split(",")]
        return parts[0] if len(parts) == 1 else parts

    return parse


def _plain(value: Any) -> Any:
    """Return the numbers of a NumPy array, or the value itself."""
    return value.tolist() if hasattr(value, "tolist") else value


_SIDES = "must be (height, width), both from 1 to 65535"


def _size(value: Any) -> tuple[int, int]:
    if type(value) is int and 1 <= value <= 65535:
        raise ValueError(f"{_SIDES}: for a square, write ({value}, {value})")
    if isinstance(value, str) or not hasattr(value, "__len__") or len(value) != 2:
        raise ValueError(_SIDES)
    height, width = (integer(1, 65535, _SIDES).check(side) for side in value)
    return height, width


def _parse_size(text: str) -> tuple[int, ...]:
    sides = tuple(int(side) for side in text.lower().replace("x", ",").split(","))
    if len(sides) == 1:
        raise Rewrite(f"{text}x{text}")
    return sides


SIZE = Kind(_size, "(int, int)", _parse_size, "HEIGHTxWIDTH")


def _shape(value: Any) -> tuple[int, ...]:
    sizes = (value,) if type(value) is int else tuple(value)
    if isinstance(value, str) or len(sizes) > 6:
        raise ValueError("must be up to 6 sizes, such as (3, 4)")
    return tuple(integer(0, 2**31 - 1, "must be sizes of at least 0").check(n) for n in sizes)


SHAPE = Kind(_shape, "tuple of int", lambda text: [int(n) for n in text.split(",")], "sizes")
COLOR = numbers(3, integer(0, 255), "must be (red, green, blue), each from 0 to 255")

SHARES = interval(
    FRACTION, "must be (least, greatest) share of the image's area, more than 0 and up to 1"
)
PROPORTIONS = interval(
    number(1e-3, 1e3, ""),
    "must be (least, greatest) width / height, from 0.001 to 1000",
)
MEAN = numbers(
    3,
    number(0, 1, ""),
    "must be a number, or one for each of red, green and blue, from 0 to 1: levels are divided by "
    "255 first",
)
STD = numbers(
    3,
    number(1e-6, 1, ""),
    "must be a number, or one for each of red, green and blue, from 0.000001 to 1: levels are "
    "divided by 255 first",
)

# ---- flags and types -----------------------------------------------------------------------------


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be True or False")
    return value


_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

FLAG = Kind(_flag, "bool", lambda text: _FLAGS[text.lower()], "1 or 0")

_DTYPES = choice("uint8", "float32", "float16", "bfloat16")


def _dtype(value: Any) -> str:
    """Return the name of a type, which may be NumPy's, TensorFlow's or PyTorch's own object."""
    name = getattr(value, "__name__", None) or getattr(value, "name", None) or str(value)
    name = _DTYPES.check(name.removeprefix("torch."))
    if name == "bfloat16":
        try:
            import ml_dtypes  # noqa: F401
        except ImportError:
            raise ValueError(
                "needs the package ml_dtypes, which gives NumPy this type: pip install ml_dtypes"
            ) from None
    return str(name)


DTYPE = Kind(_dtype, f"{_DTYPES.type} or dtype")


NUMBERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
           "float16", "float32", "float64")  # fmt: skip
"""The names of the types of numbers that a batch can hold."""


def number_type(value: Any) -> str:
    """Return the name of a type of numbers, or "text". Raises ValueError."""
    name = getattr(value, "__name__", None) or getattr(value, "name", None) or str(value)
    with contextlib.suppress(TypeError):
        name = name if name == "text" else np.dtype(name).name
    if name not in (*NUMBERS, "text"):
        raise ValueError("must be bool, text, or an integer or float type of NumPy's, as int32")
    return str(name)


NUMBERS_OR_TEXT = Kind(number_type, "str or dtype")

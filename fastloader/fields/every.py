"""All kinds of fields by their names, for files and messages that name them."""

from __future__ import annotations

from ..errors import ConfigError
from .array import Array
from .bytes import Bytes
from .category import Category
from .field import Field
from .image import Image
from .json import Json
from .number import Number
from .text import Text
from .value import Value

KINDS: dict[str, type[Field]] = {
    kind.__name__: kind for kind in (Image, Number, Category, Text, Array, Json, Bytes, Value)
}


def kind_named(name: str) -> type[Field]:
    """Return the class of fields with this name. Raises ConfigError if there is none."""
    if name not in KINDS:
        raise ConfigError(f"no kind of field {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]

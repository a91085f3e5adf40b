"""The label option's way to name a column and its type: ``"column:dtype"``."""

from __future__ import annotations

import re

from ..checks.kinds import number_type
from ..errors import ConfigError
from ..fields.columns import TEXT_DTYPE

TEXT = TEXT_DTYPE
"""The type of a column of strings."""

_NAME_AND_DTYPE = re.compile(r"(?P<name>.+):(?P<dtype>[a-z]+[0-9]*)", re.DOTALL)


def split_label(label: str) -> tuple[str, str | None]:
    """Split ``"column:dtype"`` into the column's name and the type, None where there is none.

    Raises
    ------
    ConfigError
        The type is not one that a label can have.
    """
    match = _NAME_AND_DTYPE.fullmatch(label)
    if match is None:
        return label, None
    name, dtype = match["name"], match["dtype"]
    try:
        return name, number_type(dtype)
    except ValueError:
        raise ConfigError(
            f"label {label!r}: {dtype!r} cannot be the type of a label; use bool, text or a "
            f"NumPy integer or float type such as int32 or float32"
        ) from None

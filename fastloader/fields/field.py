"""What a field is: an entry of a batch, the database column that it reads, and how it is decoded.

Each kind of field is a class in a module of its own. Its options are the fields of a frozen
dataclass: typed, checked when the object is made, and written once, with their documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, TypeVar, cast

from ..checks import kinds
from ..checks.option import Group, Option, options_of

F = TypeVar("F", bound="Field")

OPTIONS = Group("Fields")
FILES = Group("Files")


def files_option(files: str, values: str) -> Any:
    """Declare the option of a field whose column may hold the paths of ``files``."""
    return FILES.option(
        None,
        kinds.optional(kinds.FOLDER),
        f"The folder of the {files}, if the column holds their paths and not the {values} "
        f"themselves. The paths are relative to this folder, and nothing outside of it is ever "
        f"opened.",
        see="../guides/fields.md#image-files",
    )


@dataclass(frozen=True, repr=False)
class Field:
    """The base of all fields.

    Parameters
    ----------
    column
        The name of the database column. The default is the field's own name in the batch.

    Raises
    ------
    ConfigError
        An option cannot have its value.
    """

    column: str | None = OPTIONS.option(
        None,
        kinds.optional(kinds.NAME),
        "The name of the database column. The default is the field's own name in the batch.",
    )

    def __post_init__(self) -> None:
        kind = type(self).__name__
        for name, option in _options(cast(Any, type(self))).items():
            value = option.check(getattr(self, name), source=f"{kind}: {name}")
            object.__setattr__(self, name, value)

    def named(self: F, name: str) -> F:
        """Return the field with its column filled in; ``name`` is its name in the batch."""
        return self if self.column is not None else replace(self, column=name)

    @property
    def of_column(self) -> str:
        """The name of the database column, of a field that has one."""
        assert self.column is not None
        return self.column

    @property
    def folder(self) -> str | None:
        """The folder of the files whose paths the column holds; None if it holds the values."""
        folder: str | None = getattr(self, "files", None)
        return folder

    @property
    def in_chunk(self) -> str:
        """The name of the field's values in a chunk: that of the column, or of its files."""
        # A NUL is in no name of a column.
        return self.of_column if self.folder is None else f"{self.of_column}\0{self.folder}"

    def options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults, which make an equal field."""
        return {
            one.name: value
            for one in fields(self)
            if (value := getattr(self, one.name)) != _defaults(cast(Any, type(self)))[one.name]
        }

    def __repr__(self) -> str:
        options = self.options()
        column = options.pop("column", None)
        shown = [repr(column)] if column is not None else []
        shown += [f"{name}={value!r}" for name, value in options.items()]
        return f"{type(self).__name__}({', '.join(shown)})"


@cache
def _options(kind: Any) -> dict[str, Option]:
    return options_of(kind)


@cache
def _defaults(kind: Any) -> Mapping[str, Any]:
    """Return the defaults as a field keeps them, which may be other objects than were declared."""
    return {name: option.check(option.default, source=name) for name, option in
            _options(kind).items()}  # fmt: skip

"""What an option is, and how a field of a dataclass declares one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from ..errors import ConfigError
from .kinds import Kind, Rewrite, either

T = TypeVar("T")

PREFIX = "FASTLOADER_"


@dataclass(frozen=True)
class Group:
    """Options that are documented together.

    Attributes
    ----------
    title
        The heading in the documentation.
    per_column
        Whether each option also takes a dict from image columns to values.
    """

    title: str
    per_column: bool = False

    def option(self, default: T, kind: Kind, doc: str, *, shown: str = "", see: str = "") -> T:
        """Declare a field of a dataclass as an option of the group.

        The parameters are attributes of :class:`Option`: ``x: int = GROUP.option(1, ...)``.
        """
        metadata = self.metadata(kind, doc, shown=shown, see=see)
        declared: Any = field(default=default, metadata=metadata)
        return declared  # type: ignore[no-any-return]

    def like(self, declared: type, name: str) -> Any:
        """Declare a field of a dataclass as the option that another dataclass declares.

        Parameters
        ----------
        declared
            The other dataclass.
        name
            The name of its field.
        """
        (there,) = (one for one in fields(declared) if one.name == name)
        return field(default=there.default, metadata={**there.metadata, "group": self})

    def metadata(self, kind: Kind, doc: str, *, shown: str = "", see: str = "") -> dict[str, Any]:
        """Return the metadata of a field that is an option, for a field without a default."""
        return {"kind": kind, "group": self, "doc": doc, "shown": shown, "see": see}


@dataclass(frozen=True)
class Option:
    """A row of the table of options.

    Attributes
    ----------
    name
        The argument's name.
    default
        The value if none is given; ``dataclasses.MISSING`` if one must be given.
    kind
        How values are checked and read.
    group
        The options that it is documented with.
    doc
        One or more sentences about the meaning, with units. Names and values of options are in
        backticks.
    shown
        The default in documentation, where its ``repr`` would mislead.
    see
        A page in docs/, maybe with an anchor, that says more.
    """

    name: str
    default: Any
    kind: Kind
    group: Group
    doc: str
    shown: str = ""
    see: str = ""

    @property
    def variable(self) -> str:
        """The environment variable that sets the option."""
        return PREFIX + self.name.upper()

    @property
    def argument(self) -> str:
        """The argument of the command line that sets the option."""
        return "--" + self.name.replace("_", "-")

    @property
    def type(self) -> str:
        """The type of the values in documentation."""
        return either(self.kind.type, "dict") if self.group.per_column else self.kind.type

    @property
    def default_text(self) -> str:
        """The default in documentation; empty if a value must be given."""
        if self.default is MISSING:
            return ""
        shown = f'"{self.default}"' if isinstance(self.default, str) else repr(self.default)
        return self.shown or shown

    def check(self, value: Any, *, source: str) -> Any:
        """Return a value as the configuration keeps it.

        Parameters
        ----------
        value
            An argument, or what :meth:`parse` returned.
        source
            Where the value comes from, for the error: the name of an argument or of a variable.

        Raises
        ------
        ConfigError
            The option cannot have this value.
        """
        if isinstance(value, np.generic):
            value = value.item()
        try:
            if self.group.per_column and isinstance(value, Mapping):
                return {column: self.kind.check(item) for column, item in value.items()}
            return self.kind.check(value)
        except (ValueError, TypeError) as error:
            # A URL that cannot be parsed is not shown: its password could be anywhere in it.
            shown = "" if isinstance(value, str) and self.name == "url" else f"={value!r}"
            raise ConfigError(f"{source}{shown} {error}") from None

    def parse(self, text: str, *, source: str) -> Any:
        """Return the value that a text stands for, as an argument would have it, unchecked.

        Parameters
        ----------
        text
            The value of a variable, or of an argument of the command line.
        source
            The name of that variable or argument, for the error.

        Raises
        ------
        ConfigError
            The text does not stand for a value.
        """
        text = text.strip()
        if self.kind.optional and text.lower() in ("none", "auto"):
            return None
        try:
            return self.kind.parse(text)
        except ConfigError:  # of a file that the text names
            raise
        except (ValueError, KeyError) as error:
            hint = f": write {error}" if isinstance(error, Rewrite) else ""
            raise ConfigError(f"{source}={text!r} must be {self.kind.written}{hint}") from None


def options_of(table: type) -> dict[str, Option]:
    """Return the options that a dataclass declares, by name, in their order."""
    return {one.name: Option(one.name, one.default, **one.metadata) for one in fields(table)}

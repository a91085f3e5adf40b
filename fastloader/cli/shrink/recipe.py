"""The options of shrink that decide on the rows, and how the new table remembers them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ...fields import _kernel
from ..command import CommandError

FORMAT = 1
"""Changes whenever the same options make other rows than before."""

MARK = "fastloader shrink"
"""How a note begins."""


@dataclass(frozen=True)
class Recipe:
    """What decides on the rows of a shrunk table.

    Attributes
    ----------
    source
        The database and the table that the rows are from.
    key, image, columns
        The names of the key columns, of the image column, and of the others; "*" for all others.
    side
        The length in pixels to which the short side of an image shrinks.
    quality
        The quality of the JPEGs.
    colors
        "keep", or "srgb" for applying color profiles.
    background
        What alpha is composed over, or None.
    bad_rows
        "leave" or "copy".
    libraries
        What decodes and encodes, with versions.
    format
        See :data:`FORMAT`.
    """

    source: str
    key: tuple[str, ...]
    image: str
    columns: tuple[str, ...]
    side: int
    quality: int
    colors: str
    background: tuple[int, int, int] | None
    bad_rows: str
    libraries: str
    format: int = FORMAT

    @property
    def note(self) -> str:
        """The recipe as text, to be kept with the table."""
        return f"{MARK} {json.dumps(asdict(self))}"

    def check(self, note: str | None, place: str, *, mix_versions: bool) -> None:
        """Check that a table that exists has been made by the same recipe.

        Parameters
        ----------
        note
            What is kept with the table.
        place
            The table, for messages.
        mix_versions
            Whether other libraries may have made the rows that are there.

        Raises
        ------
        CommandError
            If it has not.
        """
        found = _read(note)
        if found is None:
            raise CommandError(
                f"{place}: the table already exists, and shrink has not made it; name another one "
                f"with --into"
            )
        wanted = json.loads(json.dumps(asdict(self)))
        for its in fields(self):
            name = its.name
            if found.get(name) == wanted[name]:
                continue
            if name in ("libraries", "format"):
                if mix_versions:
                    continue
                raise CommandError(
                    f"{place}: the rows that are there were made by another version "
                    f"({name} {found.get(name)}, now {wanted[name]}), so the new ones could differ "
                    f"slightly. Pass --mix-versions to add them even so, or drop the table and run "
                    f"it again"
                )
            what = {"columns": "other columns", "key": "--key", "image": "--image"}.get(
                name, "source" if name == "source" else "--" + name.replace("_", "-")
            )
            raise CommandError(
                f"{place}: the table was made with {what} {_shown(found.get(name))}, and this is "
                f"{_shown(wanted[name])}; repeat the same command to resume, or name another table "
                f"with --into"
            )


def libraries() -> str:
    """Return the versions of what decodes and encodes."""
    return _kernel.libraries


def _read(note: str | None) -> dict[str, Any] | None:
    """Return the recipe in a note, or None if it is not one."""
    if note is None or not note.startswith(MARK):
        return None
    try:
        found = json.loads(note.removeprefix(MARK))
    except (ValueError, RecursionError):  # anybody may have written it
        return None
    return found if isinstance(found, dict) else None


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "none" if value is None else str(value)

"""Write the documentation that is made of the table of options.

``python tools/options_table.py`` writes the parameters in the docstrings of ``FastLoader`` and of
the fields, and the tables of docs/reference/options.md. ``--check`` writes nothing: it names the
files that are not current and ends with 1 if there are any.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from fastloader import Array, Bytes, Category, Image, Json, Number, Text
from fastloader.checks.option import Option, options_of
from fastloader.options.table import OPTIONS

ROOT = Path(__file__).resolve().parent.parent
LOADER = ROOT / "fastloader" / "loader.py"
FIELDS = ROOT / "fastloader" / "fields"
PAGE = ROOT / "docs" / "reference" / "options.md"


def parameters(options: Mapping[str, Option]) -> str:
    """Return the entries of a docstring's "Parameters" section, in NumPy's style."""
    lines = []
    for option in options.values():
        default = f", default {option.default_text}" if option.default_text else ""
        lines.append(f"    {option.name} : {option.type}{default}")
        indent = " " * 8
        lines += textwrap.wrap(
            option.doc,
            100,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines) + "\n"


def tables() -> str:
    """Return a table in Markdown for each group of options."""
    parts = []
    for group, options in groupby(OPTIONS.values(), lambda option: option.group):
        note = "Each of these can also be a dict from image columns to values.\n\n"
        parts.append(
            f"## {group.title}\n\n"
            f"{note if group.per_column else ''}"
            "| option | values | meaning |\n"
            "| --- | --- | --- |\n" + "".join(map(_row, options))
        )
    return "\n".join(parts)


def _row(option: Option) -> str:
    default = f"<br>default `{option.default_text}`" if option.default_text else ""
    return (
        f"| `{option.name}`<br>`{option.variable}` | `{option.kind.type}`{default} "
        f"| {option.doc}{_link(option.see)} |\n"
    )


def _link(see: str) -> str:
    """Return " See [cache](cache.md)." for "cache.md"."""
    page, _, anchor = see.partition("#")
    words = (anchor or Path(page).stem).replace("-", " ")
    return f" See [{words}]({see})." if see else ""


def between(text: str, start: str, end: str, new: str) -> str:
    """Return the text with ``new`` in place of what is between two marks, which stay."""
    head, start, rest = text.partition(start)
    _, end, tail = rest.partition(end)
    if not start or not end:
        raise SystemExit("a mark is missing that says where the options are")
    return head + start + new + end + tail


def written() -> dict[Path, str]:
    """Return the files as they must be."""
    section = "    Parameters\n    ----------\n", "\n    Raises\n    ------\n"
    marks = "<!-- made by tools/options_table.py: -->\n\n", "\n<!-- end -->\n"
    made = {
        FIELDS / f"{kind.__name__.lower()}.py": options_of(kind)
        for kind in (Image, Number, Category, Text, Array, Json, Bytes)
    }
    return {
        LOADER: between(LOADER.read_text(), *section, parameters(OPTIONS)),
        **{path: between(path.read_text(), *section, parameters(of)) for path, of in made.items()},
        PAGE: between(PAGE.read_text(), *marks, tables()),
    }


def main() -> int:
    """Write or check the files."""
    stale = [path for path, text in written().items() if path.read_text() != text]
    for path in stale:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.write_text(written()[path])
    return 1 if stale and "--check" in sys.argv else 0


if __name__ == "__main__":
    raise SystemExit(main())

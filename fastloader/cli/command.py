"""What the commands share: how they end, the loader's options as arguments, bars on a terminal."""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..errors import FastloaderError
from ..options.config import Config, parse_option

T = TypeVar("T")

DONE = 0
FOUND = 1
USAGE = 2
DATABASE = 3
MACHINE = 4
BUG = 70
INTERRUPTED = 130

EXIT_CODES = {
    DONE: "done",
    FOUND: "done, and something is wrong with the data or the machine, as the command has said",
    USAGE: "an argument or an option cannot be used",
    DATABASE: "the database said no, or the table's keys cannot be planned",
    MACHINE: "a file, memory or a package is missing, or may not be used",
    BUG: "a bug in fastloader; -v shows the traceback",
    INTERRUPTED: "interrupted with Ctrl-C",
}


class CommandError(FastloaderError):
    """A command cannot go on. One line says why and what to do; ``code`` is one of EXIT_CODES."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Outcome:
    """What a command has found.

    text: for people, printed as it is. data: for ``--json``, printed in its place.
    code: one of EXIT_CODES.
    """

    text: str
    data: dict[str, Any] = field(default_factory=dict)
    code: int = DONE


class Command(Protocol):
    """A subcommand. Its class's docstring is its help: the first line in the list of commands, all
    of it in its own ``--help``."""

    name: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Beside ``--json`` and ``-v``, which all have."""

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Raises CommandError, or any other FastloaderError."""


# ---- the loader's options ------------------------------------------------------------------------


def add_loader_arguments(parser: argparse.ArgumentParser, *, but: Iterable[str] = ()) -> None:
    """``url``, and ``--batch-size`` for ``batch_size`` and so on, written as in their environment
    variables. but: options that the command has no use for, or sets itself."""
    parser.add_argument(
        "url",
        nargs="?",
        help="of the database: sqlite:///photos.db, or a path, or postgresql://user@host/database; "
        "without it, that of FASTLOADER_URL",
    )
    group = parser.add_argument_group(
        "options of the loader",
        "As FastLoader's arguments, written as in the environment variables FASTLOADER_..., over "
        "which they win.",
    )
    meanings = _meanings()
    for option in fields(Config):
        if option.name == "url" or option.name in but:
            continue
        is_flag = isinstance(option.default, bool)
        group.add_argument(
            "--" + option.name.replace("_", "-"),
            dest=f"option_{option.name}",
            metavar="1|0" if is_flag else "X",
            help=meanings[option.name].replace("%", "%%"),
            **({"nargs": "?", "const": "1"} if is_flag else {}),  # type: ignore[arg-type]
        )


def loader_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What :func:`add_loader_arguments` has taken, for FastLoader. Raises ConfigError."""
    options = {
        name: parse_option(name, text, "--" + name.replace("_", "-"))
        for option in fields(Config)
        if (text := getattr(arguments, f"option_{(name := option.name)}", None)) is not None
    }
    return options if arguments.url is None else {"url": arguments.url, **options}


def _meanings() -> dict[str, str]:
    """What Config's docstring says of each option."""
    found: dict[str, str] = {}
    entry = r"^((?:\w+, )*\w+): (.*?)(?=^(?:\w+, )*\w+: |^$|\Z)"
    for names, text in re.findall(entry, inspect.getdoc(Config) or "", re.MULTILINE | re.DOTALL):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


# ---- files and progress --------------------------------------------------------------------------


def output_path(text: str) -> Path:
    """For argparse: a file that is to be written, whose folder is there."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}; make it first")
    return path


def output_of(*suffixes: str) -> Callable[[str], Path]:
    """For argparse: as :func:`output_path`, with a suffix that says one of these formats."""

    def path_of(text: str) -> Path:
        path = output_path(text)
        if path.suffix.lower() not in suffixes:
            known = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
            raise argparse.ArgumentTypeError(f"{text} must end in {known}, which says the format")
        return path

    return path_of


image_path = output_of(".png", ".jpg", ".jpeg", ".webp")
plot_path = output_of(".png", ".svg", ".pdf")


def progress(
    steps: Iterable[T], doing: str, *, total: int | None = None, unit: str = "it"
) -> Iterator[T]:
    """The steps, with a bar on a terminal once they have taken a second."""
    from tqdm import tqdm

    silent = not (sys.stdout.isatty() and sys.stderr.isatty())
    unit = f" {unit}"
    yield from tqdm(steps, doing, total, unit=unit, delay=1.0, disable=silent, leave=False)


def table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Plain text; the first column is aligned to the left and the others to the right."""
    lines = [[*map(str, headers)], *([*map(str, row)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def size_text(count: float) -> str:
    """So many bytes, with three digits: 84.2 kB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

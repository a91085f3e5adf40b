"""The parts that commands share: exit codes, the loader's options as arguments, progress bars."""

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
    DATABASE: "the database refused, or the table's keys cannot be planned",
    MACHINE: "a file, memory or a package is missing, or its use is not permitted",
    BUG: "a bug in fastloader; -v shows the traceback",
    INTERRUPTED: "interrupted with Ctrl-C",
}


class CommandError(FastloaderError):
    """A command cannot continue.

    Parameters
    ----------
    message
        Why, and what to do about it, on one line.
    code
        The exit code, one of EXIT_CODES.
    """

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Outcome:
    """The result of a command.

    Attributes
    ----------
    text
        The result for people, printed as it is.
    data
        The same for ``--json``, printed instead.
    code
        The exit code, one of EXIT_CODES.
    """

    text: str
    data: dict[str, Any] = field(default_factory=dict)
    code: int = DONE


class Command(Protocol):
    """A subcommand.

    The docstring of its class is its help: the list of commands shows the first line, its own
    ``--help`` shows all of it.
    """

    name: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add all arguments but ``--json`` and ``-v``, which every command has."""

    def run(self, arguments: argparse.Namespace) -> Outcome:
        """Run the command.

        Raises
        ------
        FastloaderError
            If it cannot do its work, for example as a CommandError.
        """


# ---- the loader's options ------------------------------------------------------------------------


def add_loader_arguments(parser: argparse.ArgumentParser, *, but: Iterable[str] = ()) -> None:
    """Add ``url`` and the options of the loader, for example ``--batch-size`` for ``batch_size``.

    Values are written as in the environment variables.

    Parameters
    ----------
    but
        Options that the command does not need, or sets itself.
    """
    parser.add_argument(
        "url",
        nargs="?",
        help="of the database: sqlite:///photos.db, a path, or postgresql://user@host/database; "
        "default: FASTLOADER_URL",
    )
    group = parser.add_argument_group(
        "options of the loader",
        "The arguments of FastLoader. Values are written as in the environment variables "
        "FASTLOADER_..., which they override.",
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
    """Return the options that :func:`add_loader_arguments` has parsed, for FastLoader.

    Raises
    ------
    ConfigError
        If a value cannot be used. The message names the argument.
    """
    options = {
        name: parse_option(name, text, "--" + name.replace("_", "-"))
        for option in fields(Config)
        if (text := getattr(arguments, f"option_{(name := option.name)}", None)) is not None
    }
    return options if arguments.url is None else {"url": arguments.url, **options}


def _meanings() -> dict[str, str]:
    """Return the description of each option from Config's docstring."""
    found: dict[str, str] = {}
    entry = r"^((?:\w+, )*\w+): (.*?)(?=^(?:\w+, )*\w+: |^$|\Z)"
    for names, text in re.findall(entry, inspect.getdoc(Config) or "", re.MULTILINE | re.DOTALL):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


# ---- files and progress --------------------------------------------------------------------------


def output_path(text: str) -> Path:
    """Parse the path of a file to write, for argparse. Its folder has to exist."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"no folder {path.parent}; create it first")
    return path


def output_of(*suffixes: str) -> Callable[[str], Path]:
    """Return a parser like :func:`output_path` that accepts only these suffixes."""

    def path_of(text: str) -> Path:
        path = output_path(text)
        if path.suffix.lower() not in suffixes:
            known = f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
            raise argparse.ArgumentTypeError(
                f"{text} must end in {known}; the suffix chooses the format"
            )
        return path

    return path_of


image_path = output_of(".png", ".jpg", ".jpeg", ".webp")
plot_path = output_of(".png", ".svg", ".pdf")


def progress(
    steps: Iterable[T], doing: str, *, total: int | None = None, unit: str = "it"
) -> Iterator[T]:
    """Yield the steps, with a progress bar on a terminal once they have taken a second."""
    from tqdm import tqdm

    silent = not (sys.stdout.isatty() and sys.stderr.isatty())
    unit = f" {unit}"
    yield from tqdm(steps, doing, total, unit=unit, delay=1.0, disable=silent, leave=False)


def table(headers: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Format a table as plain text: the first column aligned left, the others right."""
    lines = [[*map(str, headers)], *([*map(str, row)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def size_text(count: float) -> str:
    """Format a number of bytes with three digits, for example "84.2 kB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

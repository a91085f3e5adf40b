"""The parts that commands share: exit codes, the loader's options as arguments, progress bars."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..checks.option import Group, Option
from ..errors import FastloaderError
from ..options.table import OPTIONS
from .words import EXAMPLES, as_typed

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


class _NotHere(argparse.Action):
    """Refuses an option that a command does not take; ``const`` says why."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        parser.error(f"no option {self.option_strings[0]} here: {self.const}")


def add_loader_arguments(
    parser: argparse.ArgumentParser,
    *,
    but: Iterable[str] = (),
    why: str = "this command has no use for it",
) -> None:
    """Add ``url`` and an argument for each other option, such as ``--batch-size``.

    Parameters
    ----------
    parser
        The command's own.
    but
        Names of options that the command has no use for, or sets itself.
    why
        Why it does not take them, for whoever types one.
    """
    url = OPTIONS["url"]
    parser.add_argument(
        "url", nargs="?", help=f"{_plain(url.doc)} [default: the variable {url.variable}]"
    )
    parser.add_argument_group(
        "options of the loader",
        "The arguments of FastLoader. They override the environment variables FASTLOADER_..., and\n"
        "are written as there: 1 and 0 for True and False, none for None, a,b for a list,\n"
        "224x224 for a size, 0.25,1 for other pairs of numbers, 0/8 for a shard.",
    )
    groups: dict[Group, argparse._ArgumentGroup] = {}
    for option in OPTIONS.values():
        if option is url:
            continue
        if option.name in but:
            parser.add_argument(
                option.argument, action=_NotHere, nargs="?", const=why, help=argparse.SUPPRESS
            )
            continue
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group.title.lower())
        is_flag = isinstance(option.default, bool)
        groups[option.group].add_argument(
            option.argument,
            dest=f"option_{option.name}",
            metavar="1|0" if is_flag else "X",
            help=_help(option),
            **({"nargs": "?", "const": "1"} if is_flag else {}),  # type: ignore[arg-type]
        )


NO_CACHE = {"cache": None, "cache_transformed": False, "transform_version": None}
"""The options of a loader without a cache, whatever the environment says."""


def loader_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that :func:`add_loader_arguments` has read, for FastLoader.

    Raises
    ------
    ConfigError
        A text does not stand for a value of its option.
    """
    options = {
        option.name: option.parse(text, source=option.argument)
        for option in OPTIONS.values()
        if (text := getattr(arguments, f"option_{option.name}", None)) is not None
    }
    return options if arguments.url is None else {"url": arguments.url, **options}


def _help(option: Option) -> str:
    """Return the meaning of an option, its default and an example, for argparse."""
    example = f"{option.argument} {EXAMPLES[option.name]}"
    return f"{_plain(option.doc)} [default: {as_typed(option)}; example: {example}]"


def _plain(text: str) -> str:
    return text.replace("`", "").replace("%", "%%")


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

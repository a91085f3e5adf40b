"""The command line ``fastloader``: a list of command objects, which ``fastloader --help`` shows."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

from .._version import __version__
from ..errors import ConfigError, FastloaderError, PlanError, SourceError, StateError
from ..options.spelling import did_you_mean
from ..options.variables import warn_of_unknown_variables
from .check import Check
from .command import (
    BUG,
    DATABASE,
    DONE,
    EXIT_CODES,
    INTERRUPTED,
    MACHINE,
    USAGE,
    Command,
    Outcome,
)
from .doctor.doctor import Doctor
from .ingest.ingest import Ingest
from .measure.bench import Bench
from .measure.tune import Tune
from .plan import PlanCommand
from .preview import Preview
from .shrink.shrink import Shrink
from .words import in_words_of_the_command_line

COMMANDS: list[Command] = [
    Ingest(), Shrink(), PlanCommand(), Check(), Preview(), Bench(), Tune(), Doctor(),
]  # fmt: skip

CODES: list[tuple[tuple[type[FastloaderError], ...], int]] = [
    ((ConfigError, StateError), USAGE),
    ((SourceError, PlanError), DATABASE),
]
"""The exit codes of errors. A CommandError has its own; all other errors have MACHINE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    argv
        The arguments; None for those of the process.

    Returns
    -------
    int
        The exit code, one of ``command.EXIT_CODES``.
    """
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        with _logging(arguments.verbose):
            if not isinstance(arguments.command, Doctor):  # which reports them itself
                warn_of_unknown_variables(stacklevel=1)
            outcome: Outcome = arguments.command.run(arguments)
        text = json.dumps(outcome.data, indent=1) if arguments.json else outcome.text
        print(text, flush=True)
    except BrokenPipeError:  # for example "| head", which has all that it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (Exception, KeyboardInterrupt) as error:
        message, code = _explained(error)
        if code == BUG and arguments.verbose:
            traceback.print_exc()
        if arguments.json:
            print(json.dumps({"error": message, "code": code}), flush=True)
        print(f"fastloader {arguments.command.name}: {message}", file=sys.stderr, flush=True)
        return code
    return outcome.code


def _explained(error: BaseException) -> tuple[str, int]:
    """Return the message and the exit code of an exception."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", MACHINE
    if not isinstance(error, FastloaderError):
        return (
            f"{type(error).__name__}: {error} (a bug in fastloader; see the traceback with -v)",
            BUG,
        )
    code = next((code for kinds, code in CODES if isinstance(error, kinds)), MACHINE)
    return in_words_of_the_command_line(str(error)), getattr(error, "code", code)


@contextlib.contextmanager
def _logging(verbose: int) -> Iterator[None]:
    """Print each warning on one line, with -v also the loader's log, with -vv all of it."""
    logger, handler = logging.getLogger("fastloader"), logging.StreamHandler()
    level, formatwarning = logger.level, warnings.formatwarning
    logger.addHandler(handler)
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    warnings.formatwarning = lambda message, *_: (
        f"warning: {in_words_of_the_command_line(str(message))}\n"
    )
    try:
        yield
    finally:
        warnings.formatwarning = formatwarning
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line with a suggestion, without the usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, after looking for mistyped options.

        argparse itself would take the value of a mistyped option for the URL.
        """
        options = list(self._option_string_actions)
        for word in args or ():
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break  # what follows is for the command's own parser
            name = word.partition("=")[0]
            if (
                name.startswith("--")
                and " " not in name
                and not any(option.startswith(name) for option in options)
            ):
                self.error(f"no option {name}{_suggestion(name, options)}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the message with a suggestion, and exit."""
        if choice := re.search(r"argument COMMAND: invalid choice: '([^']*)'", message):
            names = [command.name for command in COMMANDS]
            message = f"no command {choice[1]!r}{_suggestion(choice[1], names)}"
        print(f"{self.prog}: {message} (see {self.prog} --help)", file=sys.stderr)
        raise SystemExit(USAGE)


def _suggestion(word: str, words: Iterable[str]) -> str:
    dashes = word[: len(word) - len(word.lstrip("-"))]  # which would make short words similar
    hint = did_you_mean(word.lstrip("-"), [one.lstrip("-") for one in words], dashes + "{}")
    return f"; {hint}" if hint else ""


def _usage(parser: argparse.ArgumentParser) -> str:
    """Return the usage of a command in a line: what it needs, and "[OPTION ...]" for the rest."""
    words = [parser.prog, "[OPTION ...]"]
    words += [
        f"{action.option_strings[0]} {action.metavar}"
        for action in parser._actions
        if action.required and action.option_strings
    ]
    for action in parser._get_positional_actions():
        name = str(action.metavar or action.dest).upper()
        words.append(name if action.required else f"[{name}]")
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = _Parser(
        prog="fastloader",
        description="Feeds training with images from a database. The commands fill a table,\n"
        "check it, measure it, and tune the loader to it.",
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastloader {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        text = inspect.getdoc(command) or ""
        sub = commands.add_parser(
            command.name,
            help=text.partition("\n")[0].rstrip("."),
            description=text,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(sub)
        sub.usage = _usage(sub)
        sub.add_argument("--json", action="store_true", help="print a JSON object instead of text")
        sub.add_argument(
            "-v", "--verbose", action="count", default=0, help="print the log; -vv for all of it"
        )
        sub.set_defaults(command=command)
    return parser

"""``fastloader``, the command line: a list of command objects. ``fastloader --help`` shows it."""

from __future__ import annotations

import argparse
import contextlib
import difflib
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

COMMANDS: list[Command] = [Ingest(), PlanCommand(), Check(), Preview(), Bench(), Tune(), Doctor()]

CODES: list[tuple[tuple[type[FastloaderError], ...], int]] = [
    ((ConfigError, StateError), USAGE),
    ((SourceError, PlanError), DATABASE),
]
"""The exit codes of errors; MACHINE is that of all others but a CommandError, which knows its."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code, one of ``command.EXIT_CODES``."""
    arguments = _parser().parse_args(sys.argv[1:] if argv is None else argv)
    try:
        with _speaking(arguments.verbose):
            outcome: Outcome = arguments.command.run(arguments)
        text = json.dumps(outcome.data, indent=1) if arguments.json else outcome.text
        print(text, flush=True)
    except BrokenPipeError:  # "| head" has seen enough
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
    """What to say of an exception, and the exit code."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", INTERRUPTED
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror or error}", MACHINE
    if not isinstance(error, FastloaderError):
        return f"{type(error).__name__}: {error} (a bug in fastloader; -v shows more)", BUG
    code = next((code for kinds, code in CODES if isinstance(error, kinds)), MACHINE)
    return str(error), getattr(error, "code", code)


@contextlib.contextmanager
def _speaking(verbose: int) -> Iterator[None]:
    """Warnings in a line each; with -v what the loader has to say, with -vv all of it."""
    logger, handler = logging.getLogger("fastloader"), logging.StreamHandler()
    level, formatwarning = logger.level, warnings.formatwarning
    logger.addHandler(handler)
    logger.setLevel((logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)])
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = formatwarning
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, with what may have been meant, and not how all is used."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # First, because argparse would take the value of a mistyped option for the URL.
        options = list(self._option_string_actions)
        for word in args or ():
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                break  # the command's own options are for its own parser
            name = word.partition("=")[0]
            if (
                name.startswith("--")
                and " " not in name
                and not any(option.startswith(name) for option in options)
            ):
                self.error(f"there is no option {name}{_meant(name, options)}")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        if choice := re.search(r"argument COMMAND: invalid choice: '([^']*)'", message):
            names = [command.name for command in COMMANDS]
            message = f"there is no command {choice[1]!r}{_meant(choice[1], names)}"
        print(f"{self.prog}: {message} ({self.prog} --help tells more)", file=sys.stderr)
        raise SystemExit(USAGE)


def _meant(word: str, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(words), 1)
    return f"; is {near[0]} meant?" if near else ""


def _parser() -> argparse.ArgumentParser:
    codes = "\n".join(f"  {code:3}  {meaning}" for code, meaning in EXIT_CODES.items())
    parser = _Parser(
        prog="fastloader",
        description="Feeds training from images kept in a database: looks at a table, measures it, "
        "tunes the loader to it.",
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
        sub.add_argument("--json", action="store_true", help="print an object, not a text")
        sub.add_argument(
            "-v", "--verbose", action="count", default=0, help="say more; -vv for all there is"
        )
        sub.set_defaults(command=command)
    return parser

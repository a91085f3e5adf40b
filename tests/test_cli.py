"""The parts that all commands share: help, exit codes, JSON, errors on one line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fastloader import cli
from fastloader.cli.command import (
    EXIT_CODES,
    CommandError,
    Outcome,
    add_loader_arguments,
    loader_options,
)
from fastloader.cli.words import EXAMPLES, as_typed, in_words_of_the_command_line
from fastloader.errors import ConfigError, SourceError, WorkerDied
from fastloader.options.config import Config
from fastloader.options.table import OPTIONS

from .support import simple_rows, table


class Try:
    """Tries something.

    What it tries is up to the test.
    """

    name = "try"

    def __init__(self, run: Any = lambda _: Outcome("all right", {"all": "right"})) -> None:
        self._run = run

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_loader_arguments(parser, but=["mean"])

    def run(self, arguments: argparse.Namespace) -> Outcome:
        return self._run(arguments)


def run(monkeypatch: pytest.MonkeyPatch, body: Any, *argv: str) -> int:
    monkeypatch.setattr(cli, "COMMANDS", [Try(body)])
    return cli.main(["try", *argv])


def options_of(monkeypatch: pytest.MonkeyPatch, *argv: str) -> dict[str, Any]:
    """Return the loader's options as a command gets them."""
    found: dict[str, Any] = {}

    def body(arguments: argparse.Namespace) -> Outcome:
        found.update(loader_options(arguments))
        return Outcome("")

    assert run(monkeypatch, body, *argv) == 0
    return found


def raising(error: BaseException) -> Any:
    def body(_: argparse.Namespace) -> Outcome:
        raise error

    return body


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    text = subprocess.check_output([sys.executable, "-m", "fastloader", "--help"], text=True)
    for command in cli.COMMANDS:
        assert f"    {command.name} " in text
    for code, meaning in EXIT_CODES.items():
        assert f"{code:3}  {meaning}" in text


def test_every_command_says_what_it_does_in_a_line_and_then_in_full() -> None:
    for command in cli.COMMANDS:
        first, blank, rest = (command.__doc__ or "").split("\n", 2)
        assert first.endswith(".")
        assert blank == ""
        assert rest.strip()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("no such option"), 2),
        (CommandError("not like this"), 2),
        (SourceError("no table"), 3),
        (FileNotFoundError(2, "No such file or directory", "there.png"), 4),
        (WorkerDied(1, 2, "was killed", ""), 4),
        (CommandError("nothing there", 1), 1),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("by zero"), 70),
    ],
)
def test_an_error_is_one_line_and_a_code(
    error: BaseException,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, raising(error)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("fastloader try: ")
    assert err.count("\n") == 1
    assert run(monkeypatch, raising(error), "--json") == code
    assert json.loads(capsys.readouterr().out)["code"] == code


def test_a_result_is_a_text_or_an_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(_: argparse.Namespace) -> Outcome:
        return Outcome("two", {"n": 2}, 1)

    assert run(monkeypatch, body) == 1
    assert capsys.readouterr().out == "two\n"
    assert run(monkeypatch, body, "--json") == 1
    assert json.loads(capsys.readouterr().out) == {"n": 2}


def test_every_option_of_the_loader_is_an_argument_with_its_meaning(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        run(monkeypatch, None, "--help")
    text = capsys.readouterr().out
    for option in dataclasses.fields(Config):
        if option.name not in ("url", "mean"):
            assert f"  --{option.name.replace('_', '-')} " in text, option.name
    assert "--mean" not in text
    assert "Mirror half of the rows" in text
    assert "What it tries is up to the test." in text


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "url"])
def test_the_help_of_an_option_has_its_default_and_an_example_as_they_are_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = OPTIONS[name]
    typed, example = as_typed(option), EXAMPLES[name].strip("'")
    monkeypatch.chdir(tmp_path)
    (tmp_path / EXAMPLES["fields"]).write_text('[age]\nkind = "Number"\n')
    for text in (typed, example):
        option.check(option.parse(text, source=name), source=name)
    given = option.check(option.parse(typed, source=name), source=name)
    if name == "ratio":
        assert given == pytest.approx(option.default)
    elif name != "workers":
        assert given == option.default
    assert option.check(option.parse(example, source=name), source=name) != option.default
    parser = argparse.ArgumentParser()
    add_loader_arguments(parser)
    text = "".join(parser.format_help().split())  # a line may end at a hyphen
    shown = f"[default: {typed}; example: {option.argument} {EXAMPLES[name]}]"
    assert shown.replace(" ", "") in text


def test_the_usage_of_a_command_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            cli.main([command.name, "--help"])
        usage, blank, *_ = capsys.readouterr().out.splitlines()
        assert usage.startswith(f"usage: fastloader {command.name} [OPTION ...]")
        assert blank == ""
    with pytest.raises(SystemExit):
        cli.main(["preview", "--help"])
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "usage: fastloader preview [OPTION ...] [URL]"


def test_the_loaders_options_are_read_as_their_variables_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = ["a.db", "--size", "32x64", "--flip", "--shuffle", "0", "--label", "none"]
    assert options_of(monkeypatch, *argv, "--image", "a,b") == {
        "url": "a.db",
        "size": (32, 64),
        "flip": True,
        "shuffle": False,
        "label": None,
        "image": ["a", "b"],
    }


def test_a_wrong_option_is_named_as_it_was_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, loader_options, "--batch-size", "many") == 2
    assert "--batch-size='many' must be " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--label", "class"], "--label names the column of labels, and --label none delivers"),
        (["--table", "pictures"], "there are: images. --table names the table to read"),
        (["--size", "64"], "--size='64' must be HEIGHTxWIDTH: write 64x64"),
        (["--size", "0x64"], "--size 0x64 must be (height, width), both from 1"),
        (["--batch-size", "0"], ": --batch-size 0 must be from 1 to"),
        (["--on-error", "ignore"], ": --on-error ignore must be "),
        (["--shard", "8/8"], ": --shard 8/8 must be (index, count)"),
    ],
)
def test_an_error_names_an_option_as_it_is_typed(
    tmp_path: Path, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table(tmp_path / "t.db", simple_rows(2))
    assert cli.main(["plan", path, *argv]) in (2, 3)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("message", "typed"),
    [
        ("pass label=None. Or size=(2, 3)", "pass --label none. Or --size 2x3"),
        ("(strict=True makes them bad)", "(--strict 1 makes them bad)"),
        ('name it, e.g. label="n:int64"', "name it, e.g. --label n:int64"),
        (
            "sampling=ClassBatch(classes=8, each=4): x",
            "--sampling 'ClassBatch(classes=8, each=4)': x",
        ),
        ("image=['a', 'b c']; key= names it", "--image 'a,b c'; --key names it"),
        ("host=h dbname=d url=x /data/label=3/a.db", "host=h dbname=d url=x /data/label=3/a.db"),
        ("no\nLINE 1: WHERE label=3\n  ^", "no\nLINE 1: WHERE label=3\n  ^"),
    ],
)
def test_only_options_are_put_as_they_are_typed(message: str, typed: str) -> None:
    assert in_words_of_the_command_line(message) == typed


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["plan", "--batchsize", "64"], "plan: no option --batchsize; did you mean --batch-size?"),
        (["plan", "x.db", "--batchsize=64"], "no option --batchsize; did you mean --batch-size?"),
        (["preview", "x.db", "--otput", "x.png"], "no option --otput; did you mean --output?"),
        (["plan", "x.db", "--rows", "3"], "plan: no option --rows ("),
        (["check", "x.db", "--zzzzzz"], "check: no option --zzzzzz ("),
        (["ingset", "x"], "fastloader: no command 'ingset'; did you mean ingest?"),
        (["--verison"], "fastloader: no option --verison; did you mean --version?"),
        (["check", "x.db", "--on-error", "skip"], "no option --on-error here: check reads every"),
        (["check", "x.db", "--shuffle"], "no option --shuffle here: check reads every row"),
        (["preview", "--on-error=skip", "x.db", "-o", "x.png"], "here: preview draws one batch"),
        (["tune", "--trace", "x.json"], "no option --trace here: this command has no use"),
        (["ingest"], "the following arguments are required: folder"),
        (["plan", "x.db", "y.db"], "unrecognized arguments: y.db"),
        (["preview", "x.db", "-o", "x.gif"], "x.gif must end in .png, .jpg, .jpeg or .webp"),
        (["bench", "x.db", "-o", "x.jpg"], "x.jpg must end in .png, .svg or .pdf"),
        (["tune", "x.db", "-o", "x"], "x must end in .png, .svg or .pdf"),
    ],
)
def test_what_is_mistyped_is_one_line_with_a_hint(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
    assert "(see fastloader" in err
    assert "--help)" in err


def test_an_abbreviated_option_and_a_query_that_begins_with_a_comment_are_no_typing_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query = "--comment\nSELECT * FROM t"
    found = options_of(monkeypatch, "a.db", "--batch-s", "4", "--query=" + query)
    assert (found["batch_size"], found["query"]) == (4, query)

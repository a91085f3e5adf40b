"""The table of options: what is made of it is current, and what is written by hand agrees."""

from __future__ import annotations

import ast
import inspect
import pydoc
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import fastloader
from fastloader import FastLoader
from fastloader.options.config import Config
from fastloader.options.given import NotGiven, given_only
from fastloader.options.table import IMAGE_OPTIONS, OPTIONS

from .support import ROOT, needs_sources

SIGNATURE = inspect.signature(FastLoader).parameters


@needs_sources
def test_the_docstring_of_fastloader_and_the_page_of_options_are_current() -> None:
    script = [sys.executable, ROOT / "tools" / "options_table.py", "--check"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (
        "run python tools/options_table.py"
    )


def test_the_signature_has_every_option_in_the_order_of_the_table() -> None:
    assert list(SIGNATURE) == list(OPTIONS) == [field.name for field in fields(Config)]
    assert given_only({name: one.default for name, one in SIGNATURE.items()}) == {}
    keyword_only = [name for name, one in SIGNATURE.items() if one.kind is one.KEYWORD_ONLY]
    assert keyword_only == [name for name in OPTIONS if name != "url"]


def test_the_signature_shows_the_defaults_and_the_choices() -> None:
    for name, option in OPTIONS.items():
        assert isinstance(SIGNATURE[name].default, NotGiven)
        shown = repr(SIGNATURE[name].default)
        if name == "url":
            assert shown == "..."
        elif option.shown and name != "workers":
            assert eval(shown) == option.default
        else:
            assert shown == option.default_text, name
        if option.kind.type.startswith("{") and name != "dtype":
            choices = option.kind.type[1:].partition("}")[0].replace('"', "'")
            assert f"Literal[{choices}]" in str(SIGNATURE[name].annotation), name
    text = pydoc.render_doc(FastLoader, renderer=pydoc.plaintext)
    text = text.replace("'int'", "int").replace('"Literal', "Literal").replace(']" =', "] =")
    assert "batch_size: int = 64" in text
    assert """on_error: Literal['raise', 'skip', 'fill'] = "raise\"""" in text


@pytest.mark.parametrize("name", OPTIONS)
def test_the_types_of_an_option_agree_about_dicts_and_none(name: str) -> None:
    """In the signature, in the fields of the configuration, and in the table's kind and group."""
    option = OPTIONS[name]
    given, kept = str(SIGNATURE[name].annotation), Config.__dataclass_fields__[name].type
    for annotation in (given, kept):
        assert annotation.startswith("PerColumn[") == option.group.per_column
    assert option.kind.optional == ("None" in given or given == "Any")
    if "None" in kept:  # otherwise None stands for a default of another type
        assert option.kind.optional


def test_a_default_is_a_value_that_the_option_can_have() -> None:
    for name, option in OPTIONS.items():
        if name != "url":
            assert option.check(option.default, source=name) == option.default
            assert getattr(Config, name) == option.default


def test_an_option_is_described_in_whole_sentences() -> None:
    for option in OPTIONS.values():
        assert option.doc.endswith("."), option.name
        assert option.doc.count("`") % 2 == 0, option.name
        assert "  " not in option.doc, option.name
        assert "|" not in option.doc, option.name  # it would end a cell in Markdown


def test_the_kernel_has_the_same_defaults_for_images() -> None:
    stub = Path(fastloader.__file__).parent / "fields" / "_kernel.pyi"
    (decoder,) = (
        node
        for node in ast.parse(stub.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name == "Decoder"
    )
    (init,) = (
        node
        for node in decoder.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    found = {
        argument.arg: ast.literal_eval(default)
        for argument, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
        if default is not None and argument.arg in IMAGE_OPTIONS
    }
    assert len(found) > 10
    for name, default in found.items():
        assert default in (..., OPTIONS[name].default), name

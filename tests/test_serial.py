"""Plain data crosses a pipe unchanged; what is not the type that was asked for is an error."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastloader.cache.file import Place
from fastloader.fields.columns import Column
from fastloader.observe.clock import Span
from fastloader.observe.stats import Pictures
from fastloader.options.config import Config, make_config
from fastloader.options.url import DatabaseUrl
from fastloader.source.protocol import Snapshot
from fastloader.transport.messages import Failure, Filled, Times
from fastloader.transport.serial import pack, unpack
from fastloader.worker.survey import Survey
from fastloader.worker.worker import Specification

SURROGATE = "a\udcff"
"""What os.fsdecode() and keys make of bytes that are not UTF-8."""

CONFIG = Config(
    DatabaseUrl("postgresql://me@host/db", "postgresql://me:secret@host/db"),
    image=("a", SURROGATE), seed=2**64 - 1, size={"a": (3, 4)}, cache_size={"a": None},
    flip={SURROGATE: True}, scale=(0.5, 1.0), cache=SURROGATE,
    worker_imports=("x.y",), shard=(1, 2),
)  # fmt: skip
SURVEY = Survey(
    3, "S2", (Column("label", "float32", (2, 3)), Column("text", "text")),
    Snapshot("00-1", "host", "", 5432), "id", ("note",), "state", "name",
)  # fmt: skip
PLACE = Place(SURROGATE, "name", 3, 2, SURVEY.columns, "state")

text = st.text(st.characters())  # surrogates too
counts = st.integers(0, 2**70)
seconds = st.floats(0, allow_infinity=False)
rows = st.lists(st.tuples(st.integers(-(2**63), 2**63) | text, text))
filled = st.builds(
    Filled,
    counts, rows, rows, st.dictionaries(text, counts), counts, counts, counts, counts,
    st.dictionaries(text, st.builds(Pictures, counts, counts, counts, counts)),
    st.lists(st.lists(st.builds(Span, text, seconds, seconds))), st.lists(text),
    st.builds(Times, *[seconds] * 6),
)  # fmt: skip


def shapes(value: object) -> Any:
    """Return the value with the type of everything in it: True equals 1, and Times a tuple."""
    if isinstance(value, DatabaseUrl):
        return DatabaseUrl, str(value), value.secret
    if dataclasses.is_dataclass(value):
        return type(value), {
            f.name: shapes(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return dict, {name: shapes(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value), [shapes(item) for item in value]
    return type(value), value


@given(filled)
def test_a_batch_crosses_the_pipe(batch: Filled) -> None:
    assert shapes(unpack(pack(batch), Filled)) == shapes(batch)


@pytest.mark.parametrize("place", [None, PLACE])
@pytest.mark.parametrize("snapshot", [None, SURVEY.snapshot])
def test_a_specification_crosses_the_pipe(place: Place | None, snapshot: Snapshot | None) -> None:
    spec = Specification(CONFIG, dataclasses.replace(SURVEY, snapshot=snapshot), place, 3, 1)
    assert shapes(unpack(pack(spec), Specification)) == shapes(spec)


def test_the_default_of_every_option_is_plain_data() -> None:
    config = make_config({"url": "sqlite:///x.db", "workers": 1}, {})
    everything = {name: getattr(config, name) for name in config.__dataclass_fields__}
    # Not left out because they are defaults: each of them is written and read.
    payload = json.dumps({**everything, "url": [config.url, config.url.secret]}).encode()
    assert shapes(unpack(payload, Config)) == shapes(config)


WRONG: list[tuple[bytes, Any]] = [
    (b"", Filled),
    (b"\xff", Filled),
    ("\u00e9".encode(), str),
    (b"[]", Filled),
    (b"{}", Filled),  # no rows
    (b'{"rows": 1, "more": 2}', Filled),
    (b'{"rows": true}', Filled),
    (b'{"rows": 1.0}', Filled),
    (b'{"rows": null}', Filled),
    (b'{"rows": 1, "bad": [[1]]}', Filled),
    (b'{"rows": 1, "bad": [[null, "x"]]}', Filled),
    (b'{"rows": 1, "bad": [1]}', Filled),
    (b'{"rows": 1, "bad": {"1": "x"}}', Filled),
    (b'{"rows": 1, "spilled": {"a": [1]}}', Filled),
    (b'{"rows": 1, "spilled": {"a": "x"}}', Filled),
    (b'{"rows": 1, "spilled": []}', Filled),
    (b'{"rows": 1, "tail": "x"}', Filled),
    (b'{"rows": 1, "times": [0, 0, 0, 0, 0]}', Filled),
    (b'{"rows": 1, "times": [0, 0, 0, 0, 0, 0, 0]}', Filled),
    (b'{"rows": 1, "times": [0, 0, 0, 0, 0, "0"]}', Filled),
    (b'{"rows": 1, "times": [0, 0, 0, 0, 0, 1' + b"0" * 400 + b"]}", Filled),  # no float holds it
    (b"[" * 100_000, Filled),
    (b"1" + b"0" * 10_000, int),
    (b'["ConfigError"]', Failure),
    (b'["ConfigError", "x"]', Failure),
    (b'["ConfigError", [null]]', Failure),
    (b'["host", 1]', DatabaseUrl),
    (b'"postgresql://host/db"', DatabaseUrl),
]


@pytest.mark.parametrize(("payload", "kind"), WRONG, ids=[repr(wrong[0][:40]) for wrong in WRONG])
def test_nonsense_is_an_error(payload: bytes, kind: Any) -> None:
    with pytest.raises(ValueError, match=f"bytes are no {kind.__name__}"):
        unpack(payload, kind)


@given(st.binary() | st.from_regex(rb'[\[\]{}":,0-9a-z.eE+-]*'))
def test_any_bytes_are_a_value_or_an_error(payload: bytes) -> None:
    for kind in (Filled, Failure, Survey, Config):
        try:
            value = unpack(payload, kind)
        except ValueError:
            continue
        assert type(value) is kind


@pytest.mark.parametrize(
    ("error", "arguments"),
    [("SystemExit", (0,)), ("eval", ("1",)), ("ClosedError", ("x",)), ("RowError", (1,))],
)
def test_only_our_own_exceptions_are_built(error: str, arguments: tuple[int | str, ...]) -> None:
    with pytest.raises((KeyError, TypeError)):
        unpack(pack(Failure(error, arguments)), Failure).error()


def test_a_password_shows_in_no_error() -> None:
    for payload in (
        pack(CONFIG)[:-1],
        pack(CONFIG).replace(b'"seed": ', b'"seed": "secret", "x": '),
    ):
        assert b"secret" in payload
        with pytest.raises(ValueError, match="bytes are no Config") as caught:
            unpack(payload, Config)
        assert "secret" not in "".join(traceback.format_exception(caught.value))
    assert "secret" not in repr(unpack(pack(CONFIG), Config))


class Odd(NamedTuple):
    """What is not plain data."""

    value: set[int]


@pytest.mark.parametrize("kind", [Odd, set, complex, bytearray, dict[str, object]])
def test_other_types_are_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match="is not plain data"):
        unpack(b"[[]]", kind)


@pytest.mark.parametrize("value", [{1}, bytearray(b"bytes"), object(), Odd({1})])
def test_other_values_are_refused(value: object) -> None:
    with pytest.raises(TypeError, match="is not plain data"):
        pack(value)


def test_containers_of_all_kinds_are_read() -> None:
    kind = dict[str, Mapping[str, tuple[int, ...] | None]]
    value = {"a": {"b": (1, 2), "c": None}}
    assert shapes(unpack(pack(value), kind)) == shapes(value)

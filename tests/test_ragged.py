"""Values of any size are delivered whole: text, JSON, bytes, and arrays of different lengths."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fastloader import (
    Array,
    Bytes,
    Category,
    ConfigError,
    FastLoader,
    Field,
    Json,
    Ragged,
    RowError,
    Text,
    cli,
)
from fastloader.batches.schema import OFFSETS
from fastloader.fields.columns import Column
from fastloader.fields.ragged_rows import RaggedRows
from fastloader.fields.values import Form, Values
from fastloader.options.config import make_config
from fastloader.source.opening import open_source
from fastloader.transport.ring import Layout

from .conftest import Either
from .pg_arrays import pg_arrays
from .tiers import full

ROWS = 60
LONG = 31
"""The key of a row whose values need more room than the slots of small batches have."""

COLUMNS = (
    "id INTEGER PRIMARY KEY, tokens BYTEA, caption TEXT, meta TEXT, scan BYTEA, breed TEXT, "
    "emb BYTEA, boxes BYTEA, age INTEGER"
)


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def values(key: int) -> dict[str, Any]:
    """Return what a batch must hold of a row."""
    rng = np.random.default_rng(key)
    count = 5000 if key == LONG else key % 7
    emb = rng.standard_normal((2, 3)).astype(">f4" if key % 3 == 0 else "<f4")
    return {
        "tokens": rng.integers(-9, 9, count).astype(np.int32),
        "caption": "ü€😀"[: key % 4] * (count // 2),
        "meta": {"key": key, "list": [None, '}]\\"[[']} if key % 5 else [key] * count,
        "scan": rng.bytes(count),
        "breed": ["dog", "cat", "axolotl"][key % 3],
        "emb": np.asfortranarray(emb) if key % 4 == 0 else emb,
        "boxes": rng.standard_normal((key % 3, 4)).astype(np.float32),
        "age": None if key % 6 == 0 else key // 20,
    }


def row(key: int) -> tuple[Any, ...]:
    its = values(key)
    meta = json.dumps(its["meta"])
    packed = its["tokens"].tobytes(), its["caption"], meta, its["scan"], its["breed"]
    return key, *packed, npy(its["emb"]), npy(its["boxes"]), its["age"]


@pytest.fixture
def url(either: Either) -> str:
    """Return the URL of a table whose values differ in size."""
    return either.table([row(key) for key in range(1, ROWS + 1)], columns=COLUMNS)


FIELDS: dict[str, Field] = {
    "tokens": Array(dtype="int32", ragged=True),
    "wide": Array("tokens", dtype="int32", ragged=True),
    "caption": Text(),
    "meta": Json(),
    "scan": Bytes(),
    "emb": Array(),
    "boxes": Array(ragged=True, dtype="float64"),
}
OPTIONS: dict[str, Any] = {
    "fields": FIELDS,
    "label": {"breed": Category(), "age": Category("age", classes=[2, 1], unknown=7, null=-1)},
    "batch_size": 8,
    "with_keys": True,
}


def check(x: dict[str, Any], y: dict[str, Any], classes: dict[str, Any]) -> list[int]:
    """Check a batch and return its keys."""
    keys: list[int] = x["id"].tolist()
    for at, key in enumerate(keys):
        its = values(key)
        for name in ("tokens", "wide", "emb", "boxes"):
            wanted = its["tokens" if name == "wide" else name]
            assert x[name][at].shape == wanted.shape
            np.testing.assert_array_equal(x[name][at], wanted)
        assert x["caption"][at] == its["caption"]
        assert x["meta"][at] == its["meta"]
        assert bytes(x["scan"][at]) == its["scan"]
        assert classes["breed"][y["breed"][at]] == its["breed"]
        assert y["age"][at] == {None: -1, 2: 0, 1: 1}.get(its["age"], 7)
    return keys


@pytest.mark.parametrize("cache", [None, "ram"])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_value_is_delivered_whole(url: str, workers: int, cache: str | None) -> None:
    with FastLoader(url, **OPTIONS, workers=workers, cache=cache, shuffle=True) as loader:
        for _ in range(2):
            seen = [key for x, y in loader for key in check(x, y, loader.classes)]
            assert sorted(seen) == list(range(1, ROWS + 1))
        assert loader.classes == {"breed": ("cat", "axolotl", "dog"), "age": (2, 1)}
        if cache is not None:
            assert 0 < loader.stats().cached_rows < ROWS, "there is no room for the long row"


def test_what_is_delivered_has_the_types_that_the_guide_says(url: str) -> None:
    with FastLoader(url, **OPTIONS, workers=0) as loader:
        x, y = next(iter(loader))
        kinds = {name: type(its).__name__ for name, its in x.items()}
        assert kinds == {
            "tokens": "Ragged", "wide": "Ragged", "caption": "ndarray", "meta": "ndarray",
            "scan": "Ragged", "emb": "ndarray", "boxes": "Ragged", "id": "ndarray",
        }  # fmt: skip
        assert (x["tokens"].dtype, x["scan"].dtype, x["boxes"].dtype) == ("i4", "u1", "f8")
        assert x["caption"].dtype == x["meta"].dtype == object
        assert y["breed"].dtype == y["age"].dtype == np.int64


def test_a_class_keeps_its_number_when_others_are_added(either: Either) -> None:
    columns = "id INTEGER PRIMARY KEY, breed TEXT, size INTEGER"
    rows: list[tuple[Any, ...]] = [(5, "b", 30), (7, "a", 10), (8, "b", 10), (9, None, None)]
    fields = {"breed": Category(null=-1), "size": Category(null="mask", dtype="int8")}
    url = either.table(rows, columns=columns)
    with FastLoader(url, fields=fields, workers=0) as loader:
        (x,) = loader
        assert loader.classes == {"breed": ("b", "a"), "size": (30, 10)}
    assert x["breed"].tolist() == [0, 1, 0, -1]
    assert x["size"].tolist() == [0, 1, 1, 0]
    assert x["size_valid"].tolist() == [True, True, True, False]
    assert x["size"].dtype == np.int8


def test_classes_are_those_of_the_whole_table_in_every_part_of_it(url: str) -> None:
    fields = {"breed": Category(), "caption": Text(), "tokens": FIELDS["tokens"]}
    parts: list[dict[str, Any]] = [
        {"where": "breed = $1", "params": ["axolotl"]}, {"split": ":0.5"}, {"split": "0.5:"},
    ]  # fmt: skip
    for part in parts:
        with FastLoader(url, fields=fields, with_keys=True, workers=0, **part) as loader:
            for x in loader:
                for at, key in enumerate(x["id"].tolist()):
                    assert loader.classes["breed"][x["breed"][at]] == values(key)["breed"]
                    assert x["caption"][at] == values(key)["caption"]
            assert loader.classes == {"breed": ("cat", "axolotl", "dog")}


@pytest.mark.parametrize("on_error", ["skip", "fill"])
@pytest.mark.parametrize("workers", [0, 2])
def test_bad_values_make_bad_rows(either: Either, on_error: str, workers: int) -> None:
    bad = {
        2: ("{}", "b", b"1234567", b"12", "column 'tokens' holds a blob of 7 bytes"),
        3: ("[" * 9 + "]" * 9, "a", b"1234", b"", "column 'meta': JSON nested deeper than max_"),
        4: ("[1", "a", b"", b"", "column 'meta': invalid JSON"),
        5: ("[1]", "c", b"", b"", "column 'breed' holds 'c', one of 2 classes is needed"),
        6: ("[1]", "a", b"12345", b"", "column 'tokens' holds a blob of 5 bytes, an array of n x"),
        7: (None, "a", b"", b"", "column 'meta' holds NULL, JSON is needed"),
        8: ('["' + "x" * 90 + '"]', "a", b"", b"", "column 'meta': JSON of 94 bytes, more than"),
        9: ("[1]", "a", b"", b"z" * 95, "column 'scan' holds a value larger than max_blob_bytes"),
    }
    good = {1: ('[[["["]]]', "a", b"12345678", b"xyz"), 10: ("{}", "b", b"", b"")}
    rows = [(key, *(bad.get(key) or good[key])[:4]) for key in range(1, 11)]
    columns = "id INTEGER PRIMARY KEY, meta TEXT, breed TEXT, tokens BYTEA, scan BYTEA"
    fields = {
        "meta": Json(max_bytes=80, max_depth=8),
        "breed": Category(classes=["a", "b"]),
        "tokens": Array(dtype="int32", ragged=True),
        "scan": Bytes(),
    }
    url = either.table(rows, columns=columns)
    options: dict[str, Any] = {"max_blob_bytes": 94, "on_error": on_error, "workers": workers}
    with FastLoader(url, fields=fields, with_keys=True, **options) as loader:
        (x,) = loader
        found = dict(loader.bad_rows)
    assert [*found] == [*bad]
    for key, reason in found.items():
        assert reason.startswith(bad[key][-1]), reason
    kept = [*range(1, 11)] if on_error == "fill" else [1, 10]
    assert x["id"].tolist() == kept
    ends = [0, len(kept) - 1]
    assert [x["meta"][i] for i in ends] == [[[["["]]], {}]
    assert [bytes(x["scan"][i]) for i in ends] == [b"xyz", b""]
    assert [x["tokens"][i].tolist() for i in ends] == [
        np.frombuffer(b"12345678", "i4").tolist(),
        [],
    ]
    if on_error == "fill":
        assert {len(x["tokens"][i]) for i in range(1, 9)} == {0}
        assert {x["meta"][i] for i in range(1, 9)} == {None}


def test_no_more_of_a_value_is_read_than_max_blob_bytes(either: Either) -> None:
    """The rest of a blob of 8 MB stays in the database."""
    columns = "id INTEGER PRIMARY KEY, scan BYTEA"
    sizes = {1: 10, 2: 8 << 20, 3: 1000, 4: 1001}
    url = either.table([(key, bytes(size)) for key, size in sizes.items()], columns=columns)
    config = make_config({"url": url, "fields": {"scan": Bytes()}, "max_blob_bytes": 1000}, {})
    source = open_source(config)
    keys = np.concatenate(list(source.keys()))
    chunks = list(source.read([(1, 4)], source.label_columns(keys)))
    assert sum(its.nbytes for chunk in chunks for its in chunk.columns.values()) < 4000
    source.close()
    with FastLoader(url, fields={"scan": Bytes()}, max_blob_bytes=1000, on_error="skip",
                    workers=0, with_keys=True) as loader:  # fmt: skip
        (x,) = loader
        assert x["id"].tolist() == [1, 3]
        words = "column 'scan' holds a value larger than max_blob_bytes, bytes is needed"
        assert dict(loader.bad_rows) == {2: words, 4: words}


def test_arrays_that_are_too_large_are_bad_rows() -> None:
    given = pg_arrays([[1, 2], [3, 4, 5]], "int32")
    for values_of in (given, Values.of([b"12345678", b"123456789012"])):
        most = int(values_of.blobs[0, 1])
        rows = RaggedRows(Column("v", "int32", (None,)), np.zeros(9, np.int32), 2)
        field = Array("v", ragged=True)
        bad = field.store(rows.column, values_of.up_to(most), rows, 0)
        assert [*bad] == [1]
        assert bad[1].startswith("column 'v' holds a value larger than max_blob_bytes, an array of")
        target = np.zeros((2, 2), np.int32)
        column = Column("v", "int32", (2,))
        again = Array("v").store(column, values_of.up_to(most), target, 0)
        assert again[1].partition(",")[0] == bad[1].partition(",")[0]


def test_null_is_masked_or_has_a_stand_in(either: Either) -> None:
    columns = "id INTEGER PRIMARY KEY, t TEXT, b BYTEA"
    url = either.table([(1, "[1]", b"1234"), (2, None, None), (3, "[3]", b"")], columns=columns)
    fields = {
        "text": Text("t", null="none"),
        "masked": Text("t", null="mask"),
        "json": Json("t", null=0),
        "objects": Json("t", null="mask"),
        "bytes": Bytes("b", null="gone"),
        "array": Array("b", dtype="uint8", ragged=True, null="mask"),
    }
    with FastLoader(url, fields=fields, workers=0) as loader:
        (x,) = loader
    assert x["text"].tolist() == ["[1]", "none", "[3]"]
    assert x["masked"].tolist() == ["[1]", "", "[3]"]
    assert x["json"].tolist() == [[1], 0, [3]]
    assert x["objects"].tolist() == [[1], None, [3]]
    assert x["bytes"].to_bytes() == [b"1234", b"gone", b""]
    assert x["array"].to_list() == [[49, 50, 51, 52], [], []]
    for name in ("masked", "objects", "array"):
        assert x[f"{name}_valid"].tolist() == [True, False, True]
    with FastLoader(url, fields={"t": Text()}, workers=0) as loader, pytest.raises(RowError):
        list(loader)


def test_arrays_of_postgres_have_any_length(either: Either) -> None:
    if not either.url.startswith("postgres"):
        pytest.skip("SQLite has no arrays")
    columns = "id INTEGER PRIMARY KEY, v INTEGER[], m REAL[][], j JSONB, e JSON"
    rows = [
        (key, [*range(key % 5)], [[float(key), 0.5]] * (key % 3), f'{{"a": {key}}}', "[]")
        for key in range(1, 41)
    ]
    url = either.table(rows, columns=columns)
    fields = {
        "v": Array(ragged=True),
        "small": Array("v", ragged=True, dtype="int8"),
        "m": Array(ragged=True),
        "j": Json(),
        "e": Json(),
    }
    with FastLoader(url, fields=fields, with_keys=True, batch_size=7, workers=2) as loader:
        for x in loader:
            for at, key in enumerate(x["id"].tolist()):
                assert x["v"][at].tolist() == x["small"][at].tolist() == [*range(key % 5)]
                assert x["m"][at].tolist() == [[key, 0.5]] * (key % 3)
                assert (x["j"][at], x["e"][at]) == ({"a": key}, [])
    assert x["small"].dtype == np.int8
    assert x["m"].values.shape[1:] == (2,)


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Json("age"), "'age' does not hold text: cast it"),
        (Bytes("age"), "'age' does not hold blobs or text"),
        (Array("caption", ragged=True), "'caption' holds text: use Text"),
        (Category("scan"), "'scan' holds neither text nor integers"),
        (Category("breed", dtype="float32"), "classes from 0 to 2, which float32 does not hold"),
        (Category("breed", dtype="text"), "classes from 0 to 2, which text does not hold"),
        (Category("breed", dtype="uint8", unknown=300), "0 to 300, which uint8 does not hold"),
        (Category("breed", dtype="uint8", unknown=-1), "which uint8 does not hold"),
        (Array("emb", ragged=True, null=0.0), "null=0.0 is no float32"),
        (Array("emb", shape=(7, 5), ragged=True), None),
    ],
)  # fmt: skip
def test_a_column_that_a_field_cannot_take_is_refused(
    url: str, field: Field, message: str | None
) -> None:
    if message is not None:
        with pytest.raises(ConfigError, match=message):
            FastLoader(url, fields={"x": field}, workers=0)
        return
    words = "an array of 2 x 3 x float32, an array of n x 7 x 5"
    with (
        FastLoader(url, fields={"x": field}, workers=0) as loader,
        pytest.raises(RowError, match=words),
    ):
        next(iter(loader))


def test_raw_blobs_have_the_shape_that_is_asked_for(either: Either) -> None:
    columns = "id INTEGER PRIMARY KEY, v BYTEA, r BYTEA"
    rows = [(key, np.arange(6, dtype="f4").tobytes(), b"\1\2" * (key % 3)) for key in range(1, 9)]
    url = either.table(rows, columns=columns)
    fields = {
        "v": Array(dtype="float32", shape=(3, 2)),
        "r": Array(dtype="uint8", ragged=True, shape=(2,)),
    }
    with FastLoader(url, fields=fields, workers=0) as loader:
        (x,) = loader
    assert x["v"].shape == (8, 3, 2)
    assert x["r"].to_list() == [[[1, 2]] * (key % 3) for key in range(1, 9)]
    with pytest.raises(ConfigError, match="do not make an array of the shape \\(4, 2\\)"):
        FastLoader(url, fields={"v": Array(dtype="float32", shape=(4, 2))}, workers=0)


def test_preview_prints_one_line_for_each_row(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fields.json").write_text(
        json.dumps({
            "boxes": {"kind": "Array", "ragged": True}, "breed": {"kind": "Category"},
            "meta": {"kind": "Json"},
        })
    )  # fmt: skip
    assert cli.main(["preview", url, "--fields", str(tmp_path / "fields.json"), "--rows", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:3] == [
        f"{key}: boxes float32 {key} x 4, breed {values(key)['breed']}, meta {values(key)['meta']}"
        for key in (1, 2)
    ]
    assert len(lines) == 4


# ---- hostile blobs -------------------------------------------------------------------------------

HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1099511627776)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': 3}",
    "{'descr': '<f4', 'shape': (3,)}",
    "__import__('os').abort()",
    "(" * 500,
    "[" * 4000,
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (3,)}",
    "\0" * 50,
]


def header(text: str, version: bytes = b"\1\0") -> bytes:
    size = len(text).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + text.encode("latin1")


@pytest.mark.parametrize("version", [b"\1\0", b"\2\0", b"\3\0", b"\xff\xff"])
@pytest.mark.parametrize("text", HEADERS, ids=range(len(HEADERS)))
def test_a_hostile_npy_header_makes_a_bad_row(text: str, version: bytes) -> None:
    blob = header(text, version) + np.arange(3, dtype="<f4").tobytes()
    target = np.full((1, 3), 9, np.float32)
    column = Column("v", "float32", (3,), "npy")
    bad = Array("v").store(column, Values.of([blob]), target, 0)
    if text == HEADERS[0] and version in (b"\1\0", b"\2\0"):
        assert bad == {}
        assert target.tolist() == [[0, 1, 2]]
    else:
        assert "column 'v' holds a" in bad[0]
        assert (target == 9).all()


@given(blob=st.binary(max_size=200), cut=st.integers(0, 200))
def test_npy_blobs_of_any_bytes_are_arrays_or_bad_rows(blob: bytes, cut: int) -> None:
    whole = header(HEADERS[0]) + np.arange(3, dtype="<f4").tobytes()
    for bytes_ in (blob, b"\x93NUMPY" + blob, whole[:cut], whole[:cut] + blob):
        rows = RaggedRows(Column("v", "float32", (None,)), np.zeros(2, np.float32), 1)
        bad = Array("v", ragged=True, dtype="float32").store(
            rows.column, Values.of([bytes_]), rows, 0
        )
        if bad:
            assert "column 'v' holds a" in bad[0]


# ---- pieces --------------------------------------------------------------------------------------

ragged_lists = st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=8)


def ragged(rows: list[list[int]]) -> Ragged:
    offsets = np.cumsum([0, *map(len, rows)])
    return Ragged(np.array([n for its in rows for n in its], np.int64), offsets.astype(np.int64))


@given(rows=ragged_lists, start=st.integers(-9, 9), stop=st.integers(-9, 9))
def test_a_ragged_is_a_list_of_rows(rows: list[list[int]], start: int, stop: int) -> None:
    its = ragged(rows)
    assert len(its) == len(rows)
    assert its.to_list() == [row.tolist() for row in its] == rows
    assert its.lengths.tolist() == [*map(len, rows)]
    assert its[start:stop].to_list() == rows[start:stop]
    if -len(rows) <= start < len(rows):
        assert its[start].tolist() == rows[start]
        assert np.shares_memory(its[start], its.values) or not rows[start]
    else:
        with pytest.raises(IndexError):
            its[start]
    with pytest.raises(IndexError, match="step of 1"):
        its[::2]
    assert its.copy().to_list() == rows
    assert its.to_bytes() == [np.array(row, np.int64).tobytes() for row in rows]


@given(rows=ragged_lists, length=st.none() | st.integers(0, 7))
def test_a_ragged_is_padded(rows: list[list[int]], length: int | None) -> None:
    most = max(map(len, rows), default=0) if length is None else length
    padded = ragged(rows).to_padded(-1, length)
    assert padded.shape == (len(rows), most)
    assert padded.tolist() == [(row + [-1] * most)[:most] for row in rows]


@given(
    rows=st.lists(st.lists(st.integers(-9, 9), max_size=5), min_size=1, max_size=8),
    room=st.integers(0, 40),
    data=st.data(),
)
def test_ragged_rows_are_put_in_order(
    rows: list[list[int]], room: int, data: st.DataObject
) -> None:
    """Some rows are appended, others come out of a cache between them, and some are dropped."""
    column = Column("x", "int64", (None,))
    decoded = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1)), "decoded"))
    kept = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1)), "kept"))
    slot, offsets = np.zeros(room, np.int64), np.zeros(len(rows) + 1, np.int64)
    made = RaggedRows(column, slot, len(rows))
    for at, i in enumerate(decoded):
        made.append(at, np.array([len(rows[i])]))[:] = rows[i]
    made.spread(decoded)
    for i in set(range(len(rows))).difference(decoded):
        made.put(i, np.array(rows[i], np.int64).tobytes())
    assert [made.row(i).tolist() for i in range(len(rows))] == rows
    spilled = made.finish(np.array(kept, np.intp), offsets)
    total = sum(len(rows[i]) for i in kept)
    assert (spilled is not None) == (total > room)
    items = slot if spilled is None else spilled
    found = Ragged(items[:total], offsets[: len(kept) + 1])
    assert found.to_list() == [rows[i] for i in kept]


@given(offsets=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=4, max_size=4))
def test_no_offset_of_a_worker_leads_out_of_the_items(offsets: list[int]) -> None:
    layout = Layout.of(3, [Column("x", "int32", (None,))])
    arrays = layout.arrays(np.zeros(layout.slot_bytes, np.uint8))
    arrays["x" + OFFSETS][:] = offsets
    for spilled in ({}, {"x": memoryview(b"123456789")}):
        its = layout.delivered(arrays, 3, spilled)
        room = 2 if spilled else len(arrays["x"])
        found = its["x" + OFFSETS]
        assert found[0] == 0
        assert (np.diff(found) >= 0).all()
        assert found[-1] == len(its["x"]) <= room


def test_an_array_that_is_broken_inside_is_a_bad_row_of_its_own() -> None:
    """The sizes of elements are seen only when they are read, after there is room for them."""
    given = pg_arrays([[1, 2], [3, 4], [5]], "int32")
    data = bytearray(given.owner[1])  # type: ignore[index]
    data[20:24] = (3).to_bytes(4, "big")
    blobs = [given.owner[0], bytes(data), given.owner[2]]  # type: ignore[index]
    values_of = Values.of(blobs)
    broken = Values(
        values_of.kinds, values_of.numbers, values_of.blobs, values_of.owner, given.form
    )
    rows = RaggedRows(Column("v", "int32", (None,)), np.zeros(9, np.int32), 3)
    bad = Array("v", ragged=True).store(rows.column, broken, rows, 0)
    assert [*bad] == [1]
    assert "a malformed array" in bad[1]
    assert isinstance(given.form, Form)


# ---- adapters ------------------------------------------------------------------------------------


@full
def test_tensorflow_gets_ragged_tensors_with_an_exact_signature(url: str) -> None:
    tf = pytest.importorskip("tensorflow", reason="no TensorFlow: untested")
    with FastLoader(url, **OPTIONS, workers=2) as loader:
        dataset = loader.as_dataset()
        assert dataset.element_spec[0]["tokens"] == tf.RaggedTensorSpec((None, None), tf.int32, 1)
        for spec, wanted in zip(
            tf.nest.flatten(dataset.element_spec), tf.nest.flatten(loader.output_signature),
            strict=True,
        ):  # fmt: skip
            assert spec.is_compatible_with(wanted), (spec, wanted)
            assert wanted.is_compatible_with(spec)
        seen = []
        for x, y in dataset:
            assert isinstance(x["boxes"], tf.RaggedTensor)
            given = {
                name: Ragged(its.values.numpy(), its.row_splits.numpy())
                for name, its in x.items()
                if isinstance(its, tf.RaggedTensor)
            }
            given |= {name: its.numpy() for name, its in x.items() if name not in given}
            given["caption"] = [text.decode() for text in given["caption"]]
            given["meta"] = [json.loads(text) for text in given["meta"]]
            seen += check(given, {name: its.numpy() for name, its in y.items()}, loader.classes)
        assert seen == list(range(1, ROWS + 1))


@full
def test_torch_gets_nested_tensors_and_lists(url: str) -> None:
    torch = pytest.importorskip("torch", reason="no PyTorch: untested")
    with FastLoader(url, **OPTIONS, workers=2) as loader:
        seen = []
        for x, y in loader.as_torch():
            assert x["tokens"].layout == torch.jagged
            given = {
                name: Ragged(x[name].values().numpy(), x[name].offsets().numpy())
                for name in ("tokens", "wide", "boxes")
            }
            assert isinstance(x["scan"], list)
            given["scan"] = [one.numpy() for one in x["scan"]]
            given |= {"caption": x["caption"], "meta": x["meta"]}
            given |= {name: x[name].numpy() for name in ("emb", "id")}
            seen += check(given, {name: its.numpy() for name, its in y.items()}, loader.classes)
        assert seen == list(range(1, ROWS + 1))


@full
def test_jax_gets_padded_arrays(url: str) -> None:
    jax = pytest.importorskip("jax", reason="no JAX: untested")
    with FastLoader(url, **OPTIONS, workers=2) as loader:
        seen = []
        for x, y in loader.as_jax():
            lengths = np.asarray(x["tokens"].lengths)
            assert isinstance(x["tokens"].values, jax.Array)
            assert x["tokens"].values.shape[1] in (1 << np.arange(14))
            given = dict(x)
            for name in ("tokens", "wide", "boxes"):
                padded = np.asarray(x[name].values)
                lengths = np.asarray(x[name].lengths).tolist()
                given[name] = [row[:n] for row, n in zip(padded, lengths, strict=True)]
                assert not any(row[n:].any() for row, n in zip(padded, lengths, strict=True))
            keys = x["id"].tolist()
            for key, its in zip(keys, given["tokens"], strict=True):
                assert its.tolist() == values(key)["tokens"].tolist()
            seen += keys
            assert np.asarray(y["breed"]).shape == (len(keys),)
        assert seen == list(range(1, ROWS + 1))

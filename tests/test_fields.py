"""A batch holds what the fields say, whatever the database, the workers, the cache and the adapter.

The conformance suite of the fields: each kind runs through it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastloader
from fastloader import Array, ConfigError, FastLoader, Field, Image, Number, RowError, Text
from fastloader.fields.every import KINDS
from fastloader.options.config import Config, make_config
from fastloader.transport.serial import pack, unpack

from .conftest import Either
from .support import jpeg

ROWS = 50
COLUMNS = (
    "id INTEGER PRIMARY KEY, photo BYTEA, count INTEGER, ratio DOUBLE PRECISION, name TEXT, "
    "vector BYTEA, age INTEGER"
)


def row(key: int) -> tuple[Any, ...]:
    """Return a row, whose age is NULL if the key is a multiple of 7."""
    vector = np.arange(key, key + 3, dtype=np.float32).tobytes()
    age = None if key % 7 == 0 else key
    return key, jpeg(32, 24, seed=key), key - 25, key / 4, f"name {key}", vector, age


@pytest.fixture
def url(either: Either) -> str:
    """Return the URL of a table with a column of every kind."""
    return either.table([row(key) for key in range(1, ROWS + 1)], columns=COLUMNS)


FIELDS: dict[str, Field] = {
    "image": Image("photo", size=(8, 12), flip=True),
    "count": Number(),
    "small": Number("count", dtype="int8"),
    "ratio": Number(dtype="float32"),
    "name": Text(),
    "vector": Array(dtype="float32"),
    "age": Number(null=-1),
    "aged": Number("age", dtype="float32", null="mask"),
}
OPTIONS: dict[str, Any] = {"fields": FIELDS, "batch_size": 8, "with_keys": True}


def check(x: dict[str, Any], keys: list[int]) -> None:
    """Check a batch of these rows."""
    assert x["id"].tolist() == keys
    assert (x["image"].shape, x["image"].dtype) == ((len(keys), 8, 12, 3), np.uint8)
    assert x["count"].tolist() == x["small"].tolist() == [key - 25 for key in keys]
    assert [x[name].dtype.name for name in ("count", "small", "ratio")] == [
        "int64", "int8", "float32",
    ]  # fmt: skip
    assert x["ratio"].tolist() == [key / 4 for key in keys]
    assert x["name"].tolist() == [f"name {key}" for key in keys]
    assert x["vector"].tolist() == [[key, key + 1, key + 2] for key in keys]
    assert x["age"].tolist() == [-1 if key % 7 == 0 else key for key in keys]
    assert x["aged"].tolist() == [0 if key % 7 == 0 else key for key in keys]
    assert x["aged_valid"].tolist() == [key % 7 != 0 for key in keys]


@pytest.mark.parametrize("cache", [None, "ram"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_holds_what_the_fields_say(url: str, workers: int, cache: str | None) -> None:
    with FastLoader(url, **OPTIONS, workers=workers, cache=cache, shuffle=True) as loader:
        images: dict[tuple[int, int], bytes] = {}
        for epoch in range(2):
            seen = []
            for x in loader:
                keys = x["id"].tolist()
                check(x, keys)
                seen += keys
                images |= {(epoch, k): i.tobytes() for k, i in zip(keys, x["image"], strict=True)}
            assert sorted(seen) == list(range(1, ROWS + 1))
        assert bool(loader.stats().cached_rows) == (cache is not None)
    alone = Image("photo", size=(8, 12))
    with FastLoader(url, fields={"image": alone}, with_keys=True, workers=0) as plain:
        for x in plain:
            for key, image in zip(x["id"].tolist(), x["image"], strict=True):
                either_way = {image.tobytes(), image[:, ::-1].tobytes()}
                assert images[0, key] in either_way, "flips change, and nothing else"


@pytest.mark.parametrize("label", [Number("count"), {"c": Number("count"), "n": Text("name")}])
def test_labels_are_fields_too(url: str, label: Any) -> None:
    with FastLoader(url, fields={"ratio": Number()}, label=label, workers=0) as loader:
        x, y = next(iter(loader))
    assert list(x) == ["ratio"]
    labels = y if isinstance(label, Field) else y["c"]
    assert labels.tolist() == [key - 25 for key in range(1, ROWS + 1)]


def test_a_table_without_images(url: str) -> None:
    with FastLoader(url, image=None, label=["count", "name"], workers=0) as loader:
        y = next(iter(loader))
        assert list(y) == ["count", "name"]
    with FastLoader(url, image=None, label="count", workers=0) as loader:
        assert next(iter(loader)).tolist()[:2] == [-24, -23]
    with FastLoader(url, image=None, label="count", with_keys=True, workers=0) as loader:
        x, y = next(iter(loader))
        assert x["id"].tolist() == (y + 25).tolist()


def test_the_short_form_makes_the_same_fields(url: str) -> None:
    short = FastLoader(url, image="photo", label="count:int32", size=(8, 8), workers=0)
    fields = {"photo": Image(size=(8, 8))}
    long = FastLoader(url, fields=fields, label=Number("count", dtype="int32"), workers=0)
    with short, long:
        images, labels = next(iter(short))
        x, y = next(iter(long))
    np.testing.assert_array_equal(images, x["photo"])
    np.testing.assert_array_equal(labels, y)
    assert labels.dtype == y.dtype == np.int32


@pytest.mark.parametrize("on_error", ["raise", "skip", "fill"])
@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (Number("age"), "column 'age' holds NULL, int64 is needed"),
        (Number("age", dtype="int8", null=0), None),
        (Number("count", dtype="uint8"), "column 'count' holds -24, uint8 is needed"),
    ],
    ids=["null", "stand-in", "range"],
)
def test_a_value_that_does_not_fit_makes_a_bad_row(
    url: str, on_error: str, field: Field, reason: str | None
) -> None:
    options = {"fields": {"x": field}, "on_error": on_error, "batch_size": 50, "with_keys": True}
    with FastLoader(url, **options, workers=0) as loader:
        if reason is not None and on_error == "raise":
            with pytest.raises(RowError, match=reason):
                list(loader)
            return
        (x,) = loader
        bad = dict(loader.bad_rows)
    if reason is None:
        assert bad == {}
        return
    assert reason in bad.values()
    assert len(x["id"]) == (50 if on_error == "fill" else 50 - len(bad))
    if on_error == "fill":
        assert {x["x"][key - 1] for key in bad} == {0}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (Number("name"), "Number\\('name'\\): the column 'name' holds text: use Text"),
        (Text("count"), "Text\\('count'\\): the column 'count' does not hold text: use Number"),
        (Array("count"), "the column 'count' holds single numbers: use Number"),
        (Number("vector", dtype="float32"), "holds blobs: use Array or Bytes"),
        (Number("count", null="none"), "null='none' is no int64"),
        (Number("count", dtype="int8", null=300), "null=300 is no int8"),
        (Text("name", null=0), "null=0 is no text"),
    ],
)
def test_a_field_that_cannot_take_its_column_is_refused(
    url: str, field: Field, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        FastLoader(url, fields={"x": field}, workers=0)


def test_what_fields_exclude_is_refused_with_advice() -> None:
    def made(**options: Any) -> Config:
        return make_config({"url": "x.db", **options}, {})

    fields = {"a": Number()}
    with pytest.raises(ConfigError, match="image and fields exclude each other: give it to a"):
        made(fields=fields, image="photo")
    with pytest.raises(ConfigError, match="size and fields exclude each other"):
        made(fields=fields, size=(8, 8))
    with pytest.raises(ConfigError, match="fields={} must be a dict from names to fields"):
        made(fields={})
    with pytest.raises(ConfigError, match="must be a dict from names to fields, such as"):
        made(fields={"a": "photo"})
    with pytest.raises(ConfigError, match="Image: size=5 must be \\(height, width\\)"):
        Image(size=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Number: dtype='complex64' must be bool, text, or"):
        Number(dtype="complex64")
    assert made(fields=fields).labels == {}, "a label is there only if it is named"


def test_two_entries_of_a_batch_cannot_have_the_same_name(url: str) -> None:
    fields = {"age": Number(null="mask"), "age_valid": Number("count")}
    with pytest.raises(ConfigError, match="two entries of a batch have the name 'age_valid'"):
        FastLoader(url, fields=fields, workers=0)
    with pytest.raises(ConfigError, match="with_keys: the key column 'id' is a field too"):
        FastLoader(url, fields={"id": Number()}, with_keys=True, workers=0)


def test_fields_survive_the_way_to_a_worker() -> None:
    fields = {**FIELDS, "nan": Number("ratio", null=2.5), "any": KINDS["Value"]("ratio")}
    config = make_config({"url": "x.db", "fields": fields, "label": {"field": Number("n")}}, {})
    assert unpack(pack(config), Config) == config
    with pytest.raises(ValueError, match="are no Config"):
        unpack(pack(config).replace(b'"Text"', b'"FastLoader"'), Config)


def test_a_field_shows_what_differs_from_its_defaults() -> None:
    assert repr(Image("photo", size=(8, 8), flip=False)) == "Image('photo', size=(8, 8))"
    assert repr(Number()) == "Number()"
    assert Image("a", size=[8, 8]) == Image("a", size=(8, 8))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        Number().dtype = "int8"  # type: ignore[misc]


def test_fields_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "f.json").write_text(
        json.dumps({"a": {"kind": "Image", "column": "p", "size": [8, 9]}, "b": {"kind": "Text"}})
    )
    wanted = {"a": Image("p", size=(8, 9)), "b": Text()}
    environ = {"FASTLOADER_FIELDS": str(tmp_path / "f.json")}
    assert make_config({"url": "x.db"}, environ).fields == wanted
    (tmp_path / "f.toml").write_text(
        '[a]\nkind = "Image"\ncolumn = "p"\nsize = [8, 9]\n[b]\nkind = "Text"\n'
    )
    pytest.importorskip("tomllib")
    environ = {"FASTLOADER_FIELDS": str(tmp_path / "f.toml")}
    assert make_config({"url": "x.db"}, environ).fields == wanted
    for text, message in (
        ("[a]\nkind = 3", "f.toml: a needs a kind, such as"),
        ('[a]\nkind = "Numbr"', "f.toml: a: no kind of field 'Numbr'; there are Image, Number"),
        ('[a]\nkind = "Number"\nsize = 3', "f.toml: a: .* unexpected keyword argument 'size'"),
        ("[a", "cannot read the fields in .*f.toml"),
    ):
        (tmp_path / "f.toml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            make_config({"url": "x.db"}, environ)


# ---- adapters ------------------------------------------------------------------------------------


def test_tensorflow_gets_the_fields_with_an_exact_signature(url: str) -> None:
    tf = pytest.importorskip("tensorflow", reason="no TensorFlow: untested")
    with FastLoader(url, **OPTIONS, label=Number("count")) as loader:
        signature = loader.output_signature
        (x, y), *_ = loader.as_dataset()
        assert set(signature[0]) == set(x)
        texts = np.array([text.decode() for text in x["name"].numpy()], object)
        arrays = {name: its.numpy() for name, its in x.items()}
        check({**arrays, "name": texts}, arrays["id"].tolist())
        assert signature[0]["vector"] == tf.TensorSpec((None, 3), tf.float32, name="vector")
        assert signature[0]["aged_valid"].dtype == tf.bool
        assert y.dtype == signature[1].dtype == tf.int64


def test_torch_and_jax_get_the_fields(url: str) -> None:
    torch = pytest.importorskip("torch", reason="no PyTorch: untested")
    jax = pytest.importorskip("jax", reason="no JAX: untested")
    with FastLoader(url, **OPTIONS, workers=0) as loader:
        x = next(iter(loader.as_torch()))
        assert x["vector"].dtype == torch.float32
        assert x["image"].shape == (8, 3, 8, 12)
        check({**{n: np.array(its, object) if isinstance(its, list) else its.numpy()
                  for n, its in x.items()}, "image": x["image"].permute(0, 2, 3, 1).numpy()},
              x["id"].tolist())  # fmt: skip
        x = next(iter(loader.as_jax()))
        assert isinstance(x["aged_valid"], jax.Array)
        assert x["vector"].shape == (8, 3)


def test_every_public_kind_is_exported() -> None:
    for name, kind in KINDS.items():
        if name != "Value":
            assert getattr(fastloader, name) is kind

"""Images through the whole loader: formats, columns, types, crops, images that end early."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

import fastloader
from fastloader import FastLoader, RowError
from fastloader.fields.context import Context
from fastloader.fields.image_decoder import ImageDecoder
from fastloader.fields.values import Values
from fastloader.plan.keys import key_numbers

from .small_images import SMALL_IMAGES, encoded
from .support import decoded, jpeg, table, unpacked
from .tiers import few, full

Make = Callable[..., FastLoader]


def _whole(format: str, **options: Any) -> bytes:
    """Return an image that is large enough to be decoded in several scans or slices."""
    file = io.BytesIO()
    noisy = np.random.default_rng(5).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(noisy).resize((200, 150)).save(file, format, **options)
    return file.getvalue()


WHOLE_IMAGES = {
    "JPEG": _whole("JPEG"),
    "progressive": _whole("JPEG", progressive=True),
    "PNG": _whole("PNG"),
}
if features.check("webp"):
    WHOLE_IMAGES["WEBP"] = _whole("WEBP")
    WHOLE_IMAGES["lossless"] = _whole("WEBP", lossless=True)
CUT_IMAGES = {name: blob[: len(blob) * 6 // 10] for name, blob in WHOLE_IMAGES.items()}
TWO = "id INTEGER PRIMARY KEY, left BLOB, right BLOB, label INTEGER"


@pytest.fixture(params=[0, 2], ids=["in process", "2 workers"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    made: list[FastLoader] = []

    def maker(url: str, **options: Any) -> FastLoader:
        made.append(FastLoader(url, **{"workers": request.param, "batch_size": 4, **options}))
        return made[-1]

    yield maker
    for loader in made:
        loader.close()


def one_column(path: Path, blobs: list[bytes | None]) -> str:
    return table(path / "t.db", [(i, blob, i) for i, blob in enumerate(blobs)])


def test_each_of_several_image_columns_has_its_own_options(make: Make, tmp_path: Path) -> None:
    rows = [(i, jpeg(40, 30, seed=i), jpeg(20, 26, seed=100 + i), i) for i in range(6)]
    url = table(tmp_path / "t.db", rows, columns=TWO)
    loader = make(
        url, image=["right", "left"], size={"left": (30, 40), "right": (26, 20)},
        channels={"right": 1}, dtype={"left": "float32"}, layout={"left": "NCHW"},
    )  # fmt: skip
    seen = 0
    for images, labels in loader:
        assert list(images) == ["right", "left"]
        assert images["left"].dtype == np.float32
        for left, right, label in zip(images["left"], images["right"], labels, strict=True):
            expected = decoded(rows[label][1]).transpose(2, 0, 1)
            np.testing.assert_array_equal(left, (expected / 255).astype(np.float32))
            assert right.shape == (26, 20, 1)
            gray = np.asarray(Image.open(io.BytesIO(rows[label][2])).convert("L"), int)
            assert np.abs(right[:, :, 0] - gray).mean() < 1
            seen += 1
    assert seen == 6


def test_a_row_with_one_bad_image_of_several_is_bad_and_says_which(
    make: Make, tmp_path: Path
) -> None:
    good = jpeg(8, 8)
    rows = [(1, good, good, 1), (2, good, None, 2), (3, b"junk", good, 3), (4, good, good, 4)]
    url = table(tmp_path / "t.db", rows, columns=TWO)
    loader = make(url, image=["left", "right"], size=(8, 8), on_error="skip")
    [(images, labels)] = loader
    assert labels.tolist() == [1, 4]
    assert images["left"].shape == images["right"].shape == (2, 8, 8, 3)
    (two, why_two), (three, why_three) = loader.bad_rows
    assert (two, three) == (2, 3)
    assert "'right' is NULL" in why_two
    assert why_three.startswith("column 'left': unknown image format (it starts with 6a 75 6e 6b")


@few(8)
@pytest.mark.parametrize("name", SMALL_IMAGES)
def test_every_format_comes_through(make: Make, tmp_path: Path, name: str) -> None:
    if name.startswith("gray_16"):
        pytest.skip("Pillow clips these; the corpora compare them")
    blob = SMALL_IMAGES[name]
    try:
        image = Image.open(io.BytesIO(blob))
    except Image.UnidentifiedImageError:
        pytest.skip("this Pillow was built without the format")
    expected = np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    loader = make(one_column(tmp_path, [blob]), size=expected.shape[:2])
    [(images, _)] = loader
    np.testing.assert_array_equal(images[0], expected[:, :, :3])


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "PPM", "TGA", "ICO"])
def test_other_formats_come_through_pillow(make: Make, tmp_path: Path, format: str) -> None:
    blob = encoded(format, "P" if format == "GIF" else "RGB")
    expected = decoded(blob)
    url = one_column(tmp_path, [jpeg(8, 8), blob, blob])
    [(images, _)] = make(url, size=expected.shape[:2])
    np.testing.assert_array_equal(images[1], expected)
    np.testing.assert_array_equal(images[2], expected)


def test_pillows_images_are_turned_composed_and_cropped_as_all_are(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (20, 31, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "TIFF", exif=exif)
    options: dict[str, Any] = {"fit": "random_crop", "flip": True, "workers": 0, "with_keys": True}
    upright = io.BytesIO()
    image.transpose(Image.Transpose.ROTATE_270).save(upright, "PNG")
    batches = []
    for name, blob in (("a", file.getvalue()), ("b", upright.getvalue())):
        with FastLoader(
            table(tmp_path / name, [(5, blob, 0)] * 1), size=(9, 9), **options
        ) as loader:
            batches.append([images.copy() for images, _, _ in unpacked(loader)])
    turned_later, turned_first = (np.array(batch, int) for batch in batches)
    assert np.abs(turned_later - turned_first).max() <= 1  # the passes of the resize swap places


def test_an_image_in_no_format_says_how_it_starts(make: Make, tmp_path: Path) -> None:
    with pytest.raises(RowError, match=r"it starts with 68 65 6c 6c 6f; Pillow does not know it"):
        list(make(one_column(tmp_path, [b"hello"])))


def test_without_pillow_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with (
        FastLoader(one_column(tmp_path, [b"GIF89a"]), workers=0) as loader,
        pytest.raises(RowError, match=r"pip install 'fastloader\[pillow\]'"),
    ):
        list(loader)


def test_postscript_is_never_run(make: Make, tmp_path: Path) -> None:
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(RowError, match="Pillow does not know it"):
        list(make(one_column(tmp_path, [program])))


def test_postscript_is_not_run_in_a_wrapper_either(make: Make, tmp_path: Path) -> None:
    """IPTC holds a file of any format, which Pillow opens without asking which."""
    inner = encoded("PNG", "RGB")
    size = b"".join(bytes([0x1C, 3, number, 0, 2]) + (8).to_bytes(2, "big") for number in (20, 30))
    blob = size + bytes([0x1C, 3, 60, 0, 2, 3, 1, 0x1C, 8, 10]) + len(inner).to_bytes(2, "big")
    with pytest.raises(RowError, match="Pillow does not know it"):
        list(make(one_column(tmp_path, [blob + inner])))


def test_pixels_without_a_stated_white_are_refused(make: Make, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(file, "TIFF")
    with pytest.raises(RowError, match="unsupported image .*what is white in it is not known"):
        list(make(one_column(tmp_path, [file.getvalue()])))


def test_16_bit_gray_becomes_8_by_rounding(make: Make, tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    ppm = b"P5 8 8 65535\n" + levels.astype(">u2").tobytes()
    files = [ppm]
    for format in ("PNG", "TIFF"):
        file = io.BytesIO()
        Image.fromarray(levels).save(file, format)
        files.append(file.getvalue())
    [(images, _)] = make(one_column(tmp_path, files), size=(8, 8), channels=1)
    for image in images:
        np.testing.assert_array_equal(image[:, :, 0], np.round(levels / 257))


def test_limits_hold_for_pillows_formats_too(make: Make, tmp_path: Path) -> None:
    loader = make(one_column(tmp_path, [encoded("BMP", "RGB")]), max_pixels=300)
    with pytest.raises(RowError, match="23 x 17 pixels, the limit is 300; raise max_pixels"):
        list(loader)


# ---- images that end early -----------------------------------------------------------------------


def test_an_image_that_ends_early_is_delivered_counted_and_listed(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blob = jpeg(64, 64, quality=95)
    url = one_column(tmp_path, [blob, blob[: len(blob) // 2]])
    loader = make(url, size=(64, 64))
    with caplog.at_level(logging.WARNING, "fastloader"):
        for _ in range(2):
            [(images, labels)] = loader
    assert labels.tolist() == [0, 1]
    np.testing.assert_array_equal(images[1][:14], images[0][:14])
    assert (images[1][-8:] == 128).all()
    [(key, why)] = loader.partial_rows
    assert key == 1
    assert f"the blob of {len(blob) // 2} bytes ends before the image does" in why
    assert (loader.stats().partial_rows, loader.bad_rows) == (2, [])
    [record] = [r for r in caplog.records if "1 image ends early or is damaged" in r.message]
    assert "the first is key 1" in record.message


def test_strict_makes_it_a_bad_row(make: Make, tmp_path: Path) -> None:
    blob = jpeg(64, 64, quality=95)
    loader = make(one_column(tmp_path, [blob, blob[: len(blob) // 2]]), strict=True)
    with pytest.raises(RowError, match="row with key 1: truncated image"):
        list(loader)


@pytest.mark.parametrize("name", ["420.jpg", "444.jpg", "420_progressive.jpg", *(
    name for name in SMALL_IMAGES if name.endswith((".png", ".webp")) and name != "gray_1.png"
)])  # fmt: skip
def test_wherever_an_image_is_cut_what_came_is_right_and_the_rest_gray_or_it_is_bad(
    name: str,
) -> None:
    blob = SMALL_IMAGES[name]
    decoder = ImageDecoder(fastloader.Image("i", size=(17, 23)), Context())
    whole = np.zeros((1, 17, 23, 3), np.uint8)
    keys = np.zeros(1, np.uint64)
    assert decoder.decode(Values.of([blob]), whole, keys, 0) == ({}, {})
    outcomes = set()
    for end in range(1, len(blob) - 2, 3):
        pixels = np.full_like(whole, 77)
        bad, partial = decoder.decode(Values.of([blob[:end]]), pixels, keys, 0)
        outcomes.add("bad" if bad else "partial" if partial else "whole")
        if partial:
            assert "ends before the image does" in partial[0]
            if "progressive" not in name and "jpg" not in name and name != "interlaced.png":
                rows = [bool((pixels[0, y] == whole[0, y]).all()) for y in range(17)]
                came = rows.index(False) if False in rows else 17
                assert (pixels[0, came + 1 :] == 128).all()
    assert "bad" in outcomes
    if "lossless" not in name and "animation" not in name:
        assert len(outcomes) > 1


# ---- random crops --------------------------------------------------------------------------------


def test_a_rows_crop_is_the_same_whatever_worker_decodes_it(tmp_path: Path) -> None:
    url = table(tmp_path / "t.db", [(i * 7, jpeg(50, 40, seed=i), i) for i in range(20)])
    options: dict[str, Any] = {
        "fit": "random_crop", "flip": True, "seed": 11, "size": (16, 16), "with_keys": True,
    }  # fmt: skip
    crops: list[list[dict[int, bytes]]] = []
    for workers, batch_size in ((0, 3), (1, 20), (3, 4)):
        with FastLoader(url, workers=workers, batch_size=batch_size, **options) as loader:
            crops.append([
                {int(k): i.tobytes() for images, _, keys in unpacked(loader)
                 for i, k in zip(images, keys, strict=True)}
                for _ in range(2)
            ])  # fmt: skip
    assert crops[0] == crops[1] == crops[2]
    first, second = crops[0]
    assert len({*first.values(), *second.values()}) == 40


def test_keys_of_every_type_have_numbers_that_do_not_depend_on_their_neighbors() -> None:
    integers = np.array([-1, 0, 2**62], np.int64)
    assert key_numbers(integers).tolist() == [2**64 - 1, 0, 2**62]
    for dtype, keys in (("V16", [bytes(range(16)), bytes(16)]), ("S5", [b"abcde", b"a"])):
        numbers = key_numbers(np.array(keys, dtype))
        assert len(set(numbers.tolist())) == 2
        assert key_numbers(np.array(keys[1:], dtype))[0] == numbers[1]
    wide = key_numbers(np.array([b"a"], "S9"))
    assert wide[0] == key_numbers(np.array([b"a"], "S1"))[0]


def test_vector_instructions_can_be_done_without(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = one_column(tmp_path, [jpeg(60, 50, seed=seed) for seed in range(3)])
    [(images, _)] = make(url)
    monkeypatch.setenv("FASTLOADER_SIMD", "portable")
    loader = make(url)
    [(same, _)] = loader
    np.testing.assert_array_equal(images, same)
    assert ImageDecoder(loader.config.images[0], loader.config.context).simd == "portable"


@pytest.mark.parametrize("format", WHOLE_IMAGES)
def test_whether_a_cut_image_can_be_shown_does_not_depend_on_the_crop(format: str) -> None:
    """Otherwise an epoch could fail at a row that was fine in the epoch before."""
    blob = CUT_IMAGES[format]
    options = {"fit": "random_crop", "scale": (0.05, 0.3), "size": (8, 8)}
    decoder = ImageDecoder(fastloader.Image("i", **options), Context())
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    keys = np.array([1], np.uint64)
    outcomes = [decoder.decode(Values.of([blob]), pixels, keys, epoch) for epoch in range(100)]
    assert [bad for bad, _ in outcomes if bad] == []
    assert sum(bool(partial) for _, partial in outcomes) > 50


@full
@pytest.mark.parametrize("format", WHOLE_IMAGES)
def test_the_more_of_an_image_came_the_better_it_is(format: str) -> None:
    """It is bad at first, then partial, then whole."""
    blob = WHOLE_IMAGES[format]
    decoder = ImageDecoder(fastloader.Image("i", size=(8, 8)), Context())
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    ranks = []
    for end in range(13, len(blob) + 1, 7):
        bad, partial = decoder.decode(Values.of([blob[:end]]), pixels, np.zeros(1, np.uint64), 0)
        ranks.append(0 if bad else 1 if partial else 2)
    assert ranks == sorted(ranks)
    assert {0, 1} <= set(ranks)


def test_an_image_whose_data_ends_before_its_end_marker_is_partial_too() -> None:
    """Repair tools write such files."""
    blob = CUT_IMAGES["JPEG"] + b"\xff\xd9"
    decoder = ImageDecoder(fastloader.Image("i", size=(8, 8)), Context())
    bad, partial = decoder.decode(
        Values.of([blob]), np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.uint64), 0
    )
    assert (bad, list(partial)) == ({}, [0])

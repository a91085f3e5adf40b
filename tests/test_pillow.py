"""What Pillow decodes for the kernel: which formats, within which limits, with whose settings."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps, features

import fastloader
from fastloader import ConfigError, FastLoader, RowError
from fastloader.fields import pillow
from fastloader.fields.context import Context
from fastloader.fields.image_decoder import ImageDecoder
from fastloader.fields.values import Values

from .interrupts import each_place
from .programs import in_a_fork
from .small_tiffs import blp, dcx, empty_gif, icns, ico, saved, tiff
from .support import table
from .tiers import full

Make = Callable[..., FastLoader]

MIB = 1 << 20
DEFAULT_MAX_PIXELS = 178_956_970


@pytest.fixture(params=[0, 2], ids=["in process", "2 workers"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Make a loader of one blob."""
    made: list[FastLoader] = []

    def maker(blob: bytes, **options: Any) -> FastLoader:
        url = table(tmp_path / f"{len(made)}.db", [(1, blob, 1)])
        made.append(FastLoader(url, workers=request.param, **options))
        return made[-1]

    yield maker
    for loader in made:
        loader.close()


def reason(blob: bytes, **options: Any) -> str:
    """Return why the image is bad, or an empty string."""
    images, numbers = np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.uint64)
    decoder = ImageDecoder(fastloader.Image("i", size=(8, 8), **options), Context())
    bad, _ = decoder.decode(Values.of([blob]), images, numbers, 0)
    return bad.get(0, "")


def pixels(width: int, height: int, seed: int = 1) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


# ---- memory --------------------------------------------------------------------------------------

PEAK = """
import re, sys
import numpy as np
from PIL import Image
import fastloader
from fastloader.fields.context import Context
from fastloader.fields.image_decoder import ImageDecoder
from fastloader.fields.values import Values

def peak():  # ru_maxrss is that of the parent at first
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

Image.init()
field = fastloader.Image("i", size=(8, 8), max_pixels=int(sys.argv[2]))
decoder = ImageDecoder(field, Context())
images = np.zeros((1, 8, 8, 3), np.uint8)
values = Values.of([open(sys.argv[1], "rb").read()])
len(values.value(0))  # the blob's own copy does not count
before = peak()
bad, _ = decoder.decode(values, images, np.zeros(1, np.uint64), 0)
print(peak() - before, bad.get(0, ""))
"""


def taken(path: Path, blob: bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> tuple[float, str]:
    """Return the MiB that a process takes for an image, and why the image is bad."""
    file = path / "blob"
    file.write_bytes(blob)
    command = [sys.executable, "-c", PEAK, str(file), str(max_pixels)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kib, _, why = said.strip().partition(" ")
    return int(kib) / 1024, why


def hollow_jpeg(width: int, height: int) -> bytes:
    """Return a progressive JPEG of this size without pixels."""
    blob = saved(Image.new("RGB", (16, 16)), "JPEG", progressive=True)
    at = blob.index(b"\xff\xc2") + 5
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return blob[:at] + size + blob[at + 4 :]


LARGE_PNG = saved(Image.new("1", (6000, 6000)), "PNG")
CONTAINERS = {
    "BLP": blp(hollow_jpeg(6000, 6000)),
    "ICNS": icns(LARGE_PNG),
    "DCX": dcx(saved(Image.new("1", (6000, 6000)), "PCX")),
}


@pytest.mark.parametrize("format", CONTAINERS)
def test_files_that_hold_files_of_any_size_are_not_let_in(format: str, tmp_path: Path) -> None:
    assert format in {*Image.ID, *(Image.init() or Image.ID)}
    mib, why = taken(tmp_path, CONTAINERS[format])
    assert "unknown image format" in why
    assert mib < 20


def test_an_icons_frame_is_held_to_max_pixels(tmp_path: Path) -> None:
    mib, why = taken(tmp_path, ico(LARGE_PNG), 35_999_999)
    assert why == (
        "image too large (an image of 36000000 pixels inside, the limit is 35999999; raise "
        "max_pixels to allow it)"
    )
    assert mib < 20
    assert reason(ico(LARGE_PNG), max_pixels=36_000_000) == ""


@pytest.mark.parametrize("deflate", [False, True])
def test_a_tiffs_tile_is_held_to_max_pixels(deflate: bool, tmp_path: Path) -> None:
    """An image of 8 x 8 pixels in a tile of 36 million, which libtiff would decode whole."""
    blob = tiff(8, 8, bytes(6000 * 6000), tile=(6000, 6000), deflate=deflate)
    mib, why = taken(tmp_path, blob, 35_999_999)
    assert "image too large (tiles of 6000 x 6000 pixels, the limit is 35999999; raise" in why
    assert mib < 20
    assert reason(blob, max_pixels=36_000_000) == ""


@pytest.mark.parametrize("frame", [(0, 0, 3000, 2000), (2990, 1990, 10, 10)])
def test_a_gifs_frame_is_held_to_max_pixels(frame: tuple[int, ...], tmp_path: Path) -> None:
    """A frame that is larger than the GIF makes the GIF larger."""
    blob = bytearray(empty_gif(1, 1))
    at = blob.index(b",") + 1
    blob[at : at + 8] = b"".join(number.to_bytes(2, "little") for number in frame)
    mib, why = taken(tmp_path, bytes(blob), 5_999_999)
    assert "image too large (an image of 6000000 pixels inside, the limit is 5999999" in why
    assert mib < 20


def test_no_side_may_be_longer_than_65535_pixels(tmp_path: Path) -> None:
    """The kernel would refuse it, but later."""
    mib, why = taken(tmp_path, b"P5 65536 2000 255\n" + bytes(1000))
    assert why == "image too large (65536 x 2000 pixels, the limit is 65535 for a side)"
    assert mib < 20


# Bytes for each pixel: docs/explanation/pixels.md says these, and half a byte may go elsewhere.
FACTORS: dict[str, tuple[bytes, float]] = {
    "GIF": (empty_gif(4000, 4000), 4),
    "BMP": (saved(Image.new("RGB", (4000, 4000)), "BMP"), 7),
    "TIFF": (saved(Image.new("RGB", (4000, 4000)), "TIFF", compression="tiff_lzw"), 7),
    "TIFF RGBA": (saved(Image.new("RGBA", (4000, 4000)), "TIFF", compression="tiff_lzw"), 8),
    "TIFF 16": (saved(Image.new("I;16", (4000, 4000)), "TIFF", compression="tiff_lzw"), 5),
}


@pytest.mark.parametrize("name", FACTORS)
def test_an_image_takes_what_pillow_needs_and_one_copy(name: str, tmp_path: Path) -> None:
    blob, factor = FACTORS[name]
    mib, why = taken(tmp_path, blob)
    assert why == ""
    assert (factor - 1) * 4000**2 / MIB < mib < (factor + 1) * 4000**2 / MIB


# ---- settings ------------------------------------------------------------------------------------


@full
def test_the_programs_limit_does_not_count_and_is_left_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in (10, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for blob in (saved(pixels(16, 16), "BMP"), saved(pixels(16, 16), "ICO")):
            [(images, _)] = make(blob, max_pixels=256)
            assert images.shape == (1, 224, 224, 3)
            with pytest.raises(RowError, match="the limit is 255; raise max_pixels"):
                list(make(blob, max_pixels=255))
        assert limit == Image.MAX_IMAGE_PIXELS


@full
def test_more_than_pillows_own_limit_may_be_allowed(make: Make) -> None:
    """It has 179 million pixels. It is not whole, so another error ends it, early."""
    blob = b"P4 13500 13500\n" + bytes(1000)
    with pytest.raises(RowError, match="image too large .13500 x 13500 pixels, the limit is 17895"):
        list(make(blob))
    with pytest.raises(RowError, match="corrupt image .Pillow says OSError: image file is trunc"):
        list(make(blob, max_pixels=200_000_000))


def test_the_programs_leave_to_load_half_images_does_not_count(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    blob = saved(pixels(40, 30), "BMP")
    with pytest.raises(RowError, match="corrupt image .*truncated"):
        list(make(blob[: len(blob) // 2]))
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_threads_leave_each_others_settings_and_the_programs_alone() -> None:
    blob, found = saved(pixels(300, 200), "GIF"), set[str]()
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))

    def decode(max_pixels: int) -> None:
        for _ in range(30):
            found.add(reason(blob, max_pixels=max_pixels))

    threads = [threading.Thread(target=decode, args=(most,)) for most in (60_000, 59_999)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2
    assert "" in found
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_ctrl_c_anywhere_leaves_the_programs_settings_alone() -> None:
    blob = saved(pixels(30, 20), "GIF")
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert reason(blob) == ""
    interrupted = 0
    for interrupter in each_place(["fields/pillow"]):
        interrupted += interrupter.run(lambda: pillow.decode(blob, 1000))
        after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
        assert after == before, interrupter.where
        assert not pillow._lock.locked(), interrupter.where
    assert interrupted > 20


def test_a_fork_decodes_while_its_parent_does() -> None:
    blob = saved(pixels(30, 20), "GIF")
    with pillow._settings(1000):
        in_a_fork(lambda: reason(blob))


# ---- orientation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_if_that_is_asked_for(
    make: Make, orientation: int, compression: str
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = pixels(31, 20)
    blob = saved(image, "TIFF", exif=exif, compression=compression)
    [(images, _)] = make(blob, size=(20, 31), orientation=False)
    np.testing.assert_array_equal(images[0], np.asarray(image))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(blob))))
    [(images, _)] = make(blob, size=upright.shape[:2])
    np.testing.assert_array_equal(images[0], upright)


# ---- formats -------------------------------------------------------------------------------------


def test_every_format_that_is_let_in_is_pillows() -> None:
    Image.init()
    missing = set(pillow.FORMATS) - set(Image.ID)
    assert missing <= {"AVIF"}  # of Pillow 11.3


def test_a_format_that_pillow_knows_in_part_says_what_is_wrong() -> None:
    blob = tiff(2, 1, bytes(10), bits=(10,))
    assert "Pillow's plugin for TIFF says: unknown pixel mode" in reason(blob)


TOY = """
from PIL import Image, ImageFile

class ToyImageFile(ImageFile.ImageFile):
    format = "TOY"

    def _open(self):
        self._size, self._mode = (self.fp.read(4)[3], 1), "L"
        self.tile = [ImageFile._Tile("raw", (0, 0, *self.size), 4, ("L", 0, 1))]

Image.register_open("TOY", ToyImageFile, lambda prefix: prefix.startswith(b"TOY"))
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Write a module that adds a format to Pillow's, and give its name."""
    (tmp_path / "toy_plugin.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    yield "toy_plugin"
    sys.modules.pop("toy_plugin", None)
    Image.OPEN.pop("TOY", None)
    Image.ID[:] = [name for name in Image.ID if name != "TOY"]


def test_a_format_of_another_package_comes_through_where_its_module_is_named(
    make: Make, toy: str
) -> None:
    [(images, _)] = make(b"TOY\3abc", size=(1, 3), channels=1, worker_imports=toy)
    assert bytes(images[0]) == b"abc"
    with pytest.raises(RowError, match="3 x 1 pixels, the limit is 2"):
        list(make(b"TOY\3abc", worker_imports=[toy], max_pixels=2))


def test_a_format_that_only_the_program_has_registered_is_unknown_with_and_without_workers(
    make: Make, toy: str
) -> None:
    __import__(toy)
    with pytest.raises(RowError, match="unknown image format") as caught:
        list(make(b"TOY\3abc"))
    if make(b"TOY\3abc").config.workers == 0:
        assert "workers do not have: name the module that registers it in worker_imports" in str(
            caught.value
        )


@pytest.mark.parametrize(("text", "why"), [
    ("raise OSError('no library')", "cannot import 'bad_plugin' (OSError: no library)"),
    ("raise SystemExit(3)", "cannot import 'bad_plugin' (SystemExit: 3)"),
    (None, "cannot import 'bad_plugin' (ModuleNotFoundError: No module named 'bad_plugin')"),
], ids=["fails", "exits", "is not there"])  # fmt: skip
def test_a_module_that_cannot_be_imported_is_named_when_the_loader_is_made(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, why: str
) -> None:
    if text:
        (tmp_path / "bad_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        make(b"", worker_imports=["json", "bad_plugin"])
    assert str(caught.value).startswith(f"worker_imports: {why}")


@pytest.mark.skipif("avif" not in features.get_supported_modules(), reason="not in this Pillow")
def test_avif_is_let_in() -> None:
    assert reason(saved(pixels(20, 10), "AVIF")) == ""

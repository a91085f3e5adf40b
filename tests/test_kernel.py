"""The kernel decodes everything that JPEG allows, to the pixels of the reference."""

from __future__ import annotations

import ctypes
import itertools
import os
import random
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from fastloader.errors import KERNEL_STATUS
from fastloader.fields import _kernel
from fastloader.fields._kernel import Decoder

from .small_images import SMALL_IMAGES
from .small_jpegs import HEIGHT, SMALL_JPEGS, WIDTH
from .support import DATA, compiled, decoded, jpeg, needs_data, needs_sources, photos, resized
from .tiers import few

LIBC = ctypes.CDLL(None)
LIMITS = {"max_pixels": 10**8, "max_scans": 100}


@pytest.mark.skipif("FASTLOADER_EXPECT_LIBJPEG" not in os.environ, reason="the system's libjpeg")
def test_the_kernel_under_test_has_the_libjpeg_that_was_asked_for() -> None:
    wanted = os.environ["FASTLOADER_EXPECT_LIBJPEG"]
    assert f"libjpeg-turbo {wanted}." in _kernel.libraries


@pytest.mark.skipif("FASTLOADER_EXPECT_SANITIZED" not in os.environ, reason="an ordinary build")
def test_the_kernel_under_test_is_instrumented() -> None:
    assert _kernel.sanitized


def decode(
    blob: bytes, height: int, width: int, *, portable: bool = False, channels: int = 3
) -> NDArray[np.uint8]:
    pixels = np.full((1, height, width, channels), 77, np.uint8)
    decoder = Decoder(height, width, portable=portable, channels=channels, **LIMITS)
    failures = decoder.decode([blob], pixels)
    assert failures == []
    return pixels[0]


def failure(blob: bytes, **limits: int) -> tuple[str, str]:
    pixels = np.zeros((1, 8, 8, 3), np.uint8)
    options = {"strict": True, **LIMITS, **limits}
    [(index, status, message)] = Decoder(8, 8, **options).decode([blob], pixels)
    assert index == 0
    return KERNEL_STATUS[status][0], message


def worst(ours: NDArray[np.uint8], reference: NDArray[np.float64]) -> int:
    """Return the largest difference from the rounded reference, in levels."""
    return int(np.abs(ours.astype(int) - np.floor(reference + 0.5)).max())


@pytest.mark.parametrize("kind", SMALL_JPEGS)
def test_every_kind_of_jpeg_has_the_pixels_of_pillow(kind: str) -> None:
    expected = decoded(SMALL_JPEGS[kind])
    assert expected.shape == (HEIGHT, WIDTH, 3)
    np.testing.assert_array_equal(decode(SMALL_JPEGS[kind], HEIGHT, WIDTH), expected)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("source", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 23), (64, 64), (333, 500)])
@pytest.mark.parametrize("target", [(1, 1), (1, 7), (7, 1), (16, 16), (17, 23), (224, 224)])
def test_every_size_becomes_every_other_within_one_level(
    source: tuple[int, int], target: tuple[int, int], portable: bool
) -> None:
    blob = jpeg(source[1], source[0], seed=sum(source), quality=95)
    ours = decode(blob, *target, portable=portable)
    assert worst(ours, resized(decoded(blob), *target)) <= 1


def test_one_pixel_of_a_large_image_is_its_mean_under_the_filter() -> None:
    blob = jpeg(3000, 2000, seed=5)
    assert worst(decode(blob, 1, 1), resized(decoded(blob), 1, 1)) <= 1


def test_the_same_size_is_the_decoded_image_itself() -> None:
    blob = jpeg(101, 67, quality=98)
    np.testing.assert_array_equal(decode(blob, 67, 101), decoded(blob))


@few(6)
@pytest.mark.parametrize("seed", range(40))
def test_vector_and_portable_code_give_the_same_bytes(seed: int) -> None:
    rng = random.Random(seed)
    blob = jpeg(rng.randint(1, 700), rng.randint(1, 500), seed=seed)
    target = rng.randint(1, 300), rng.randint(1, 300)
    for channels in (3, 1):
        vector, portable = (
            decode(blob, *target, portable=portable, channels=channels)
            for portable in (False, True)
        )
        np.testing.assert_array_equal(vector, portable)


def test_vector_and_portable_code_give_the_same_bytes_in_narrow_images() -> None:
    """Vectors are stored several pixels at a time, and the last ones of a row are not."""
    blob = jpeg(40, 30, seed=1)
    for height, width in itertools.product((1, 2, 3), range(1, 14)):
        vector, portable = (decode(blob, height, width, portable=its) for its in (False, True))
        np.testing.assert_array_equal(vector, portable)


@needs_data
def test_all_photographs_are_within_one_level_of_the_reference() -> None:
    decoder = Decoder(224, 224, **LIMITS)
    pixels = np.empty((1, 224, 224, 3), np.uint8)
    different = 0
    for path in photos():
        assert decoder.decode([path.read_bytes()], pixels) == [], path
        reference = resized(decoded(path.read_bytes()), 224, 224)
        assert worst(pixels[0], reference) <= 1, path
        different += int((pixels[0] != np.floor(reference + 0.5)).sum())
    share = different / (len(photos()) * pixels.size)
    print(f"{len(photos())} photographs; {share:.2%} of the values are one level off")
    assert share < 0.01  # thanks to the 7 bits behind the point between the passes


@needs_data
@pytest.mark.parametrize("path", sorted(DATA.glob("large/*.jpg"))[:6], ids=lambda p: p.name)
def test_large_photographs_are_within_one_level_of_the_reference(path: Path) -> None:
    blob = path.read_bytes()
    assert worst(decode(blob, 224, 160), resized(decoded(blob), 224, 160)) <= 1


def test_a_decoder_goes_on_after_a_bad_blob() -> None:
    good = SMALL_JPEGS["420_progressive"]
    blobs = [good, b"", good[:200], b"GIF89a", good]
    pixels = np.zeros((5, HEIGHT, WIDTH, 3), np.uint8)
    failures = Decoder(HEIGHT, WIDTH, **LIMITS).decode(blobs, pixels)
    assert [index for index, _, _ in failures] == [1, 2, 3]
    np.testing.assert_array_equal(pixels[0], decoded(good))
    np.testing.assert_array_equal(pixels[4], pixels[0])


def test_a_decoder_leaves_the_bytes_around_its_image_alone() -> None:
    pixels = np.full((3, 5, 7, 3), 77, np.uint8)
    assert Decoder(5, 7, **LIMITS).decode([SMALL_JPEGS["444"]], pixels[1:2]) == []
    assert (pixels[0] == 77).all()
    assert (pixels[2] == 77).all()


def test_failures_have_a_status_and_say_what_is_wrong() -> None:
    good = SMALL_JPEGS["420"]
    assert failure(b"") == ("empty image", "the blob is empty")
    assert failure(b"GIF89a") == (
        "unknown image format",
        "it starts with 47 49 46 38 39 61",
    )
    assert failure(good[:-40]) == (
        "truncated image",
        f"the blob of {len(good) - 40} bytes ends before the image does",
    )
    assert failure(good[:30])[0] == "truncated image"
    assert failure(b"\xff\xd8\xff\xd9" * 10)[0] == "corrupt image"
    assert failure(good, max_pixels=390) == ("image too large", "23 x 17 pixels, the limit is 390")
    assert failure(SMALL_JPEGS["420_progressive"], max_scans=3) == (
        "image too complex",
        "more than 3 scans",
    )


def test_a_missing_end_marker_is_no_failure() -> None:
    blob = SMALL_JPEGS["444"]
    assert blob.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(decode(blob[:-2], HEIGHT, WIDTH), decoded(blob))


def test_a_progressive_image_without_its_last_scans_is_truncated() -> None:
    blob = SMALL_JPEGS["420_progressive"]
    last_scan = blob.rindex(b"\xff\xda")
    assert failure(blob[:last_scan])[0] == "truncated image"


def test_arguments_that_do_not_fit_are_refused() -> None:
    decoder = Decoder(8, 8, **LIMITS)
    with pytest.raises(ValueError, match=r"2 images of \(8, 8, 3\) uint8 do not fit"):
        decoder.decode([b"", b""], np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="do not fit into an array"):
        decoder.decode([b""], np.zeros((1, 8, 9, 3), np.uint8))
    with pytest.raises(TypeError):
        decoder.decode(["text"], np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="do not fit into an array"):
        decoder.decode([b""], np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="not C-contiguous"):
        decoder.decode([b""], np.zeros((1, 8, 8, 6), np.uint8)[..., ::2])
    with pytest.raises(ValueError, match="2 images need 2 rows"):
        decoder.decode([b"", b""], np.zeros((2, 8, 8, 3), np.uint8), np.zeros(1, np.uint64))
    with pytest.raises(ValueError, match="out of its range"):
        Decoder(8, 8, channels=2, **LIMITS)
    with pytest.raises(ValueError, match="from 1 to 65535"):
        Decoder(0, 8, **LIMITS)


class MallInfo(ctypes.Structure):
    """The struct mallinfo2 of glibc."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks")),
        ("keepcost", ctypes.c_size_t),
    )


def allocated() -> int:
    """Return the bytes that malloc has handed out; pages would also count what it keeps."""
    if _kernel.sanitized:
        LIBC.__sanitizer_get_current_allocated_bytes.restype = ctypes.c_size_t
        return int(LIBC.__sanitizer_get_current_allocated_bytes())
    LIBC.mallinfo2.restype = MallInfo
    info = LIBC.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def test_decoding_keeps_no_memory() -> None:
    decoder = Decoder(64, 64, **LIMITS)
    pixels = np.empty((40, 64, 64, 3), np.uint8)
    blobs = [jpeg(400, 300), jpeg(400, 300)[:500], b"no", *SMALL_IMAGES.values()]

    def work() -> None:
        for _ in range(100):
            decoder.decode(blobs, pixels)

    work()
    before = allocated()
    work()
    assert allocated() - before < 1600  # bytes: 16 a round


def test_a_timed_decoder_says_where_the_time_went() -> None:
    decoder = Decoder(64, 64, dtype="float32", timed=True, **LIMITS)
    start = time.perf_counter()  # the clock that the kernel reads, so the seconds compare
    decoder.decode([jpeg(400, 300)], np.empty((1, 64, 64, 3), np.float32))
    elapsed = time.perf_counter() - start
    times = decoder.times
    assert times["resize"] > 0
    assert times["write"] > 0
    assert elapsed > times["total"] > times["resize"] + times["write"]
    untimed = Decoder(64, 64, **LIMITS)
    untimed.decode([jpeg(400, 300)], np.empty((1, 64, 64, 3), np.uint8))
    assert untimed.times == {"total": 0, "resize": 0, "write": 0}


OTHER_LIBJPEG = """
#include <stdio.h>
#include <jpeglib.h>
#include <jerror.h>
void jpeg_CreateDecompress(j_decompress_ptr cinfo, int version, size_t size) {
    (void)size;
    ERREXIT2(cinfo, JERR_BAD_LIB_VERSION, 80, version);
}
"""


@needs_sources  # a wheel has a libjpeg of its own
@pytest.mark.skipif(_kernel.sanitized, reason="the sanitizers have to be loaded first")
def test_a_libjpeg_that_it_was_not_built_for_is_not_a_corrupt_image(
    tmp_path: Path,
) -> None:
    source, library = tmp_path / "other.c", tmp_path / "libother.so"
    source.write_text(OTHER_LIBJPEG)
    compiled(library, [source], "-shared", "-fPIC")
    done = subprocess.run(
        [sys.executable, "-c", "import fastloader"],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: fastloader was built for libjpeg-turbo")
    assert "library is 80" in last
    assert "Build it again" in last


@pytest.mark.parametrize("quality", ["exact", "fast"])
def test_a_decoder_counts_what_it_has_decoded_at_its_own_size(quality: str) -> None:
    small, large, png = jpeg(40, 30), jpeg(400, 300, seed=1), png_of_zeros(50, 20)
    cut = large[: len(large) * 3 // 4]
    decoder = Decoder(8, 8, max_pixels=1 << 20, quality=quality)
    blobs = [small, b"none", large, small[:300], png, cut]
    failures = decoder.decode(blobs, np.zeros((len(blobs), 8, 8, 3), np.uint8))
    assert [i for i, _, _ in failures] == [1, 3, 5]
    assert decoder.take_images() == {
        "JPEG": (3, len(small) + len(large) + len(cut), 1200 + 2 * 120_000, 120_000),
        "PNG": (1, len(png), 1000, 1000),
    }
    assert decoder.take_images() == {}


def test_compressed_data_that_comes_to_nothing_is_given_up() -> None:
    """A stream of empty blocks: eight MiB of it would take seconds, for no row."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return len(data).to_bytes(4, "big") + kind + data + checksum.to_bytes(4, "big")

    four_blocks = int("0000000010" * 4, 2).to_bytes(5, "little")  # fixed codes, end of block
    header = (1000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    idat = chunk(b"IDAT", b"\x78\x01" + four_blocks * ((8 << 20) // 5))
    blob = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + idat
    assert failure(blob) == ("corrupt image", "PNG: the compressed data is broken")


def png_of_zeros(width: int, height: int, *, interlaced: bool = False) -> bytes:
    """One bit for each pixel."""
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height * 2))
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, interlaced])
    blob = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", rows)):
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        blob += len(data).to_bytes(4, "big") + kind + data + checksum
    return blob


@pytest.mark.parametrize("size", [(65536, 1), (1, 65536), (20_000_000, 1)])
def test_a_side_has_a_limit_of_its_own(size: tuple[int, int]) -> None:
    shown = f"{size[0]} x {size[1]} pixels, the limit of a side is 65535"
    assert failure(png_of_zeros(*size)) == ("unsupported image", shown)


def test_a_large_image_does_not_make_a_decoder_large_forever() -> None:
    decoder = Decoder(8, 8, **LIMITS)
    pixels = np.empty((1, 8, 8, 3), np.uint8)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    decoder.decode([png_of_zeros(50, 50, interlaced=True)], pixels)
    before = resident()
    assert decoder.decode([png_of_zeros(5000, 5000, interlaced=True)], pixels) == []
    assert resident() - before < 5120  # pages: 20 MiB; the image has 100

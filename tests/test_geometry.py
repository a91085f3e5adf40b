"""Fits, filters and orientation: which pixels of an image become those of the batch."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fastloader.fields._kernel import Decoder

from .kernel_images import LIMITS, SIMD, close, kernel_image, noise, raw
from .support import FILTERS, decoded, jpeg, needs_data, photos, resized
from .tiers import few

# ---- filters -------------------------------------------------------------------------------------


@SIMD
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("source", [(1, 1), (2, 3), (40, 61), (300, 200)])
@pytest.mark.parametrize("target", [(1, 1), (7, 1), (33, 64), (64, 90)])
def test_every_filter_is_within_one_level_of_its_definition(
    filter: str, source: tuple[int, int], target: tuple[int, int], portable: bool
) -> None:
    image = noise(*source)
    ours = raw(image, *target, filter=filter, portable=portable)
    assert close(ours, resized(image[:, :, :3], *target, filter))


@pytest.mark.parametrize("filter", ["nearest", *FILTERS])
def test_every_filter_is_pillows(filter: str) -> None:
    blob = jpeg(301, 217, quality=95)
    expected = Image.fromarray(decoded(blob)).resize((64, 90), getattr(Image, filter.upper()))
    difference = np.abs(
        kernel_image(blob, 90, 64, filter=filter).astype(int) - np.asarray(expected)
    )
    # Pillow clips to 0..255 between its two passes, too; with negative weights that shows.
    assert difference.max() <= (4 if filter in ("bicubic", "lanczos") else 1)
    assert difference.mean() < 0.5


def test_overshooting_sums_are_clipped_not_wrapped() -> None:
    stripes = np.zeros((64, 64, 4), np.uint8)
    stripes[::8] = stripes[:, ::8] = 255
    for filter, target in itertools.product(("bicubic", "lanczos"), (64, 97, 300)):
        ours = raw(stripes, target, target, filter=filter)
        assert close(ours, resized(stripes[:, :, :3], target, target, filter))


# ---- fits ----------------------------------------------------------------------------------------

SHAPES = [(97, 61), (61, 97), (64, 64), (200, 31), (5, 300)]


@SIMD
@pytest.mark.parametrize("source", SHAPES)
@pytest.mark.parametrize("fraction", [1.0, 0.875])
@pytest.mark.parametrize("target", [(32, 32), (24, 40)])
def test_crop_is_the_largest_centered_box_of_the_targets_proportions(
    source: tuple[int, int], fraction: float, target: tuple[int, int], portable: bool
) -> None:
    (width, height), blob = source, jpeg(*source, quality=95)
    step = min(width / target[1], height / target[0]) * fraction
    across, down = target[1] * step, target[0] * step
    box = (width - across) / 2, (height - down) / 2, (width + across) / 2, (height + down) / 2
    ours = kernel_image(blob, *target, fit="crop", crop_fraction=fraction, portable=portable)
    assert close(ours, resized(decoded(blob), *target, box=box))


@pytest.mark.parametrize("source", SHAPES)
@pytest.mark.parametrize("target", [(32, 32), (24, 40)])
def test_pad_is_pillows_letterbox(source: tuple[int, int], target: tuple[int, int]) -> None:
    blob, color = jpeg(*source, quality=95), (10, 200, 30)
    ours = kernel_image(blob, *target, fit="pad", background=color)
    factor = min(target[1] / source[0], target[0] / source[1])
    width = max(1, int(source[0] * factor + 0.5))
    height = max(1, int(source[1] * factor + 0.5))
    expected = np.empty((*target, 3))
    expected[:] = color
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    expected[top : top + height, left : left + width] = resized(decoded(blob), height, width)
    assert close(ours, expected)


def test_pad_is_black_unless_a_color_is_given() -> None:
    assert (kernel_image(jpeg(20, 10), 16, 16, fit="pad")[:4] == 0).all()
    gray = kernel_image(jpeg(20, 10), 16, 16, fit="pad", background=(255, 0, 0), channels=1)
    assert (gray[:4] == 76).all()  # red's luma


def philox(key: int, counter: tuple[int, int, int, int]) -> tuple[int, ...]:
    """Return the words of Philox4x32-10, as its paper defines it."""
    c, (k0, k1) = list(counter), (key & 0xFFFFFFFF, key >> 32)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k1, p0 & 0xFFFFFFFF]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return tuple(c)


def test_philox_gives_its_authors_known_answers() -> None:
    assert philox(0, (0, 0, 0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox(2**64 - 1, (2**32 - 1,) * 4) == (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)


def random_box(
    seed: int, epoch: int, row: int, size: tuple[int, int], scale: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) as torchvision's RandomResizedCrop does, on Philox."""
    for number in range(10):
        words = philox(seed, (row & 0xFFFFFFFF, row >> 32, epoch, number))
        area, log_ratio, down, across = (word / 2**32 for word in words)
        area = size[0] * size[1] * (scale[0] + (scale[1] - scale[0]) * area)
        low, high = math.log(3 / 4), math.log(4 / 3)
        ratio = math.exp(low + (high - low) * log_ratio)
        width, height = (int(math.sqrt(a) + 0.5) for a in (area * ratio, area / ratio))
        if 0 < width <= size[0] and 0 < height <= size[1]:
            left, top = int(across * (size[0] - width + 1)), int(down * (size[1] - height + 1))
            return left, top, width, height
    raise AssertionError("no box fits")


@SIMD
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.02, 0.1)])
def test_a_random_crop_is_torchvisions(scale: tuple[float, float], portable: bool) -> None:
    blob = jpeg(160, 120, quality=95)
    image = decoded(blob)
    boxes = set()
    for seed, epoch, row in itertools.product((1, 2**64 - 2), (0, 9), (0, 77, 2**63, 2**64 - 1)):
        left, top, width, height = box = random_box(seed, epoch, row, (160, 120), scale)
        boxes.add(box)
        ours = kernel_image(
            blob, 24, 24, fit="random_crop", scale=scale, seed=seed, epoch=epoch, row=row,
            portable=portable,
        )  # fmt: skip
        expected = resized(image, 24, 24, box=(left, top, left + width, top + height))
        assert close(ours, expected)
    assert len(boxes) == 16


def test_a_random_crop_depends_on_seed_epoch_and_row_and_on_nothing_else() -> None:
    blob = jpeg(120, 90, quality=95)
    options: dict[str, Any] = {"fit": "random_crop", "flip": True}
    crops = {
        (seed, epoch, row): kernel_image(blob, 24, 24, seed=seed, epoch=epoch, row=row, **options)
        for seed in (0, 1, 2**64 - 1)
        for epoch in (0, 1)
        for row in (0, 1, 2**64 - 1)
    }
    assert len({crop.tobytes() for crop in crops.values()}) == len(crops)
    # In one call with others, and after others, it is the same.
    decoder = Decoder(24, 24, **LIMITS, seed=1, **options)
    out = np.zeros((3, 24, 24, 3), np.uint8)
    decoder.decode([jpeg(50, 50), blob, blob], out, np.array([5, 1, 0], np.uint64), 1)
    np.testing.assert_array_equal(out[1], crops[1, 1, 1])
    np.testing.assert_array_equal(out[2], crops[1, 1, 0])


def test_a_crop_whose_proportions_do_not_fit_is_the_largest_that_does() -> None:
    blob = jpeg(400, 10, quality=95)
    ours = kernel_image(blob, 24, 24, fit="random_crop", scale=(0.9, 1.0), ratio=(0.75, 4 / 3))
    assert close(ours, resized(decoded(blob), 24, 24, box=(193, 0, 206, 10)))


def test_flip_mirrors_every_second_image() -> None:
    blob = jpeg(60, 40, quality=95)
    plain = kernel_image(blob, 16, 24)
    flipped = 0
    for row in range(200):
        ours = kernel_image(blob, 16, 24, flip=True, row=row)
        is_flipped = not np.array_equal(ours, plain)
        np.testing.assert_array_equal(ours, plain[:, ::-1] if is_flipped else plain)
        flipped += is_flipped
    assert 70 < flipped < 130


@needs_data
@pytest.mark.parametrize("channels", [3, 1])
def test_crops_of_photographs_are_those_of_the_whole_image(channels: int) -> None:
    """Rows, columns and chroma that the decoder leaves out must not show."""
    for path in photos()[::13]:
        blob = path.read_bytes()
        whole = Image.open(io.BytesIO(blob)).size
        full = kernel_image(blob, whole[1], whole[0], channels=channels)
        rgba = np.full((whole[1], whole[0], 4), 255, np.uint8)
        rgba[:, :, :3] = full
        for row in range(4):
            options: dict[str, Any] = {"fit": "random_crop", "scale": (0.05, 0.5)}
            decoder = Decoder(64, 64, **LIMITS, channels=channels, **options)
            ours = np.zeros((2, 64, 64, channels), np.uint8)
            assert decoder.decode([blob], ours, np.array([row], np.uint64)) == []
            decoder.resize(rgba, ours[1:], row=row)
            np.testing.assert_array_equal(ours[0], ours[1], err_msg=f"{path.name}, {row}")


# ---- orientation ---------------------------------------------------------------------------------


def exif(orientation: int, order: str = "<") -> bytes:
    """Return EXIF data with an orientation and nothing else."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    little = "little" if order == "<" else "big"
    entry = b"".join(
        n.to_bytes(size, little)  # type: ignore[arg-type]
        for n, size in ((0x0112, 2), (3, 2), (1, 4), (orientation, 2), (0, 2))
    )
    return (
        b"Exif\0\0" + head + (8).to_bytes(4, little) + (1).to_bytes(2, little)  # type: ignore[arg-type]
        + entry + bytes(4)
    )  # fmt: skip


def turned(orientation: int, order: str = "<", **save: Any) -> bytes:
    file = io.BytesIO()
    options = {"format": "JPEG", "quality": 95, **save}
    Image.fromarray(decoded(jpeg(61, 45))).save(file, exif=exif(orientation, order), **options)
    return file.getvalue()


FIT_OPTIONS: list[dict[str, Any]] = [
    {},
    {"fit": "crop", "crop_fraction": 0.8},
    {"fit": "pad", "background": (9, 99, 199)},
    {"fit": "random_crop", "flip": True},
    {"layout": "NCHW", "dtype": "float32"},
]


@few(20)
@SIMD
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("options", FIT_OPTIONS, ids=lambda o: o.get("fit", o.get("layout")))
def test_an_image_is_turned_as_its_exif_data_asks(
    orientation: int, options: dict[str, Any], portable: bool
) -> None:
    blob = turned(orientation)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(blob))).convert("RGBA")
    ours = kernel_image(blob, 30, 44, portable=portable, row=5, **options)
    expected = raw_of(np.asarray(upright), options)
    assert np.abs(ours.astype(float) - expected).max() <= (1.01 / 255 if "dtype" in options else 1)


def raw_of(rgba: NDArray[np.uint8], options: dict[str, Any]) -> NDArray[np.float64]:
    decoder = Decoder(30, 44, **LIMITS, **options)
    out = np.zeros((1, *decoder.shape), decoder.dtype)
    assert decoder.resize(rgba, out, row=5) is None
    return out[0].astype(float)


def test_orientation_can_be_left_alone() -> None:
    blob = turned(6)
    ours = kernel_image(blob, 45, 61, orientation=False)
    np.testing.assert_array_equal(ours, decoded(blob))


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_both_byte_orders_is_read(order: str) -> None:
    blob = turned(8, order)
    expected = np.rot90(decoded(blob))
    np.testing.assert_array_equal(kernel_image(blob, 61, 45), expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_is_passed_over(orientation: int) -> None:
    blob = turned(orientation)
    np.testing.assert_array_equal(kernel_image(blob, 45, 61), decoded(blob))


# ---- images that are decoded already -------------------------------------------------------------


@SIMD
@pytest.mark.parametrize("filter", FILTERS)
def test_crops_of_kept_images_stay_inside_them(filter: str, portable: bool) -> None:
    """Images of any size, kept at any other: each crop consists of existing pixels.

    On one side of a border all levels are 10, on the other all are 200.
    """
    rng = np.random.default_rng(7)
    for case in range(150):
        height, width, out_height, out_width = (int(n) for n in rng.integers(1, 40, 4))
        original = rng.integers(1, [5000, 500][case % 2], (3, 2)).astype(np.uint32)
        decoder = Decoder(
            out_height, out_width, **LIMITS, fit="random_crop", flip=True, filter=filter,
            portable=portable, seed=case,
        )  # fmt: skip
        kept = np.full((3, height, width, 3), 10, np.uint8)
        kept[:, : height // 2] = 200
        images = np.zeros((3, *decoder.shape), np.uint8)
        decoder.crop(kept, images, np.arange(3, dtype=np.uint64), case, original)
        if filter in ("nearest", "box", "bilinear"):  # whose weights are not negative
            assert images.min() >= 9
            assert images.max() <= 201
        else:
            assert images.max() > 0


def test_a_kept_image_is_cropped_where_the_original_would_be() -> None:
    """The image is a slope, enlarged by other factors down and across.

    So a level tells where a pixel is from, to a quarter of a pixel.
    """
    image = np.zeros((20, 30, 4), np.uint8)
    image[..., 0], image[..., 1] = 12 * np.arange(20)[:, None], 8 * np.arange(30)
    large = image[..., :3].repeat(4, axis=0).repeat(2, axis=1)
    options: dict[str, Any] = {"fit": "random_crop", "flip": True, "filter": "box", "seed": 9}
    decoder = Decoder(6, 6, **LIMITS, **options)
    rows = np.arange(40, dtype=np.uint64)
    expected = np.zeros((40, *decoder.shape), np.uint8)
    for row in range(40):
        decoder.resize(image, expected[row : row + 1], row=row, epoch=2)
    assert decoder.seen == (20, 30)
    found = np.zeros_like(expected)
    original = np.full((40, 2), (20, 30), np.uint32)
    decoder.crop(np.stack([large] * 40), found, rows, 2, original)
    error = np.abs(found.astype(int) - expected.astype(int))
    assert error[..., 0].max() <= 6
    assert error[..., 1].max() <= 4
    assert error.mean() < 1.5


def test_crops_say_what_does_not_fit() -> None:
    decoder = Decoder(4, 4, **LIMITS)
    kept, rows = np.zeros((2, 5, 5, 3), np.uint8), np.zeros(2, np.uint64)
    images, sizes = np.zeros((2, 4, 4, 3), np.uint8), np.ones((2, 2), np.uint32)
    decoder.crop(kept, images, rows, 0, sizes)
    for wrong in (
        (np.zeros((2, 5, 5, 4), np.uint8), images, rows, 0, sizes),
        (np.zeros((2, 0, 5, 3), np.uint8), images, rows, 0, sizes),
        (kept, images[:1], rows, 0, sizes),
        (kept, images, rows[:1], 0, sizes),
        (kept, images, rows, 0, sizes[:1]),
        (kept, images, rows, 0, np.ones((2, 3), np.uint32)),
    ):
        with pytest.raises(ValueError, match="need|do not fit|at least one row"):
            decoder.crop(*wrong)
    with pytest.raises(ValueError, match="2 images need 2 sizes"):
        decoder.decode([jpeg(), jpeg()], images, rows, 0, sizes[:1])


@pytest.mark.parametrize("width", [1, 2, 17, 30])
def test_the_mirror_image_of_a_padded_image_is_padded_on_the_other_side(width: int) -> None:
    """If the padding is odd, one side has one column more."""
    blob = jpeg(20, 20 if width > 2 else 200)
    plain = kernel_image(blob, 10, width, fit="pad")
    flipped = [kernel_image(blob, 10, width, fit="pad", flip=True, row=row) for row in range(20)]
    kinds = {image.tobytes() for image in flipped}
    assert kinds == {plain.tobytes(), plain[:, ::-1].tobytes()}

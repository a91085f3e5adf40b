"""Channels, alpha, types and layouts of the kernel's images."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from .kernel_images import SIMD, kernel_image, noise, raw
from .support import FILTERS, jpeg
from .tiers import few

# ---- channels, alpha -----------------------------------------------------------------------------


def test_one_channel_is_luma() -> None:
    rgba = noise(33, 47)
    expected = np.asarray(Image.fromarray(rgba[:, :, :3]).convert("L"))[..., None]
    ours = raw(rgba, 33, 47, channels=1).astype(int)
    assert np.abs(ours - expected).max() <= 1  # pillow-simd and Pillow round differently
    blob = jpeg(101, 67, quality=95)
    reference = np.asarray(Image.open(io.BytesIO(blob)).convert("L")).astype(int)
    difference = np.abs(kernel_image(blob, 67, 101, channels=1)[:, :, 0].astype(int) - reference)
    assert difference.mean() < 1  # the JPEG's own luma, without the detour over RGB


@SIMD
@pytest.mark.parametrize("filter", FILTERS)
def test_one_channel_is_resized_as_three_are(filter: str, portable: bool) -> None:
    rgba = noise(50, 70)
    rgba[:, :, 1] = rgba[:, :, 2] = rgba[:, :, 0]
    three = raw(rgba, 23, 31, filter=filter, portable=portable)
    one = raw(rgba, 23, 31, filter=filter, channels=1, portable=portable)
    np.testing.assert_array_equal(one[:, :, 0], three[:, :, 0])


def test_alpha_is_dropped_or_composed() -> None:
    rgba = noise(33, 47)
    np.testing.assert_array_equal(raw(rgba, 33, 47), rgba[:, :, :3])
    under = Image.new("RGBA", (47, 33), (200, 100, 50, 255))
    expected = Image.alpha_composite(under, Image.fromarray(rgba)).convert("RGB")
    ours = raw(rgba, 33, 47, background=(200, 100, 50))
    assert np.abs(ours.astype(int) - np.asarray(expected)).max() <= 1


# ---- types and layouts ---------------------------------------------------------------------------

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@SIMD
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("channels", [3, 1])
def test_float_types_are_the_levels_normalized(
    dtype: str, layout: str, channels: int, portable: bool
) -> None:
    import ml_dtypes  # noqa: F401  # gives NumPy bfloat16

    blob = jpeg(120, 90)
    levels = kernel_image(blob, 31, 44, channels=channels).astype(np.float64)
    mean, std = np.array(MEAN[:channels]), np.array(STD[:channels])
    expected = ((levels / 255 - mean) / std).astype(np.float32).astype(np.dtype(dtype))
    if layout == "NCHW":
        expected = expected.transpose(2, 0, 1)
    ours = kernel_image(
        blob, 31, 44, channels=channels, dtype=dtype, layout=layout, mean=MEAN, std=STD,
        portable=portable,
    )  # fmt: skip
    np.testing.assert_array_equal(ours, expected)


def test_float_types_go_from_0_to_1_unless_told_otherwise() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(4).reshape(16, 16, 4)
    np.testing.assert_array_equal(
        raw(levels, 16, 16, dtype="float32"), (levels[:, :, :3] / 255).astype(np.float32)
    )


@pytest.mark.parametrize("std", [1.0, 1e-3, 1e-5, 2e-6])
def test_halves_are_rounded_as_numpy_rounds_them(std: float) -> None:
    """Subnormal, normal and too large numbers."""
    levels = np.arange(256, dtype=np.uint8).repeat(4).reshape(16, 16, 4)
    for mean in (0.0, 0.5, 128 / 255 - 1e-7):
        with np.errstate(over="ignore"):
            expected = ((levels[:, :, :3] / 255 - mean) / std).astype(np.float32)
            expected = expected.astype(np.float16)
        ours = raw(levels, 16, 16, dtype="float16", mean=(mean,) * 3, std=(std,) * 3)
        np.testing.assert_array_equal(ours, expected)


def test_nchw_of_bytes_is_the_transposed_image() -> None:
    blob = jpeg(120, 90)
    np.testing.assert_array_equal(
        kernel_image(blob, 31, 44, layout="NCHW"), kernel_image(blob, 31, 44).transpose(2, 0, 1)
    )


@few(4)
@pytest.mark.parametrize("seed", range(20))
def test_vector_and_portable_code_give_the_same_bytes_whatever_the_options(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = noise(int(rng.integers(1, 300)), int(rng.integers(1, 300)), seed)
    height, width = (int(n) for n in rng.integers(1, 200, 2))
    options: dict[str, Any] = {
        "filter": str(rng.choice(["nearest", *FILTERS])),
        "fit": str(rng.choice(["stretch", "crop", "pad", "random_crop"])),
        "channels": int(rng.choice([1, 3])),
        "dtype": str(rng.choice(["uint8", "float32", "float16"])),
        "layout": str(rng.choice(["NHWC", "NCHW"])),
        "flip": bool(rng.integers(2)),
    }
    np.testing.assert_array_equal(
        raw(image, height, width, **options), raw(image, height, width, portable=True, **options)
    )

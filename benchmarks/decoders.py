"""The ways from a blob in memory to 224x224x3 levels, each on one core.

Each library has a process of its own (``decode_peer.py``) and is imported only by the functions
that need it.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import bare
from .workloads import JPEG, LARGE, SIZE, WORKLOADS, Box, frame, is_jpeg

MAX_PIXELS = 1 << 28


class CannotDecodeError(Exception):
    """The format is unknown to this build of a library."""


@dataclass(frozen=True)
class Work:
    """The images to decode.

    Attributes
    ----------
    blobs
        The encoded images.
    boxes
        The box to crop from each, or None.
    """

    blobs: list[bytes]
    boxes: list[Box] | None


Decode = Callable[[int], Any]
"""A function that decodes image i of the work to uint8 (224, 224, 3)."""


# ---- fastloader and the floor --------------------------------------------------------------------


def fastloader(work: Work, *, quality: str = "exact", portable: bool = False) -> Decode:
    """Decode each image into the same memory, and ignore EXIF's orientation as the others do."""
    from fastloader.fields._kernel import Decoder

    decoder = Decoder(
        *SIZE,
        max_pixels=MAX_PIXELS,
        fit="random_crop" if work.boxes else "stretch",
        orientation=False,
        quality=quality,
        portable=portable,
    )
    pixels = np.empty((1, *SIZE, 3), np.uint8)
    image: NDArray[np.uint8] = pixels[0]
    rows = [np.array([i], np.uint64) for i in range(len(work.blobs))]

    def decode(i: int) -> NDArray[np.uint8]:
        if failures := decoder.decode(work.blobs[i : i + 1], pixels, rows[i]):
            raise CannotDecodeError(failures[0][2])
        return image

    return decode


def floor(work: Work, *, mode: str = "full") -> Decode:
    """Decode all images in one call of C, which counts for the first one."""
    decode = bare.decoder(work.blobs, mode, SIZE)
    return lambda i: decode() if i == 0 else None


# ---- Pillow, and pillow-simd ---------------------------------------------------------------------


def pillow(work: Work, *, draft: bool = False) -> Decode:
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = MAX_PIXELS

    def decode(i: int) -> NDArray[np.uint8]:
        box = None
        if work.boxes:
            top, left, height, width = work.boxes[i]
            box = (left, top, left + width, top + height)
        try:
            image = Image.open(io.BytesIO(work.blobs[i]))
        except UnidentifiedImageError as error:
            raise CannotDecodeError("this build does not know the format") from error
        with image:
            if draft:
                image.draft("RGB", SIZE[::-1])
            small = image.convert("RGB").resize(SIZE[::-1], Image.Resampling.BILINEAR, box=box)
        return np.asarray(small)

    return decode


# ---- OpenCV, and its resize behind other decoders ------------------------------------------------


def opencv(work: Work, *, area: bool, reduced: bool = False) -> Decode:
    import cv2

    rgb = getattr(cv2, "IMREAD_COLOR_RGB", None)  # since 4.11
    flags = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_COLOR if rgb is None else rgb)
    reductions = {n: getattr(cv2, f"IMREAD_REDUCED_COLOR_{n}") for n in (2, 4, 8)}
    resize = _resize("AREA" if area else "LINEAR")

    def flags_of(blob: bytes) -> int:
        _, height, width = frame(blob)
        n = next((n for n in (8, 4, 2) if height >= n * SIZE[0] and width >= n * SIZE[1]), 1)
        reduction: int = flags if n == 1 else reductions[n] | cv2.IMREAD_IGNORE_ORIENTATION
        return reduction

    def decode(i: int) -> Any:
        blob = work.blobs[i]
        how = flags_of(blob) if reduced else flags
        image = cv2.imdecode(np.frombuffer(blob, np.uint8), how)
        if image is None:
            raise CannotDecodeError("this build does not know the format")
        small = resize(_cropped(image, work, i), SIZE[::-1])
        # IMREAD_REDUCED_... is always BGR. Swapping channels of the small image is 0.2 ms faster.
        return small if how == flags and rgb else cv2.cvtColor(small, cv2.COLOR_BGR2RGB)

    return decode


def _resize(interpolation: str) -> Callable[..., Any]:
    import cv2

    cv2.setNumThreads(0)
    return functools.partial(cv2.resize, interpolation=getattr(cv2, f"INTER_{interpolation}"))


def _cropped(image: Any, work: Work, i: int) -> Any:
    if not work.boxes:
        return image
    top, left, height, width = work.boxes[i]
    return image[top : top + height, left : left + width]


def simplejpeg(work: Work, *, reduced: bool = False) -> Decode:
    from simplejpeg import decode_jpeg

    resize = _resize("AREA")
    options: dict[str, Any] = {"strict": False}
    if reduced:
        height, width = SIZE
        options |= {"fastdct": True, "fastupsample": True}
        options |= {"min_height": height, "min_width": width, "min_factor": 1}

    def decode(i: int) -> Any:
        image = decode_jpeg(work.blobs[i], "RGB", **options)
        return resize(_cropped(image, work, i), SIZE[::-1])

    return decode


def imagecodecs(work: Work, *, alone: bool = False) -> Decode:
    from imagecodecs import jpeg8_decode, png_decode, webp_decode

    resize = _resize("AREA")

    def pixels(blob: bytes) -> Any:
        if is_jpeg(blob):
            return jpeg8_decode(blob, outcolorspace="RGB")
        return png_decode(blob) if blob[:4] == b"\x89PNG" else webp_decode(blob)

    if alone:
        return lambda i: pixels(work.blobs[i])
    return lambda i: resize(_cropped(pixels(work.blobs[i]), work, i), SIZE[::-1])


# ---- frameworks ----------------------------------------------------------------------------------


def tensorflow(work: Work, *, antialias: bool = False, dct_method: str = "") -> Decode:
    """Decode with TensorFlow, whose default for dct_method is the faster, less exact transform."""
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # the first contestant here has set it already
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    webp = getattr(tf.image, "decode_webp", None)

    def pixels(i: int) -> Any:
        blob = work.blobs[i]
        if work.boxes:
            return tf.io.decode_and_crop_jpeg(
                blob, work.boxes[i], channels=3, dct_method=dct_method
            )
        if is_jpeg(blob):
            return tf.io.decode_jpeg(blob, channels=3, dct_method=dct_method)
        if blob[:4] == b"\x89PNG":
            return tf.io.decode_png(blob, channels=3)
        if webp is None:
            raise CannotDecodeError("decode_webp needs a later version of TensorFlow")
        return webp(blob, channels=3)

    def decode(i: int) -> Any:
        return tf.cast(tf.image.resize(pixels(i), SIZE, antialias=antialias), tf.uint8).numpy()

    return decode


def torchvision(work: Work) -> Decode:
    try:
        import torch
        from torchvision.io import ImageReadMode, decode_image
        from torchvision.transforms.v2 import functional
    except (RuntimeError, OSError) as error:  # made for another PyTorch, or for CUDA
        raise ImportError(str(error)) from error

    torch.set_num_threads(1)
    blobs = [torch.frombuffer(bytearray(blob), dtype=torch.uint8) for blob in work.blobs]

    def decode(i: int) -> Any:
        image = decode_image(blobs[i], ImageReadMode.RGB)
        if work.boxes:
            image = functional.crop(image, *work.boxes[i])
        small = functional.resize(image, list(SIZE), antialias=True)
        return small.permute(1, 2, 0).contiguous().numpy()

    return decode


# ---- all of them ---------------------------------------------------------------------------------

ALL = frozenset(WORKLOADS)


@dataclass(frozen=True)
class Contestant:
    """A way to decode.

    Attributes
    ----------
    peer
        The process that it runs in, which is also the name of its distribution.
    make
        Prepares the decoding of a work.
    antialias
        "yes", "no" or, if nothing is resized, "-".
    workloads
        The workloads that it is measured on.
    extra
        Whether it runs only with ``--all``.
    """

    peer: str
    make: Callable[[Work], Decode]
    antialias: str = "yes"
    workloads: frozenset[str] = ALL
    extra: bool = False


def _contestants() -> dict[str, Contestant]:
    part, c = functools.partial, Contestant
    whole = ALL - {"random_crop"}
    jpeg = JPEG - {"random_crop"}
    tf, cv = "tensorflow", "opencv-python-headless"
    accurate = part(tensorflow, antialias=True, dct_method="INTEGER_ACCURATE")
    return {
        "fastloader": c("fastloader", fastloader),
        "fastloader, fast": c(
            "fastloader", part(fastloader, quality="fast"), workloads=JPEG | {"webp"}
        ),
        "fastloader, portable": c("fastloader", part(fastloader, portable=True), extra=True),
        "libjpeg-turbo alone": c("bare", floor, "-", jpeg),
        "libjpeg-turbo alone, reduced": c(
            "bare", part(floor, mode="fast"), "-", frozenset({"baseline"})
        ),
        "Pillow": c("pillow", pillow),
        "Pillow, draft": c("pillow", part(pillow, draft=True), workloads=LARGE),
        "pillow-simd": c("pillow-simd", pillow),
        "pillow-simd, draft": c(
            "pillow-simd", part(pillow, draft=True), workloads=LARGE, extra=True
        ),
        "OpenCV, area": c(cv, part(opencv, area=True)),
        "OpenCV, linear": c(cv, part(opencv, area=False), "no"),
        "OpenCV, reduced, area": c(cv, part(opencv, area=True, reduced=True), workloads=LARGE),
        "simplejpeg, OpenCV area": c("simplejpeg", simplejpeg, workloads=jpeg),
        "simplejpeg, reduced, OpenCV area": c(
            "simplejpeg", part(simplejpeg, reduced=True), workloads=LARGE
        ),
        "imagecodecs, OpenCV area": c("imagecodecs", imagecodecs, workloads=whole),
        "imagecodecs, decode alone": c("imagecodecs", part(imagecodecs, alone=True), "-", whole),
        "TensorFlow": c(tf, tensorflow, "no"),
        "TensorFlow, antialias": c(tf, part(tensorflow, antialias=True)),
        "TensorFlow, antialias, accurate": c(tf, accurate, workloads=JPEG),
        "torchvision": c("torchvision", torchvision),
    }


CONTESTANTS = _contestants()

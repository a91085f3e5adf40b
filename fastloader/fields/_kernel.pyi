"""The types of the kernel: Cython over csrc/, which decodes and resizes images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

version: str
"""The version of the package that the kernel was compiled for."""
libraries: str
"""The libraries that decode and their versions, for example ``"libjpeg-turbo 2.1.5, ..."``."""
sanitized: bool
"""Whether the kernel was compiled with AddressSanitizer."""

FITS: dict[str, int]
FILTERS: dict[str, int]
LAYOUTS: dict[str, int]
DTYPES: dict[str, int]
FORMATS: dict[str, int]
ARRAY_FORMS: dict[str, int]
ARRAY_STATUS: dict[str, int]
"""What :func:`arrays` found: ``"read"``, ``"null"``, ``"has null"``, ``"other shape"`` or
``"broken"``."""

NUMBERS: dict[str, int]
"""The types of numbers that :func:`store_numbers` stores, by the names of their dtypes."""

def crc32(buffers: Sequence[Any]) -> int:
    """Return the CRC-32 of zlib and gzip of several buffers, one after the other.

    This runs without the GIL, and ten times as fast as ``zlib.crc32()``.
    """

def encode_jpeg(pixels: NDArray[np.uint8], *, quality: int) -> bytes:
    """Return the pixels as a baseline JPEG with 4:2:0 and optimal Huffman tables, without the GIL.

    Parameters
    ----------
    pixels
        RGB or luma, C-contiguous, of shape (height, width, 3) or (height, width, 1).
    quality
        1 to 100, on libjpeg's scale.

    Raises
    ------
    ValueError
        If an option is out of its range, or a side has more than 65,500 pixels.
    MemoryError
        If there is not enough memory.
    """

def store_numbers(
    kinds: NDArray[np.uint8], numbers: NDArray[np.int64], target: NDArray[Any]
) -> tuple[NDArray[np.bool_], int]:
    """Store the numbers of n rows in the dtype of the target, without the GIL.

    No value is wrapped around, cut off or made infinite, and no integer is rounded. Floats may be
    rounded to a smaller float type.

    Parameters
    ----------
    kinds, numbers
        The values, as in :class:`~.values.Values`: (n,), C-contiguous.
    target
        Where to store them: (n,), C-contiguous, of a dtype in NUMBERS.

    Returns
    -------
    fits
        Which values are numbers that fit, bool (n,). Elsewhere the target has no meaning.
    bad
        How many do not fit.

    Raises
    ------
    ValueError
        If an array has another shape or layout.
    """

def texts(
    blobs: NDArray[np.intp], wanted: NDArray[np.bool_]
) -> tuple[list[str | None], NDArray[np.bool_]]:
    """Return the UTF-8 texts at n addresses as ``str`` objects.

    Parameters
    ----------
    blobs
        Addresses and sizes in bytes, intp (n, 2), of memory that the caller keeps alive.
    wanted
        Whether each of them is to be read, bool (n,).

    Returns
    -------
    texts
        The texts, None for those that are not wanted and those that are not UTF-8.
    bad
        Where there is no text, bool (n,).
    """

def arrays(
    blobs: NDArray[np.intp],
    wanted: NDArray[np.bool_],
    form: str,
    element: int,
    target: NDArray[Any],
) -> NDArray[np.uint8]:
    """Decode the arrays of numbers at n addresses into ``target[:n]``, without the GIL.

    Parameters
    ----------
    blobs
        Addresses and sizes in bytes, intp (n, 2), of memory that the caller keeps alive.
    wanted
        Whether each of them is to be read, bool (n,).
    form
        How the arrays are written, a key of ARRAY_FORMS.
    element
        The type OID of the elements, for the form ``"pg_array"``.
    target
        Where to store them: C-contiguous, with at least n rows of the shape that the arrays must
        have, of at most 6 dimensions, and the dtype of their elements, of 1 (bool) to 8 bytes.

    Returns
    -------
    ndarray
        What became of each, a value of ARRAY_STATUS: uint8 (n,). Where it is not ``"read"``, the
        contents of the target are undefined.

    Raises
    ------
    ValueError
        If an array has another shape or type.
    """

def array_lengths(
    blobs: NDArray[np.intp],
    wanted: NDArray[np.bool_],
    form: str,
    element: int,
    width: int,
    inner: tuple[int, ...],
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the sizes of the first dimensions of the arrays at n addresses.

    Parameters
    ----------
    blobs, wanted, form, element
        As for :func:`arrays`.
    width
        The bytes of an element.
    inner
        The other dimensions, which all arrays must have.

    Returns
    -------
    statuses
        What each of them is, a value of ARRAY_STATUS: uint8 (n,). The sizes of the elements are
        checked later, by :func:`ragged_arrays`.
    lengths
        The first dimension where the status is ``"read"``, and 0 elsewhere: int64 (n,).
    """

def ragged_arrays(
    blobs: NDArray[np.intp],
    wanted: NDArray[np.bool_],
    form: str,
    element: int,
    lengths: NDArray[np.int64],
    target: NDArray[Any],
) -> NDArray[np.uint8]:
    """Decode arrays of different lengths into ``target``, one after the other, without the GIL.

    Parameters
    ----------
    blobs, wanted, form, element
        As for :func:`arrays`.
    lengths
        The first dimension of each array: int64 (n,).
    target
        Where to store them: C-contiguous, (sum of the lengths or more, ...).

    Returns
    -------
    ndarray
        As for :func:`arrays`.

    Raises
    ------
    ValueError
        If an array has another shape or type.
    """

def are_utf8(blobs: NDArray[np.intp], wanted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the blobs at n addresses are wanted and valid UTF-8, bool (n,)."""

def gather(blobs: NDArray[np.intp], wanted: NDArray[np.bool_], target: NDArray[Any]) -> None:
    """Copy the wanted ones of the blobs at n addresses into ``target``, one after the other.

    Raises
    ------
    ValueError
        If there is no room for them.
    """

@disjoint_base
class Decoder:
    """Decode JPEG, PNG and WebP, and resize each image to ``height`` x ``width``.

    A decoder keeps its scratch memory between calls and belongs to one thread at a time.

    Parameters
    ----------
    height, width
        The size of the output images in pixels, 1 to 65,535.
    max_pixels, max_scans, max_chunks
        Limits of an encoded image: its pixels, the scans of a JPEG, the chunks of a PNG or WebP.
    channels
        3 for RGB, 1 for luma.
    luma_later
        Whether the caller converts the RGB to luma. With ``filter="nearest"``, images whose values
        would change are then refused, as with ``channels=1``.
    fit
        ``"stretch"``; ``"crop"``, the largest centered box with the proportions of the output,
        times `crop_fraction`; ``"pad"``, the whole image with `background` around it; or
        ``"random_crop"``, a box with a share of the area from `scale` and a width / height from
        `ratio`.
    crop_fraction
        The share of the sides of the largest centered box that ``"crop"`` takes.
    scale, ratio
        The least and the greatest value of a random crop's share of the area, and of its
        width / height.
    flip
        Whether to mirror half of the images, left to right.
    seed
        Decides, with the epoch and the row, on random crops and flips.
    filter
        A key of FILTERS. The filters are those of Pillow.
    orientation
        Whether to turn images as their EXIF data asks.
    quality
        ``"exact"``, or ``"fast"`` for decoding at a reduced size with cheaper arithmetic.
    background
        The red, green and blue levels that images with alpha are composed over. None drops alpha.
    layout, dtype
        Keys of LAYOUTS and DTYPES.
    mean, std
        The float types hold (level / 255 - mean) / std, by channel.
    strict
        Whether to refuse a blob that ends early or is damaged instead of filling it up with gray.
    portable
        Whether to use no vector instructions. The pixels are the same.
    timed
        Whether to keep `times`.

    Raises
    ------
    ValueError
        If an option is out of its range.

    Attributes
    ----------
    shape
        The shape of one output image, in the order of `layout`.
    dtype
        The type of its elements, a key of DTYPES.
    simd
        The vector instructions in use: ``"avx2"``, ``"neon"`` or ``"portable"``.
    seen
        The height and width of the last source image, turned as EXIF asks.
    times
        Seconds spent so far: ``"total"``, and its parts ``"resize"`` and ``"write"``.
    """

    shape: tuple[int, int, int]
    dtype: str
    simd: str
    seen: tuple[int, int]
    times: dict[str, float]

    def __init__(
        self,
        height: int,
        width: int,
        *,
        max_pixels: int,
        max_scans: int = 100,
        max_chunks: int = 100_000,
        channels: int = 3,
        luma_later: bool = False,
        fit: str = "stretch",
        crop_fraction: float = 1.0,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = ...,
        flip: bool = False,
        seed: int = 0,
        filter: str = "bilinear",
        orientation: bool = True,
        quality: str = "exact",
        background: tuple[int, int, int] | None = None,
        layout: str = "NHWC",
        dtype: str = "uint8",
        mean: tuple[float, float, float] = ...,
        std: tuple[float, float, float] = ...,
        strict: bool = False,
        portable: bool = False,
        timed: bool = False,
    ) -> None: ...
    def decode(
        self,
        blobs: Sequence[Any] | NDArray[np.intp],
        images: NDArray[Any],
        rows: NDArray[np.uint64] | None = None,
        epoch: int = 0,
        seen: NDArray[np.uint32] | None = None,
    ) -> list[tuple[int, int, str]]:
        """Decode ``blobs[i]`` into ``images[i]``, without the GIL.

        Parameters
        ----------
        blobs
            A list of n contiguous buffers; or their addresses and sizes, intp of shape (n, 2), in
            memory that the caller keeps alive.
        images
            Receives the output images: C-contiguous and of type `dtype`. The first dimension is n
            or more, the others are `shape`.
        rows
            The numbers that random crops and flips are a function of, with `epoch`; n or more.
        epoch
            The number of the epoch.
        seen
            Receives the heights and widths of the source images, turned as EXIF asks; of shape
            (n or more, 2).

        Returns
        -------
        list of (i, status, message)
            One entry for each blob that is not entirely right. The statuses are the keys of
            :data:`fastloader.errors.KERNEL_STATUS`. Unless the status is PARTIAL, the contents of
            ``images[i]`` are undefined.

        Raises
        ------
        ValueError
            If an array has another shape or type.
        """

    def look(
        self, blobs: NDArray[np.intp], heads: NDArray[np.uint32]
    ) -> list[tuple[int, int, str]]:
        """Find format, size and orientation of images without decoding them or holding the GIL.

        Parameters
        ----------
        blobs
            Addresses and sizes, intp (n, 2), of memory that the caller keeps alive.
        heads
            Receives the format, as in FORMATS, the height and width, turned as EXIF asks, and the
            EXIF orientation: (n or more, 4).

        Returns
        -------
        list of (i, status, message)
            As for :meth:`decode`. What is in ``heads[i]`` then has no meaning.
        """

    def take_images(self) -> dict[str, tuple[int, int, int, int]]:
        """Return what has been decoded since the last call.

        Returns
        -------
        dict
            For each format in FORMATS that occurred: the number of images, the bytes of their
            blobs, their pixels before the resize, and the pixels of the largest image.
        """

    def crop(
        self,
        stored: NDArray[np.uint8],
        images: NDArray[Any],
        rows: NDArray[np.uint64],
        epoch: int,
        original: NDArray[np.uint32] | None = None,
    ) -> None:
        """Crop, flip and resize RGB images into ``images``, without the GIL.

        Parameters
        ----------
        stored
            n images, of shape (n, height, width, 3).
        images, rows, epoch
            As for :meth:`decode`.
        original
            The heights and widths that the images had before they were resized to those of
            `stored`, of shape (n, 2). Random crops are then the boxes that :meth:`decode` takes of
            images of that size.

        Raises
        ------
        ValueError
            If an array has another shape or type.
        MemoryError
            If there is not enough memory.
        """

    def resize(
        self,
        pixels: NDArray[np.uint8],
        image: NDArray[Any],
        *,
        alpha: bool = False,
        orientation: int = 1,
        row: int = 0,
        epoch: int = 0,
    ) -> tuple[int, str] | None:
        """Resize one decoded image into ``image[0]``.

        Parameters
        ----------
        pixels
            RGB or RGBA, of shape (height, width, 3) or (height, width, 4).
        image
            Receives the output image, as for :meth:`decode`.
        alpha
            Whether the fourth channel is alpha; otherwise it is ignored.
        orientation
            The EXIF orientation, 1 to 8.
        row, epoch
            As for :meth:`decode`.

        Returns
        -------
        tuple of (status, message), or None
            None if the image is entirely right.

        Raises
        ------
        ValueError
            If an array has another shape or type.
        """

"""Make the images of one column: the kernel decodes most formats, Pillow the others.

This runs where batches are built: in a worker process or, with ``workers=0``, in the training
process.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import PARTIAL, UNKNOWN_FORMAT, kernel_reason
from ..observe.stats import Pictures, together
from . import pillow
from ._kernel import Decoder
from .context import Context
from .image import Image
from .imports import import_all
from .not_images import why_no_blob, why_not_an_image
from .values import BLOB, Values


class ImageDecoder:
    """Decode the blobs of one image column into arrays as the configuration asks for.

    A decoder keeps its scratch memory between calls and belongs to one thread at a time.

    Parameters
    ----------
    field
        The field that the images are for.
    context
        What else decides on the images.

    Raises
    ------
    ConfigError
        If a module of ``worker_imports`` cannot be imported.
    """

    def __init__(self, field: Image, context: Context) -> None:
        import_all(context.worker_imports)
        its = field.decoder_options(is_cached=context.is_cached)
        height, width = its.pop("size")
        self._decoder = Decoder(height, width, seed=context.seed, portable=context.portable, **its)
        self._by_pillow: dict[str, Pictures] = {}
        self._for_pillow: dict[str, Any] = {
            "max_pixels": its["max_pixels"],
            "nearest": its["filter"] == "nearest",
            "is_luma": its["channels"] == 1 or its.get("luma_later", False),
            "plugins": bool(context.worker_imports),
        }
        # With several image columns, a reason has to name the one that it is about.
        self._column, self._context = field.of_column, context
        self._holds_images = field.folder is None
        self._prefix = f"column {self._column!r}: " if context.names_columns else ""

    @property
    def simd(self) -> str:
        """The vector instructions in use: ``"avx2"``, ``"neon"`` or ``"portable"``."""
        return self._decoder.simd

    def decode(
        self,
        values: Values,
        images: NDArray[Any],
        numbers: NDArray[np.uint64],
        epoch: int,
        seen: NDArray[np.uint32] | None = None,
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Decode the value of row i into ``images[i]``.

        Parameters
        ----------
        values
            The values of the rows. Whatever is not a blob makes a bad row.
        images, seen
            As for :meth:`fastloader.fields._kernel.Decoder.decode`.
        numbers
            A number for each row, which with `epoch` decides on random crops and flips.
        epoch
            The number of the epoch.

        Returns
        -------
        bad
            The reason for each image that cannot be decoded, by its index.
        partial
            The reason for each image that ends early or is damaged and was filled up with gray,
            by its index.
        """
        bad: dict[int, str] = {}
        partial: dict[int, str] = {}
        blobs = values.blobs
        no_blob = np.flatnonzero(values.kinds != BLOB).tolist()
        if no_blob:
            blobs = blobs.copy()
            blobs[no_blob] = 0
        for i, status, message in self._decoder.decode(blobs, images, numbers, epoch, seen):
            if status == UNKNOWN_FORMAT:
                image = images[i : i + 1]
                reason = self._with_pillow(values.value(i), image, int(numbers[i]), epoch, message)
                if seen is not None:
                    seen[i] = self._decoder.seen
            else:
                reason = self._prefix + kernel_reason(status, message)
            if reason:
                (partial if status == PARTIAL else bad)[i] = reason
        for i in no_blob:
            bad[i] = why_no_blob(values, i, self._column, limit=self._context.max_blob_bytes)
        return bad, partial

    def take_images(self) -> dict[str, Pictures]:
        """Return what has been decoded since the last call, by format."""
        taken, self._by_pillow = self._by_pillow, {}
        own = {name: Pictures(*found) for name, found in self._decoder.take_images().items()}
        return together(own, taken)

    def _with_pillow(
        self, blob: bytes, image: NDArray[Any], row: int, epoch: int, message: str
    ) -> str:
        """Decode a blob with Pillow into ``image[0]``.

        Parameters
        ----------
        blob
            The bytes.
        message
            What the kernel says about the blob.

        Returns
        -------
        str
            The reason why it cannot be decoded, or an empty string.
        """
        try:
            found = pillow.decode(blob, **self._for_pillow)
        except pillow.UnknownFormat as error:
            is_postgres = self._context.is_postgres
            why = ""
            if self._holds_images:
                why = why_not_an_image(blob, self._column, is_postgres=is_postgres)
            return why or self._prefix + kernel_reason(UNKNOWN_FORMAT, f"{message}; {error}")
        except pillow.CannotDecode as error:
            return self._prefix + str(error)
        failure = self._decoder.resize(
            found.pixels, image, alpha=found.alpha, orientation=found.orientation, row=row,
            epoch=epoch,
        )  # fmt: skip
        if failure:
            return self._prefix + kernel_reason(*failure)
        pixels = found.pixels.shape[0] * found.pixels.shape[1]
        one = {found.format: Pictures(1, len(blob), pixels, pixels)}
        self._by_pillow = together(self._by_pillow, one)
        return ""


class StoredImages:
    """The images that a cache keeps of a column whose images change from epoch to epoch.

    The cache keeps each image as it is before the random crop or flip. An object holds those of the
    batch that is being built, and makes the batch's images from them.

    Parameters
    ----------
    field
        The field that the images are for.
    context
        What else decides on the images.
    rows
        The most rows that a batch has.

    Attributes
    ----------
    images
        The kept images, uint8 of shape (rows, height, width, 3).
    seen
        The heights and widths that they had before they were resized to this, uint32 of shape
        (rows, 2).
    """

    def __init__(self, field: Image, context: Context, rows: int) -> None:
        its, stored = field.image_options(), field.decoder_options(is_cached=True)
        self.images = np.empty((rows, *stored["size"], 3), np.uint8)
        self.seen = np.ones((rows, 2), np.uint32)
        # The limits are for encoded images. These are the cache's own, of whatever size.
        for name in ("cache_size", "max_pixels", "max_scans", "max_chunks"):
            del its[name]
        height, width = its.pop("size")
        self._is_crop = its["fit"] == "random_crop"
        if not self._is_crop:
            its["fit"] = "stretch"  # the kept image has its final size: only the flip is left to do
        self._decoder = Decoder(
            height, width, max_pixels=2**32, seed=context.seed, portable=context.portable, **its,
        )  # fmt: skip

    def finish(self, images: NDArray[Any], numbers: NDArray[np.uint64], epoch: int) -> None:
        """Crop and flip the kept images of the rows with these numbers into ``images``."""
        rows = len(numbers)
        original = self.seen[:rows] if self._is_crop else None
        self._decoder.crop(self.images[:rows], images, numbers, epoch, original)

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
from ..options.config import Config
from ..plan.keys import Keys, key_numbers
from . import pillow
from ._kernel import Decoder
from .imports import import_all
from .not_images import why_no_blob, why_not_an_image
from .values import BLOB, Values


class ImageDecoder:
    """Decode the blobs of one image column into arrays as the configuration asks for.

    A decoder keeps its scratch memory between calls and belongs to one thread at a time.

    Parameters
    ----------
    column
        The name of the image column.
    config
        The options of the loader. The modules of ``worker_imports`` are imported here.

    Raises
    ------
    ConfigError
        If a module of ``worker_imports`` cannot be imported.
    """

    def __init__(self, column: str, config: Config) -> None:
        import_all(config.worker_imports)
        its = config.decoder_options(column)
        height, width = its.pop("size")
        self._decoder = Decoder(
            height, width, seed=config.seed, portable=config.simd == "portable", **its
        )
        self._by_pillow: dict[str, Pictures] = {}
        self._for_pillow: dict[str, Any] = {
            "max_pixels": its["max_pixels"],
            "nearest": its["filter"] == "nearest",
            "is_luma": its["channels"] == 1 or its.get("luma_later", False),
            "plugins": bool(config.worker_imports),
        }
        self._is_random = its["flip"] or its["fit"] == "random_crop"
        # With several image columns, a reason has to name the one that it is about.
        self._column, self._config = column, config
        self._prefix = f"column {column!r}: " if len(config.images) > 1 else ""

    @property
    def simd(self) -> str:
        """The vector instructions in use: ``"avx2"``, ``"neon"`` or ``"portable"``."""
        return self._decoder.simd

    def decode(
        self,
        values: Values,
        images: NDArray[Any],
        keys: Keys,
        epoch: int,
        seen: NDArray[np.uint32] | None = None,
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Decode the value of the row with the key ``keys[i]`` into ``images[i]``.

        Parameters
        ----------
        values
            The values of the rows. Whatever is not a blob makes a bad row.
        images, seen
            As for :meth:`fastloader.fields._kernel.Decoder.decode`.
        keys
            The keys of the rows, which with `epoch` decide on random crops and flips.
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
        numbers = key_numbers(keys) if self._is_random else None
        blobs = values.blobs
        no_blob = np.flatnonzero(values.kinds != BLOB).tolist()
        if no_blob:
            blobs = blobs.copy()
            blobs[no_blob] = 0
        for i, status, message in self._decoder.decode(blobs, images, numbers, epoch, seen):
            if status == UNKNOWN_FORMAT:
                row = 0 if numbers is None else int(numbers[i])
                reason = self._with_pillow(values.value(i), images[i : i + 1], row, epoch, message)
                if seen is not None:
                    seen[i] = self._decoder.seen
            else:
                reason = self._prefix + kernel_reason(status, message)
            if reason:
                (partial if status == PARTIAL else bad)[i] = reason
        for i in no_blob:
            bad[i] = why_no_blob(values, i, self._column, limit=self._config.max_blob_bytes)
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
            is_postgres = self._config.url.is_postgres
            return why_not_an_image(blob, self._column, is_postgres=is_postgres) or (
                self._prefix + kernel_reason(UNKNOWN_FORMAT, f"{message}; {error}")
            )
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
    column
        The name of the image column.
    config
        The options of the loader.

    Attributes
    ----------
    images
        The kept images, uint8 of shape (batch_size, height, width, 3).
    seen
        The heights and widths that they had before they were resized to this, uint32 of shape
        (batch_size, 2).
    """

    def __init__(self, column: str, config: Config) -> None:
        its, stored = config.image_options(column), config.decoder_options(column)
        self.images = np.empty((config.batch_size, *stored["size"], 3), np.uint8)
        self.seen = np.ones((config.batch_size, 2), np.uint32)
        # The limits are for encoded images. These are the cache's own, of whatever size.
        for name in ("cache_size", "max_pixels", "max_scans", "max_chunks"):
            del its[name]
        height, width = its.pop("size")
        self._is_crop = its["fit"] == "random_crop"
        if not self._is_crop:
            its["fit"] = "stretch"  # the kept image has its final size: only the flip is left to do
        self._decoder = Decoder(
            height, width, max_pixels=2**32, seed=config.seed, portable=config.simd == "portable",
            **its,
        )  # fmt: skip

    def finish(self, images: NDArray[Any], keys: Keys, epoch: int) -> None:
        """Crop and flip the kept images of the rows with these keys into ``images``."""
        rows = len(keys)
        original = self.seen[:rows] if self._is_crop else None
        self._decoder.crop(self.images[:rows], images, key_numbers(keys), epoch, original)

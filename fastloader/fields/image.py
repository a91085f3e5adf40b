"""The images of one column: the kernel makes them, Pillow those that the kernel does not know."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
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


class ImageDecoder:
    """Decodes the blobs of one image column into what the configuration asks for.

    Keeps its scratch memory between calls. One thread at a time.

    Raises ConfigError if a module of ``worker_imports`` cannot be imported.
    """

    def __init__(self, image: str, config: Config) -> None:
        import_all(config.worker_imports)
        its = config.decoder_options(image)
        height, width = its.pop("size")
        self._decoder = Decoder(
            height, width, seed=config.seed, portable=config.simd == "portable", **its
        )
        self._pictures: dict[str, Pictures] = {}  # that Pillow has decoded
        self._for_pillow: dict[str, Any] = {
            "max_pixels": its["max_pixels"],
            "nearest": its["filter"] == "nearest",
            "is_luma": its["channels"] == 1 or its.get("luma_later", False),
            "plugins": bool(config.worker_imports),
        }
        self._is_random = its["flip"] or its["fit"] == "random_crop"
        # Where there are several, a reason says which one it is about.
        self._prefix = f"column {image!r}: " if len(config.images) > 1 else ""

    @property
    def simd(self) -> str:
        """The vector instructions in use."""
        return self._decoder.simd

    def decode(
        self,
        blobs: Sequence[Any] | NDArray[np.intp],
        pictures: NDArray[Any],
        keys: Keys,
        epoch: int,
        seen: NDArray[np.uint32] | None = None,
    ) -> tuple[dict[int, str], dict[int, str]]:
        """Makes blob ``i``, of the row with key ``i``, into ``pictures[i]``. seen: as of
        :meth:`fastloader.fields._kernel.Decoder.decode`.

        Returns the reasons for those that cannot be made, and for those that end early and were
        filled up with grey, by number.
        """
        bad: dict[int, str] = {}
        partial: dict[int, str] = {}
        numbers = key_numbers(keys) if self._is_random else None
        for i, status, message in self._decoder.decode(blobs, pictures, numbers, epoch, seen):
            if status == UNKNOWN_FORMAT:
                row = 0 if numbers is None else int(numbers[i])
                reason = self._with_pillow(blobs[i], pictures[i : i + 1], row, epoch, message)
                if seen is not None:
                    seen[i] = self._decoder.seen
            else:
                reason = kernel_reason(status, message)
            if reason:
                (partial if status == PARTIAL else bad)[i] = self._prefix + reason
        return bad, partial

    def take_pictures(self) -> dict[str, Pictures]:
        """What has been decoded since the last call, by format."""
        taken, self._pictures = self._pictures, {}
        own = {name: Pictures(*found) for name, found in self._decoder.take_pictures().items()}
        return together(own, taken)

    def _with_pillow(
        self, blob: Any, picture: NDArray[Any], row: int, epoch: int, message: str
    ) -> str:
        """The reason why not, or nothing."""
        if isinstance(blob, np.ndarray):
            blob = ctypes.string_at(*blob.tolist())
        try:
            found = pillow.decode(blob, **self._for_pillow)
        except pillow.UnknownFormat as error:
            return kernel_reason(UNKNOWN_FORMAT, f"{message}; {error}")
        except pillow.CannotDecode as error:
            return str(error)
        failure = self._decoder.resize(
            found.pixels, picture, alpha=found.alpha, orientation=found.orientation, row=row,
            epoch=epoch,
        )  # fmt: skip
        if failure:
            return kernel_reason(*failure)
        pixels = found.pixels.shape[0] * found.pixels.shape[1]
        one = {found.format: Pictures(1, len(blob), pixels, pixels)}
        self._pictures = together(self._pictures, one)
        return ""


class StoredImages:
    """What a cache keeps of an image column whose pictures are others in each epoch, for the batch
    that is being made, and how the batch's pictures are made of it.

    pictures: uint8 (batch_size, height, width, 3). seen: uint32 (batch_size, 2), the sizes that
    they had.
    """

    def __init__(self, image: str, config: Config) -> None:
        its, stored = config.image_options(image), config.decoder_options(image)
        self.pictures = np.empty((config.batch_size, *stored["size"], 3), np.uint8)
        self.seen = np.ones((config.batch_size, 2), np.uint32)
        # The limits are for encoded images. These are the cache's own, of whatever size.
        for name in ("cache_size", "max_pixels", "max_scans", "max_chunks"):
            del its[name]
        height, width = its.pop("size")
        self._is_crop = its["fit"] == "random_crop"
        if not self._is_crop:
            its["fit"] = "stretch"  # which it is already: what is left is the flip
        self._decoder = Decoder(
            height, width, max_pixels=2**32, seed=config.seed, portable=config.simd == "portable",
            **its,
        )  # fmt: skip

    def finish(self, pictures: NDArray[Any], keys: Keys, epoch: int) -> None:
        """Makes the batch's pictures, of the rows with these keys."""
        rows = len(keys)
        original = self.seen[:rows] if self._is_crop else None
        self._decoder.crop(self.pictures[:rows], pictures, key_numbers(keys), epoch, original)

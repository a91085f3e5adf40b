"""The views of the peers that have no decoder of their own: Pillow, and torchvision's transforms.

That is what their documentation uses. Crops are of PIL images, so only the crop is resized.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
import shared
import torch

# The index has torchvision's build for CUDA alone, and its compiled part does not load beside
# PyTorch's build for CPUs. Importing it needs the names of two operators, which nothing here calls.
_LIBRARY = torch.library.Library("torchvision", "DEF")
_LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_LIBRARY.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from PIL import Image  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

# Nothing writes to a stored array: the views of it are copies.
warnings.filterwarnings("ignore", message="The given NumPy array is not writable")


class View:
    """The usual transform of training, or that of validation."""

    def __init__(self, view: str) -> None:
        if view == "random":
            steps = [v2.RandomResizedCrop(shared.SIZE, antialias=True), v2.RandomHorizontalFlip()]
        else:
            short = round(shared.SIZE / shared.KEPT)
            steps = [v2.Resize(short, antialias=True), v2.CenterCrop(shared.SIZE)]
        self._steps = v2.Compose(steps)
        self._to_tensor = v2.PILToTensor()

    def of_jpeg(self, blob: bytes) -> torch.Tensor:
        """Return the view of an encoded image, uint8 (3, 224, 224)."""
        with Image.open(io.BytesIO(blob)) as image:
            return self.of_image(image)

    def of_image(self, image: Image.Image) -> torch.Tensor:
        """Return the view of a PIL image."""
        found: torch.Tensor = self._to_tensor(self._steps(image.convert("RGB")))
        return found

    def of_pixels(self, pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        """Return the view of an array (height, width, 3)."""
        found: torch.Tensor = self._steps(torch.from_numpy(pixels).permute(2, 0, 1))
        return found.contiguous()

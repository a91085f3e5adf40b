"""Lets torchvision be imported where its compiled part does not fit the installed PyTorch.

Package indexes have torchvision's build for CUDA alone, which does not load alongside PyTorch's
build for CPUs. Importing it needs the names of two operators, which the transforms do not call.
Workers import this module with FASTLOADER_WORKER_IMPORTS.
"""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, name):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

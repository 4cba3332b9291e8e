"""Resize images in memory."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_AT_ONCE = 2**26  # values of resized images that are float at the same time


def resize_all(images: Tensor, image_size: int) -> Tensor:
    """Resize images in chunks, which keeps the memory for float values small.

    Args:
        images: uint8 tensor (N, C, H, W), square.
        image_size: the new side.

    Returns:
        uint8 tensor (N, C, image_size, image_size).
    """
    if images.shape[-1] == image_size:
        return images
    size = (image_size, image_size)
    resized = torch.empty(*images.shape[:2], *size, dtype=torch.uint8)
    step = max(1, min(1024, _AT_ONCE // (images.shape[1] * image_size**2)))
    for start in range(0, len(images), step):
        part = F.interpolate(images[start : start + step].float(), size=size, mode="bicubic", antialias=True)
        resized[start : start + step] = part.round().clamp(0, 255)
    return resized

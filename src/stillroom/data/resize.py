"""Another size for images that are in memory already."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_AT_ONCE = 2**26  # values of the new images that are in float at the same time


def resize_all(images: Tensor, image_size: int) -> Tensor:
    """Resize images, a few at a time, so that they are in memory once before and once after.

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

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


def stored_side(image_size: int | None, view_size: int | None, own: tuple[int, int] | None) -> int | None:
    """The side at which images are stored: that of the view, but never larger than they are for its sake.

    Args:
        image_size: side at which the trained model takes the images; None for their own size.
        view_size: side at which they are augmented; None for the same.
        own: height and width of the first image; None if it cannot be read.

    Example:
        >>> stored_side(160, 384, (500, 640)), stored_side(160, 384, (300, 640)), stored_side(160, None, (500, 640))
        (384, 300, 160)
    """
    if image_size is None or view_size is None or own is None:
        return image_size
    return max(image_size, min(view_size, *own))

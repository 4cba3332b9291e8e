"""Box mask: the pixels inside a box of each image."""

from __future__ import annotations

import torch
from torch import Tensor


def box_mask(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels are inside each image's box, bool (B, 1, height, width).

    Args:
        boxes: integers (B, 4), top, left, bottom and right; may reach beyond the image, and may be empty.
        height: of the images.
        width: of the images.
    """
    top, left, bottom, right = boxes[:, :, None, None].unbind(1)
    row = torch.arange(height, device=boxes.device)[None, :, None]
    column = torch.arange(width, device=boxes.device)[None, None, :]
    return ((row >= top) & (row < bottom) & (column >= left) & (column < right))[:, None]

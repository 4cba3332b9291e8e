"""Random erasing: a random rectangle of some images is filled with the mean colour (Zhong et al., AAAI 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from stillroom.data.image_operations import cover
from stillroom.data.random_table import Purpose, random_rows

_SCALE = (0.02, 0.33)  # fraction of the area, as in torchvision
_RATIO = (0.3, 3.3)  # height / width


def draw_erasing(
    probability: float, seed: int, epoch: int, ids: Tensor, size: tuple[int, int], purpose: Purpose = Purpose.ERASE
) -> Tensor:
    """Draw the rectangle of each image in one epoch. Only aspect ratios that fit are drawn.

    Args:
        probability: of an image to have one, in [0, 1].
        seed: >= 0.
        epoch: >= 0.
        ids: int64 (n,) on the CPU: sample ids, or keys of occurrences.
        size: height and width of the images.
        purpose: which view of the images they are for.

    Returns:
        int64 (n, 4), top, left, bottom and right; empty rectangles where nothing is erased.
    """
    height, width = size
    table = random_rows(seed, epoch, purpose, ids, 5).T
    area = _SCALE[0] + table[1] * (_SCALE[1] - _SCALE[0])
    low = np.log(np.maximum(_RATIO[0], area * height / width))
    high = np.log(np.minimum(_RATIO[1], height / (width * area)))
    ratio = np.exp(low + table[2] * (np.maximum(high, low) - low))
    box_height = np.clip(np.round(np.sqrt(area * height * width * ratio)), 1, height)
    box_width = np.clip(np.round(np.sqrt(area * height * width / ratio)), 1, width)
    top = np.floor(table[3] * (height - box_height + 1))
    left = np.floor(table[4] * (width - box_width + 1))
    boxes = np.stack([top, left, top + box_height, left + box_width], axis=1).astype(np.int64)
    boxes[table[0] >= probability] = 0
    return torch.from_numpy(boxes)


def erase(images: Tensor, boxes: Tensor, mean: Sequence[float]) -> Tensor:
    """Fill the rectangles with the mean colour, which normalisation turns into 0, torchvision's default value.

    Args:
        images: tensor (B, C, H, W) with values in [0, 255]; for uint8 the mean is rounded, so the normalised value is
            at most 0.5 / 255 / std away from 0.
        boxes: int64 (B, 4) on the CPU.
        mean: of each channel on [0, 1].
    """
    values = [255 * value if images.is_floating_point() else round(255 * value) for value in mean]
    return cover(images, boxes, values)

"""Feature maps of different sizes: average pooling to a common size."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool two maps to the smaller height and the smaller width of both.

    Args:
        first: (B, C, H, W).
        second: (B', C', H', W').

    Returns:
        Both with the last two dimensions min(H, H') and min(W, W').

    Example:
        >>> import torch
        >>> first, second = same_size(torch.zeros(2, 3, 8, 8), torch.zeros(2, 5, 4, 4))
        >>> first.shape, second.shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 5, 4, 4]))
    """
    height, width = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
    return pool_to(first, height, width), pool_to(second, height, width)


def pool_to(x: Tensor, height: int, width: int) -> Tensor:
    """Average-pool to a size, by equal windows where they fit, whose backward is deterministic on every device."""
    if x.shape[2:] == (height, width):
        return x
    if x.shape[2] % height or x.shape[3] % width:
        return functional.adaptive_avg_pool2d(x, (height, width))
    return functional.avg_pool2d(x, (x.shape[2] // height, x.shape[3] // width))

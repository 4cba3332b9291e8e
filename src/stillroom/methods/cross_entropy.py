"""The cross-entropy over the images of a batch that have a label."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, target: Tensor, labelled: Tensor | None = None) -> Tensor:
    """The mean cross-entropy over labelled images.

    Args:
        logits: (B, C), floating.
        target: labels (B,), int64; -1 for an image without a label, with ``labelled`` only.
        labelled: the number by which the sum is divided, > 0; None takes the mean over all images.

    Returns:
        A scalar; 0 with a zero gradient if no image has a label.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 1.0], [0.0, 9.0]])
        >>> cross_entropy(logits, torch.tensor([0, -1]), torch.tensor(1.0))
        tensor(0.6931)
    """
    if labelled is None:
        return F.cross_entropy(logits, target)
    return F.cross_entropy(logits, target, ignore_index=-1, reduction="sum") / labelled

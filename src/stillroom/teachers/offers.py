"""Offers: turn probabilities, top-k probabilities and labels into logits."""

from __future__ import annotations

import torch
from torch import Tensor

# The gap between the logit of a label and the others. bfloat16 and float16 hold it, and its softmax is one-hot in
# float32 up to a temperature of 8 and 20,000 classes: exp(-256 / 8) * 20,000 < 2^-24.
ONE_HOT_GAP = 256.0


def one_hot_logits(labels: Tensor, class_count: int) -> Tensor:
    """Turn labels into logits: 0 for the label and -256 for each other class.

    Args:
        labels: int64 (N,), in [0, class_count); -1 for a label that is no class of the data, whose logits are all -256.
        class_count: the number of classes.

    Returns:
        float32 (N, class_count).
    """
    hot = labels[:, None] == torch.arange(class_count, device=labels.device)
    return (hot.float() - 1) * ONE_HOT_GAP


def log_probabilities(probabilities: Tensor) -> Tensor:
    """Turn probabilities into logits, up to a constant per row: their logarithm.

    Args:
        probabilities: (N, classes); values below 1.2e-38 count as 1.2e-38, so that every logit is finite.

    Returns:
        float32 (N, classes).
    """
    return probabilities.float().clamp_min(torch.finfo(torch.float32).tiny).log()


def top_k_logits(classes: Tensor, probabilities: Tensor, class_count: int) -> Tensor:
    """Turn the probabilities of the top k classes into logits. The rest of the mass is spread evenly over the others.

    Args:
        classes: int64 (N, k), in [0, class_count), each once in a row.
        probabilities: (N, k), of these classes.
        class_count: the number of classes.

    Returns:
        float32 (N, class_count).
    """
    scores = probabilities.float()
    rest = (1 - scores.sum(1, keepdim=True)).clamp_min(0) / max(1, class_count - classes.shape[1])
    return log_probabilities(rest.expand(-1, class_count).scatter(1, classes, scores))

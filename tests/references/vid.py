"""Variational information distillation by its definition: a Gaussian's negative log-likelihood, element by element."""

from __future__ import annotations

import torch
from torch import Tensor


def vid(predicted: Tensor, log_scale: Tensor, teacher_map: Tensor, epsilon: float) -> Tensor:
    """Mean over all elements of -log N(t; m, v), without the constant."""
    batch, channels, height, width = predicted.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        for c in range(channels):
            variance = torch.log1p(torch.exp(log_scale[c])) + epsilon
            for y in range(height):
                for x in range(width):
                    error = teacher_map.detach()[b, c, y, x] - predicted[b, c, y, x]
                    total = total + error**2 / (2 * variance) + torch.log(torch.sqrt(variance))
    return total / (batch * channels * height * width)

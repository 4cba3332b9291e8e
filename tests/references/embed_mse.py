"""Squared distance of embeddings by its definition, number by number."""

from __future__ import annotations

import torch
from torch import Tensor


def embed_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all elements of the squared difference."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for s, t in zip(student, teacher.detach(), strict=True):
        for a, b in zip(s, t, strict=True):
            total, count = total + (a - b) ** 2, count + 1
    return total / count

"""Cosine distance of embeddings by its definition, number by number."""

from __future__ import annotations

import torch
from torch import Tensor


def embed_cosine(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 minus the cosine."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher.detach(), strict=True):
        total = total + 1 - sum(s * t) / torch.sqrt(sum(s**2)) / torch.sqrt(sum(t**2))
    return total / len(student)

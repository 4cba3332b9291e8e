"""Probabilistic knowledge transfer by its definition: one distribution over the batch per sample."""

from __future__ import annotations

import torch
from torch import Tensor


def pkt(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Mean over all pairs of p log(p / q), with the published guards."""
    batch = student_embedding.shape[0]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(batch):
        q, p = neighbours(student_embedding, i), neighbours(teacher_embedding.detach(), i)
        for j in range(batch):
            total = total + p[j] * torch.log((p[j] + 1e-7) / (q[j] + 1e-7))
    return total / batch**2


def neighbours(x: Tensor, i: int) -> list[Tensor]:
    """Sample i's probabilities over the batch."""
    kernel = [(cosine(x[i], x[j]) + 1) / 2 for j in range(x.shape[0])]
    return [value / sum(kernel) for value in kernel]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Inner product over both guarded lengths."""
    product = torch.zeros((), dtype=torch.float64)
    for x, y in zip(a, b, strict=True):
        product = product + x * y
    return product / (length(a) + 1e-7) / (length(b) + 1e-7)


def length(a: Tensor) -> Tensor:
    """Euclidean length; zero is a constant."""
    square = sum(x**2 for x in a)
    return torch.zeros((), dtype=torch.float64) if square == 0 else torch.sqrt(square)

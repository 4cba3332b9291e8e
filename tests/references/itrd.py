"""Information-theoretic distillation by its definition: unit by unit, and pair by pair."""

from __future__ import annotations

import torch
from torch import Tensor


def correlation(student_embedding: Tensor, teacher_embedding: Tensor, alpha: float) -> Tensor:
    """Logarithm of the summed deviations of the units' correlations from 1."""
    total = torch.zeros((), dtype=torch.float64)
    for d in range(student_embedding.shape[1]):
        total = total + abs(unit_correlation(student_embedding[:, d], teacher_embedding[:, d].detach()) - 1) ** (
            2 * alpha
        )
    return torch.log(total) / torch.log(torch.tensor(2.0, dtype=torch.float64))


def unit_correlation(x: Tensor, y: Tensor) -> Tensor:
    """Products of standard scores with unbiased deviations, over B."""
    batch = len(x)
    x_mean, y_mean = sum(x) / batch, sum(y) / batch
    x_std = torch.sqrt(sum((value - x_mean) ** 2 for value in x) / (batch - 1))
    y_std = torch.sqrt(sum((value - y_mean) ** 2 for value in y) / (batch - 1))
    total = torch.zeros((), dtype=torch.float64)
    for p, q in zip(x, y, strict=True):
        total = total + (p - x_mean) / x_std * (q - y_mean) / y_std
    return total / batch


def mutual(student_embedding: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Sum over pairs of the student's squared similarities less the joint ones."""
    batch = student_embedding.shape[0]
    own = [[cosine(student_embedding, i, j) for j in range(batch)] for i in range(batch)]
    joint = [[own[i][j] * cosine(teacher_embedding.detach(), i, j) for j in range(batch)] for i in range(batch)]
    own_trace, joint_trace = (sum(table[i][i] for i in range(batch)) for table in (own, joint))
    total = torch.zeros((), dtype=torch.float64)
    for i in range(batch):
        for j in range(batch):
            total = total + (own[i][j] / own_trace) ** 2 - (joint[i][j] / joint_trace) ** 2
    return total


def cosine(x: Tensor, i: int, j: int) -> Tensor:
    """Inner product of two samples over their lengths."""
    product, a, b = torch.zeros(3, dtype=torch.float64)
    for p, q in zip(x[i], x[j], strict=True):
        product, a, b = product + p * q, a + p * p, b + q * q
    return product / torch.sqrt(a) / torch.sqrt(b)

"""Relational distillation by its definition: every pair, every triple, from the differences themselves."""

from __future__ import annotations

import torch
from torch import Tensor


def rkd_terms(student_embedding: Tensor, teacher_embedding: Tensor, power: int = 1) -> tuple[Tensor, Tensor]:
    """Distance part and angle part."""
    batch = student_embedding.shape[0]
    student, teacher = student_embedding.reshape(batch, -1), teacher_embedding.detach().reshape(batch, -1)
    near, far = distances(student, power), distances(teacher, power)
    distance, angle = torch.zeros(2, dtype=torch.float64)
    for i in range(batch):
        for j in range(batch):
            distance = distance + smooth_l1(near[i][j] - far[i][j])
            for k in range(batch):
                angle = angle + smooth_l1(cosine(student, i, j, k) - cosine(teacher, i, j, k))
    return distance / batch**2, angle / batch**3


def smooth_l1(u: Tensor) -> Tensor:
    """Quadratic up to 1, linear beyond."""
    return u**2 / 2 if abs(u) < 1 else abs(u) - 0.5


def distances(x: Tensor, power: int) -> list[list[Tensor]]:
    """Distances to a power over their mean of different samples; of coinciding ones 0."""
    batch = x.shape[0]
    table = [[length(x[i] - x[j]) ** power for j in range(batch)] for i in range(batch)]
    mean = sum(sum(row) for row in table) / max(batch * (batch - 1), 1)
    return table if mean == 0 else [[value / mean for value in row] for row in table]


def cosine(x: Tensor, i: int, j: int, k: int) -> Tensor:
    """Cosine at sample i between j and k, 0 where there is no direction."""
    a, b = x[j] - x[i], x[k] - x[i]
    lengths = length(a) * length(b)
    if lengths == 0:
        return torch.zeros((), dtype=torch.float64)
    return sum(p * q for p, q in zip(a, b, strict=True)) / lengths


def length(a: Tensor) -> Tensor:
    """Euclidean length; zero is a constant."""
    square = sum(p**2 for p in a)
    return torch.zeros((), dtype=torch.float64) if square == 0 else torch.sqrt(square)

"""Similarity preservation by its definition: every pair of samples."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.at import unit


def sp(student_feature: Tensor, teacher_feature: Tensor) -> Tensor:
    """Squared differences of the similarity rows, over B squared."""
    batch = student_feature.shape[0]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(batch):
        student, teacher = row(student_feature, i), row(teacher_feature.detach(), i)
        for j in range(batch):
            total = total + (student[j] - teacher[j]) ** 2
    return total / batch**2


def row(feature: Tensor, i: int) -> list[Tensor]:
    """Sample i's similarities to all, as a vector of length 1."""
    x = feature.reshape(feature.shape[0], -1)
    return unit([sum(x[i, d] * x[j, d] for d in range(x.shape[1])) for j in range(x.shape[0])])

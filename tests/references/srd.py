"""SRD by its definition: every column normalised over the batch, every difference by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kl, row


def normalised(x: Tensor) -> list[list[Tensor]]:
    """The columns with mean 0, over sqrt(biased variance + 1e-4), row by row."""
    batch, width = x.shape
    columns = []
    for d in range(width):
        mean = sum(x[b, d] for b in range(batch)) / batch
        variance = sum((x[b, d] - mean) ** 2 for b in range(batch)) / batch
        columns.append([(x[b, d] - mean) / torch.sqrt(variance + 1e-4) for b in range(batch)])
    return [[columns[d][b] for d in range(width)] for b in range(batch)]


def srd_feature(student: list[list[Tensor]], teacher: list[list[Tensor]], power: float, epsilon: float) -> Tensor:
    """Twice the logarithm of the sum of all powers."""
    total = torch.tensor(epsilon, dtype=torch.float64)
    for own, wanted in zip(student, teacher, strict=True):
        for s, t in zip(own, wanted, strict=True):
            total = total + abs(s - t) ** power
    return 2 * torch.log(total)


def srd(
    student_embedding: Tensor,
    teacher_embedding: Tensor,
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    power: float = 4.0,
    epsilon: float = 1e-5,
    kl_weight: float = 1.0,
    temperature: float = 1.0,
) -> Tensor:
    """The weighted sum of both parts."""
    batch = student_logits.shape[0]
    divergence = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        divergence = divergence + kl(row(teacher_logits.detach(), b, temperature), row(student_logits, b, temperature))
    feature = srd_feature(normalised(student_embedding), normalised(teacher_embedding.detach()), power, epsilon)
    return feature + kl_weight * divergence / batch

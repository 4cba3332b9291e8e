"""LumiNet by its definition: one class at a time over the batch, then one sample at a time over the classes."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kl


def standard_columns(logits: Tensor) -> list[list[Tensor]]:
    """z-scores of each class, with the biased variance plus 1e-5; [sample][class]."""
    batch, classes = logits.shape
    columns = []
    for c in range(classes):
        values = [logits[b, c].double() for b in range(batch)]
        mean = sum(values) / batch
        variance = sum((value - mean) ** 2 for value in values) / batch
        columns.append([(value - mean) / torch.sqrt(variance + 1e-5) for value in values])
    return [[columns[c][b] for c in range(classes)] for b in range(batch)]


def luminet(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """The mean over samples of the KL between the softmaxes of the z-scores."""
    student, teacher = standard_columns(student_logits), standard_columns(teacher_logits.detach())
    total = torch.zeros((), dtype=torch.float64)
    for one, other in zip(student, teacher, strict=True):
        total = total + kl([z / temperature for z in other], [z / temperature for z in one])
    return total / len(student)

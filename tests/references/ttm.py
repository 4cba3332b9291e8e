"""Transformed teacher matching by its definition, one sample and one class at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def ttm(student_logits: Tensor, teacher_logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """TTM and WTTM."""
    batch, classes = student_logits.shape
    plain, weighted = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        log_student = log_softmax(row(student_logits, b, 1.0))
        powers = [torch.exp(gamma * value) for value in log_softmax(row(teacher_logits.detach(), b, 1.0))]
        total = sum(powers)
        divergence = torch.zeros((), dtype=torch.float64)
        for c in range(classes):
            q = powers[c] / total
            if q > 0:
                divergence = divergence + q * (torch.log(q) - log_student[c])
        plain = plain + divergence / batch
        weighted = weighted + total * divergence / batch
    return plain, weighted

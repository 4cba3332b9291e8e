"""Weighted soft labels by their definition, one sample and one class at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def weight(student: list[Tensor], teacher: list[Tensor], label: int) -> float:
    """1 - exp of minus the ratio of the two losses on the label; a number, so that no gradient passes."""
    ce_student, ce_teacher = -log_softmax(student)[label].item(), -log_softmax(teacher)[label].item()
    return 1 - math.exp(-max(ce_student / (ce_teacher + 1e-7), 0.0))


def wsld(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean of weighted soft cross-entropies."""
    batch, classes = student_logits.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        sample = weight(row(student_logits, b, 1.0), row(teacher_logits, b, 1.0), int(target[b]))
        log_q = log_softmax(row(student_logits, b, temperature))
        log_p = log_softmax(row(teacher_logits.detach(), b, temperature))
        for c in range(classes):
            total = total - sample * torch.exp(log_p[c]) * log_q[c] / batch
    return temperature**2 * total

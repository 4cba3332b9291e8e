"""Normalised distillation by its definition: the target's probability, and the others' cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def nkd_terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Target part at temperature 1, and T^2 times the cross-entropy over the other classes at T."""
    batch, classes = student_logits.shape
    target_part, other_part = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        y = int(target[b])
        log_q, log_p = log_softmax(row(student_logits, b, 1.0)), log_softmax(row(teacher_logits.detach(), b, 1.0))
        target_part = target_part - torch.exp(log_p[y]) * log_q[y]
        student, teacher = row(student_logits, b, temperature), row(teacher_logits.detach(), b, temperature)
        others = [c for c in range(classes) if c != y]
        log_q, log_p = log_softmax([student[c] for c in others]), log_softmax([teacher[c] for c in others])
        for one_q, one_p in zip(log_q, log_p, strict=True):
            other_part = other_part - torch.exp(one_p) * one_q
    return target_part / batch, temperature**2 * other_part / batch

"""Decoupled distillation by its definition: a binary distribution, and the distribution over the others."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kl, row


def log_sum(values: list[Tensor]) -> Tensor:
    """Log of the sum of exponentials of a list of scalars."""
    largest = max(value.item() for value in values)
    return largest + torch.log(sum(torch.exp(value - largest) for value in values))


def dkd_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    temperature: float,
    top_k: int = 0,
    coupled: bool = False,
) -> tuple[Tensor, Tensor]:
    """Target and non-target part, each T^2 times a mean over samples; the second perhaps over fewer classes."""
    batch, classes = student_logits.shape
    target_part, other_part = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        student, teacher = row(student_logits, b, temperature), row(teacher_logits.detach(), b, temperature)
        y = int(target[b])
        others = [c for c in range(classes) if c != y]
        student_others, teacher_others = [student[c] for c in others], [teacher[c] for c in others]
        # Probabilities of (target, rest) are the softmax of (z_y, log sum exp of the rest).
        target_part = target_part + kl([teacher[y], log_sum(teacher_others)], [student[y], log_sum(student_others)])
        if top_k:
            best = sorted(range(classes), key=lambda c: -float(teacher[c].detach()))[:top_k]
            kept = [c for c in best if c != y]
            teacher_others, student_others = [teacher[c] for c in kept], [student[c] for c in kept]
        if teacher_others:
            factor = 1.0
            if coupled:
                factor = 1 - float(torch.exp(teacher[y] - log_sum(teacher)))
            other_part = other_part + factor * kl(teacher_others, student_others)
    return temperature**2 * target_part / batch, temperature**2 * other_part / batch

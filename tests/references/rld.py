"""Refined logits by their definition: two-way confidences, and the classes below the target."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.dkd import log_sum
from tests.references.kd import kl, row


def two_way(values: list[Tensor], one: int) -> list[Tensor]:
    """The logits of one class and of all the others together."""
    return [values[one], log_sum([value for c, value in enumerate(values) if c != one])]


def rld_terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float, confidence_temperature: float
) -> tuple[Tensor, Tensor]:
    """Confidence and correlation part, each a squared temperature times a mean over samples."""
    batch, classes = student_logits.shape
    confidence, correlation = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        y, raw = int(target[b]), [value.item() for value in teacher_logits[b]]
        student, teacher = (row(x, b, confidence_temperature) for x in (student_logits, teacher_logits.detach()))
        confidence = confidence + kl(two_way(teacher, raw.index(max(raw))), two_way(student, y))
        below = [c for c in range(classes) if raw[c] < raw[y]]
        if below:
            student, teacher = (row(x, b, temperature) for x in (student_logits, teacher_logits.detach()))
            correlation = correlation + kl([teacher[c] for c in below], [student[c] for c in below])
    return confidence_temperature**2 * confidence / batch, temperature**2 * correlation / batch

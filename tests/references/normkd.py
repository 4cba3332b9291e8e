"""Distillation at each sample's own temperature by its definition, one sample and one class at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.dkd import dkd_terms
from tests.references.kd import kl


def temperature_of(values: list[Tensor], factor: float) -> Tensor:
    """The factor times the unbiased standard deviation."""
    mean = sum(values) / len(values)
    return factor * torch.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def samples(
    student_logits: Tensor, teacher_logits: Tensor, factor: float
) -> list[tuple[list[Tensor], list[Tensor], float]]:
    """Each sample's logits over its temperatures, student and teacher, and the teacher's temperature."""
    found = []
    for one, other in zip(student_logits, teacher_logits.detach(), strict=True):
        student, teacher = list(one), list(other)
        cold, warm = temperature_of(student, factor), temperature_of(teacher, factor)
        found.append(([s / cold for s in student], [t / warm for t in teacher], warm.item()))
    return found


def normkd(student_logits: Tensor, teacher_logits: Tensor, factor: float) -> Tensor:
    """The mean over samples of the squared temperature times the KL."""
    rows = [
        warm**2 * kl(teacher, student) for student, teacher, warm in samples(student_logits, teacher_logits, factor)
    ]
    return sum(rows) / len(rows)


def normdkd_terms(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, factor: float
) -> tuple[Tensor, Tensor]:
    """DKD's two parts of each sample, times the squared temperature, averaged."""
    binary, others = torch.zeros(2, dtype=torch.float64)
    for b, (student, teacher, warm) in enumerate(samples(student_logits, teacher_logits, factor)):
        parts = dkd_terms(torch.stack(student)[None], torch.stack(teacher)[None], target[b : b + 1], 1.0)
        binary, others = binary + warm**2 * parts[0], others + warm**2 * parts[1]
    return binary / len(target), others / len(target)

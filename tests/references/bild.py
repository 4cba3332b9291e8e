"""Differences of the leader's largest logits by their definition, pair by pair."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kl, row


def led_by(leader: list[Tensor], student: list[Tensor], teacher: list[Tensor], k: int) -> Tensor:
    """One sample's divergence between the softmaxes over the pairs of the leader's classes."""
    order = sorted(range(len(leader)), key=lambda c: -leader[c].item())[:k]
    pairs = [(i, j) for place, i in enumerate(order) for j in order[place + 1 :]]
    return kl([teacher[i] - teacher[j] for i, j in pairs], [student[i] - student[j] for i, j in pairs])


def bild_terms(student_logits: Tensor, teacher_logits: Tensor, k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """The teacher-led and the student-led part, means over samples."""
    batch = len(student_logits)
    by_teacher, by_student = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        student, teacher = row(student_logits, b, temperature), row(teacher_logits.detach(), b, temperature)
        by_teacher = by_teacher + led_by(teacher, student, teacher, k)
        by_student = by_student + led_by(student, student, teacher, k)
    return by_teacher / batch, by_student / batch

"""Plackett-Luce distillation by its definition, choice after choice."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.dkd import log_sum
from tests.references.kd import log_softmax, row


def pld(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """The mean over samples of the weighted surprises at the classes' order: the label, then the teacher's."""
    batch, classes = student_logits.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        y, student = int(target[b]), row(student_logits, b, 1.0)
        weights = [log_p.exp() for log_p in log_softmax(row(teacher_logits.detach(), b, temperature))]
        left = [y, *sorted((c for c in range(classes) if c != y), key=lambda c: -teacher_logits[b, c].item())]
        while left:
            total = total + weights[left[0]] * (log_sum([student[c] for c in left]) - student[left[0]])
            left = left[1:]
    return total / batch

"""OFA-KD by its definition: one sample and one class at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def ofa(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, epsilon: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """The cross-entropy with (p + 1_y)^epsilon - 1_y."""
    batch, classes = student_logits.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        log_q = log_softmax(row(student_logits, b, temperature))
        log_p = log_softmax(row(teacher_logits.detach(), b, temperature))
        for c in range(classes):
            label = 1.0 if c == target[b] else 0.0
            total = total - ((torch.exp(log_p[c]) + label) ** epsilon - label) * log_q[c]
    return total / batch

"""Cross-entropy with the teacher's predicted class, one sample and one class at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def hard_labels(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Minus the mean log-probability of each sample's first largest teacher class; 0 where all are equally large."""
    batch, classes = student_logits.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        values = [teacher_logits[b, c].item() for c in range(classes)]
        predicted = 0
        for c in range(1, classes):
            if values[c] > values[predicted]:
                predicted = c
        if min(values) < max(values):
            total = total - log_softmax(row(student_logits, b, 1.0))[predicted]
    return total / batch

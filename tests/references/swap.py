"""SWAP by its definition: two numbers of the teacher's list change places."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kl, row


def swap(student_logits: Tensor, teacher_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over samples of the KL from the corrected teacher."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(student_logits.shape[0]):
        student, teacher = row(student_logits, b, temperature), row(teacher_logits.detach(), b, temperature)
        y, top = int(target[b]), 0
        for c in range(len(teacher)):
            if teacher[c].item() > teacher[top].item():
                top = c
        teacher[y], teacher[top] = teacher[top], teacher[y]
        total = total + kl(teacher, student)
    return temperature**2 * total / student_logits.shape[0]

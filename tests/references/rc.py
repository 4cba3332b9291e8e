"""RC by its definition: one number of the student's own list is replaced."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kl, row


def rc(student_logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over samples of the KL from the corrected student, which is a constant."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(student_logits.shape[0]):
        corrected = row(student_logits.detach(), b, 1.0)
        y = int(target[b])
        corrected[y] = corrected[y] + max(corrected)
        total = total + kl([c / temperature for c in corrected], row(student_logits, b, temperature))
    return temperature**2 * total / student_logits.shape[0]

"""CTKD by its definition: a temperature from one number, KD at it, and the reversal's curriculum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.references.kd import kl


def temperature_of(parameter: Tensor, start: float, span: float) -> Tensor:
    """start + span / (1 + exp(-p))."""
    return start + span / (1 + torch.exp(-parameter.double()))


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: Tensor) -> Tensor:
    """T^2 times the mean over samples of the KL, differentiable with respect to T."""
    batch, classes = student_logits.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        student = [student_logits[b, c].double() / temperature for c in range(classes)]
        teacher = [teacher_logits[b, c].detach().double() / temperature for c in range(classes)]
        total = total + kl(teacher, student)
    return temperature * temperature * total / batch


def curriculum(epoch: int, loops: int) -> float:
    """Half a cosine from 0 to -1: minus the squared sine of half the angle."""
    return -(math.sin(math.pi * (epoch / loops) / 2) ** 2) if epoch < loops else -1.0

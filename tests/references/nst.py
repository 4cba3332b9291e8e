"""Neuron selectivity transfer by its definition: every pair of channels, kernel by kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.at import same_size, unit


def nst(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared discrepancy between two sets of channels, averaged over the batch."""
    student, teacher = same_size(student_map, teacher_map.detach())
    total = torch.zeros((), dtype=torch.float64)
    for b in range(student.shape[0]):
        s, t = channels(student[b]), channels(teacher[b])
        total = total + kernel_mean(t, t) + kernel_mean(s, s) - 2 * kernel_mean(s, t)
    return total / student.shape[0]


def channels(x: Tensor) -> list[list[Tensor]]:
    """Each channel of a (C, H, W) map as a vector of length 1."""
    return [unit(list(channel.reshape(-1))) for channel in x]


def kernel_mean(first: list[list[Tensor]], second: list[list[Tensor]]) -> Tensor:
    """Mean of the squared inner products."""
    total = torch.zeros((), dtype=torch.float64)
    for a in first:
        for b in second:
            total = total + sum(x * y for x, y in zip(a, b, strict=True)) ** 2
    return total / (len(first) * len(second))

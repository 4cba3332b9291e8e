"""Factor transfer by its definition: the distance of two factors' normalised channel means of powers."""

from __future__ import annotations

import torch
from torch import Tensor


def direction(factor: Tensor, power: int) -> list[Tensor]:
    """One sample's (C, H, W) factor as a vector of length 1, place by place."""
    channels, height, width = factor.shape
    values = []
    for y in range(height):
        for x in range(width):
            mean = torch.zeros((), dtype=torch.float64)
            for c in range(channels):
                mean = mean + factor[c, y, x] ** power / channels
            values.append(mean)
    length = torch.sqrt(sum((value**2 for value in values), torch.zeros((), dtype=torch.float64)))
    return [value / length for value in values]


def ft(student_factor: Tensor, teacher_factor: Tensor, power: int, norm: int) -> Tensor:
    """Mean over samples and places of |difference|^norm; both factors of one height and width."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for student, teacher in zip(student_factor, teacher_factor.detach(), strict=True):
        for s, t in zip(direction(student, power), direction(teacher, power), strict=True):
            total = total + torch.abs(s - t) ** norm
            count += 1
    return total / count

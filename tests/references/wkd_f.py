"""Wasserstein distillation of features by its definition: one cell and one channel after another."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def statistics(plane: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the places of one cell."""
    values = list(plane.flatten())
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(len(values) - 1, 1)
    return mean, torch.sqrt(variance + epsilon)


def wkd_f(student: Tensor, teacher: Tensor, grid: int, ratio: float, epsilon: float) -> Tensor:
    """Sum over channels, mean over samples and cells."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(student.shape[0]):
        for c in range(student.shape[1]):
            for i in range(grid):
                for j in range(grid):
                    found = []
                    for plane in (student[b, c], teacher.detach()[b, c]):
                        height, width = plane.shape
                        rows = slice(math.floor(i * height / grid), math.ceil((i + 1) * height / grid))
                        columns = slice(math.floor(j * width / grid), math.ceil((j + 1) * width / grid))
                        found.append(statistics(plane[rows, columns], epsilon))
                    (m_s, d_s), (m_t, d_t) = found
                    total = total + ratio * (m_s - m_t) ** 2 + (d_s - d_t) ** 2
    return total / (student.shape[0] * grid**2)

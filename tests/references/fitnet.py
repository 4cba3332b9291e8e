"""The hint loss by its definition: the mean squared difference of two maps."""

from __future__ import annotations

import torch
from torch import Tensor


def fitnet(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean over all elements of the squared difference."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for s, t in zip(student_map.flatten(), teacher_map.detach().flatten(), strict=True):
        total = total + (s - t) ** 2
        count += 1
    return total / count

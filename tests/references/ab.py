"""The activation boundary loss by its definition: a squared hinge, whose side is the teacher's."""

from __future__ import annotations

import torch
from torch import Tensor


def ab(student_map: Tensor, teacher_map: Tensor, margin: float) -> Tensor:
    """3 / 1000 of the batch mean of the summed squared hinges."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student_map.flatten(), teacher_map.detach().flatten(), strict=True):
        if t > 0 and s < margin:
            total = total + (margin - s) ** 2
        if t <= 0 and s > -margin:
            total = total + (s + margin) ** 2
    return 3 * total / 1000 / student_map.shape[0]

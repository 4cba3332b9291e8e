"""The overhaul's distance by its definition: three cases of the teacher's response."""

from __future__ import annotations

import torch
from torch import Tensor


def ofd(student_map: Tensor, teacher_map: Tensor, margin: list[float]) -> Tensor:
    """Batch mean of the partial squared distances' sum; one margin per channel."""
    batch, channels, height, width = student_map.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    s, t, m = student_map[b, c, y, x], float(teacher_map[b, c, y, x].detach()), margin[c]
                    if t > 0:
                        total = total + (s - t) ** 2
                    elif t > m:
                        total = total + ((s - t) ** 2 if s > t else 0)
                    elif s > m:
                        total = total + (s - m) ** 2
    return total / batch


def margin_of(teacher_map: Tensor) -> list[float]:
    """Each channel's mean negative response, or -3 standard deviations where those are rare."""
    margins = []
    for c in range(teacher_map.shape[1]):
        responses = [float(value) for value in teacher_map[:, c].flatten()]
        negative = [value for value in responses if value < 0]
        mean = sum(responses) / len(responses)
        spread = (sum((value - mean) ** 2 for value in responses) / len(responses)) ** 0.5
        rare = len(negative) <= 0.001 * len(responses)
        margins.append(-3 * spread if rare else sum(negative) / len(negative))
    return margins

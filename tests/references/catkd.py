"""Class attention transfer by its definition, place by place."""

from __future__ import annotations

import torch
from torch import Tensor


def cam(final_map: Tensor, weight: Tensor, b: int, c: int, y: int, x: int) -> Tensor:
    """What one place adds to one class."""
    return sum((weight[c, d] * final_map[b, d, y, x] for d in range(weight.shape[1])), torch.zeros(()).double())


def catkd(
    student_map: Tensor, student_weight: Tensor, teacher_map: Tensor, teacher_weight: Tensor, size: int, normalize: bool
) -> Tensor:
    """The mean squared difference of the pooled maps; sides must be multiples of the size."""
    batch, classes = len(student_map), len(student_weight)
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        for c in range(classes):
            student = _pooled(student_map, student_weight, b, c, size, normalize)
            teacher = _pooled(teacher_map.detach(), teacher_weight.detach(), b, c, size, normalize)
            for one, other in zip(student, teacher, strict=True):
                total = total + (one - other) ** 2
    return total / (batch * classes * size * size)


def _pooled(final_map: Tensor, weight: Tensor, b: int, c: int, size: int, normalize: bool) -> list[Tensor]:
    height, width = final_map.shape[2] // size, final_map.shape[3] // size
    cells = []
    for row in range(size):
        for column in range(size):
            places = [
                cam(final_map, weight, b, c, row * height + y, column * width + x)
                for y in range(height)
                for x in range(width)
            ]
            cells.append(sum(places[1:], places[0]) / len(places))
    if not normalize:
        return cells
    length = torch.sqrt(sum((cell**2 for cell in cells[1:]), cells[0] ** 2))
    return [cell / length for cell in cells]

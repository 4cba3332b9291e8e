"""SimKD by its definition: the larger map's windows averaged, then squares summed."""

from __future__ import annotations

import torch
from torch import Tensor


def simkd(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference; sides must divide each other."""
    batch, channels = student.shape[:2]
    height, width = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    one = _window(student[b, c], y, x, height, width)
                    other = _window(teacher[b, c].detach(), y, x, height, width)
                    total = total + (one - other) ** 2
    return total / (batch * channels * height * width)


def _window(image: Tensor, y: int, x: int, height: int, width: int) -> Tensor:
    rows, columns = image.shape[0] // height, image.shape[1] // width
    total = torch.zeros((), dtype=torch.float64)
    for i in range(rows):
        for j in range(columns):
            total = total + image[y * rows + i, x * columns + j]
    return total / (rows * columns)

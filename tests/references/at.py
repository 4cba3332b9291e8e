"""Attention transfer by its definition: one attention map per sample, place by place."""

from __future__ import annotations

import torch
from torch import Tensor


def at(student_map: Tensor, teacher_map: Tensor, power: float) -> Tensor:
    """Mean squared difference of the two attention maps of length 1."""
    student, teacher = same_size(student_map, teacher_map.detach())
    total, count = torch.zeros((), dtype=torch.float64), 0
    for b in range(student.shape[0]):
        for u, v in zip(attention(student[b], power), attention(teacher[b], power), strict=True):
            total, count = total + (u - v) ** 2, count + 1
    return total / count


def attention(x: Tensor, power: float) -> list[Tensor]:
    """The places of one sample's (C, H, W) map, row by row."""
    channels, height, width = x.shape
    values = [
        sum((abs(x[c, h, w]) ** power for c in range(channels)), torch.zeros((), dtype=x.dtype)) / channels
        for h in range(height)
        for w in range(width)
    ]
    return unit(values)


def unit(values: list[Tensor]) -> list[Tensor]:
    """A vector divided by its length; zero stays zero."""
    square = sum(value**2 for value in values)
    return values if square == 0 else [value / torch.sqrt(square) for value in values]


def same_size(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller height and the smaller width."""
    height, width = min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3])
    return pool(first, height, width), pool(second, height, width)


def pool(x: Tensor, height: int, width: int) -> Tensor:
    """Means over windows that cover the map, overlapping where it does not divide."""
    rows = []
    for h in range(height):
        top, bottom = h * x.shape[2] // height, -(-(h + 1) * x.shape[2] // height)
        row = []
        for w in range(width):
            left, right = w * x.shape[3] // width, -(-(w + 1) * x.shape[3] // width)
            window = x[:, :, top:bottom, left:right]
            row.append(window.sum((2, 3)) / ((bottom - top) * (right - left)))
        rows.append(torch.stack(row, -1))
    return torch.stack(rows, -2)

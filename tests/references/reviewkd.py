"""The hierarchical context loss by its definition: mean squared differences of averaged maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def pool(feature: Tensor, height: int, width: int) -> Tensor:
    """Adaptive averaging: cell i of n covers the old cells that i/n to (i + 1)/n of the side touches."""
    batch, channels, old_height, old_width = feature.shape
    pooled = torch.zeros(batch, channels, height, width, dtype=feature.dtype)
    for y in range(height):
        top, bottom = math.floor(y * old_height / height), math.ceil((y + 1) * old_height / height)
        for x in range(width):
            left, right = math.floor(x * old_width / width), math.ceil((x + 1) * old_width / width)
            pooled[:, :, y, x] = feature[:, :, top:bottom, left:right].mean((2, 3))
    return pooled


def mean_square(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all elements of the squared difference."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student.flatten(), teacher.flatten(), strict=True):
        total = total + (s - t) ** 2
    return total / student.numel()


def reviewkd(student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
    """Sum over the levels of the weighted mean over the context sizes."""
    result = torch.zeros((), dtype=torch.float64)
    for student, teacher in zip(student_maps, teacher_maps, strict=True):
        sides = [side for side in (4, 2, 1) if side < min(student.shape[2:])]
        pairs = [(student, teacher.detach())]
        pairs += [(pool(student, side, side), pool(teacher.detach(), side, side)) for side in sides]
        terms = [mean_square(*pair) for pair in pairs]
        weights = [1 / 2**i for i in range(len(terms))]
        result = result + sum(w * term for w, term in zip(weights, terms, strict=True)) / sum(weights)
    return result

"""The flow of solution procedure by its definition: every pair of channels of neighbouring levels."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.at import same_size


def fsp(student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
    """Mean squared difference of the flow matrices, summed over neighbouring levels."""
    total = torch.zeros((), dtype=torch.float64)
    for level in range(len(student_maps) - 1):
        lower_student, upper_student = same_size(student_maps[level], student_maps[level + 1])
        lower_teacher, upper_teacher = same_size(teacher_maps[level].detach(), teacher_maps[level + 1].detach())
        part, count = torch.zeros((), dtype=torch.float64), 0
        for b in range(lower_student.shape[0]):
            for i in range(lower_student.shape[1]):
                for j in range(upper_student.shape[1]):
                    student = entry(lower_student[b, i], upper_student[b, j])
                    teacher = entry(lower_teacher[b, i], upper_teacher[b, j])
                    part, count = part + (student - teacher) ** 2, count + 1
        total = total + part / count
    return total


def entry(a: Tensor, b: Tensor) -> Tensor:
    """Mean product over the places of two channels."""
    height, width = a.shape
    total = torch.zeros((), dtype=torch.float64)
    for h in range(height):
        for w in range(width):
            total = total + a[h, w] * b[h, w]
    return total / (height * width)

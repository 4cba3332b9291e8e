"""Correlation congruence as the benchmark code has it: neighbours in the batch."""

from __future__ import annotations

import torch
from torch import Tensor


def cc(student_embedding: Tensor, teacher_embedding: Tensor, *, detach: bool = True) -> Tensor:
    """Mean over consecutive samples of the product of their absolute differences."""
    teacher_embedding = teacher_embedding.detach() if detach else teacher_embedding
    batch, width = student_embedding.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch - 1):
        for d in range(width):
            here = abs(student_embedding[b, d] - teacher_embedding[b, d])
            there = abs(student_embedding[b + 1, d] - teacher_embedding[b + 1, d])
            total = total + here * there
    return total / max(batch - 1, 1)

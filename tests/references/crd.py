"""Contrastive distillation by its definition: one exponential per pick, one binary question each."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def crd(
    student: Tensor, teacher: Tensor, student_memory: Tensor, teacher_memory: Tensor, picks: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """Both directions, each normalised by its own first batch."""
    return (
        _direction(student, teacher_memory, picks, temperature),
        _direction(teacher, student_memory, picks, temperature),
    )


def _direction(anchor: Tensor, memory: Tensor, picks: Tensor, temperature: float) -> Tensor:
    samples, negatives = len(memory), picks.shape[1] - 1
    scores = [
        [torch.exp(sum(anchor[b, d] * memory[i, d] for d in range(anchor.shape[1])) / temperature) for i in row]
        for b, row in enumerate(picks.tolist())
    ]
    every = [float(score.detach()) for row in scores for score in row]
    z = samples * math.fsum(every) / len(every)
    noise = negatives / samples
    total = torch.zeros((), dtype=torch.float64)
    for row in scores:
        for k, score in enumerate(row):
            p = score / z
            total = total - torch.log((p if k == 0 else noise) / (p + noise + 1e-7))
    return total / len(picks)

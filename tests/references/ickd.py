"""ICKD by its definition: every sample, every pair of channels, every place."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.at import unit


def ickd(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared differences of the channels' correlation rows, over the channels and the batch."""
    batch, channels = student_map.shape[:2]
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        for i in range(channels):
            own, wanted = correlations(student_map[b], i), correlations(teacher_map[b].detach(), i)
            total = total + sum((own[j] - wanted[j]) ** 2 for j in range(channels))
    return total / (channels * batch)


def correlations(feature: Tensor, i: int) -> list[Tensor]:
    """Channel i's products with all channels, as a vector of length 1."""
    flat = feature.reshape(feature.shape[0], -1)
    return unit([sum(flat[i, n] * flat[j, n] for n in range(flat.shape[1])) for j in range(flat.shape[0])])

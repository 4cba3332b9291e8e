"""Cross-view consistency by its definition: each sample, each pair of views."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kl, log_softmax, row

Views = tuple[Tensor, Tensor]


def crld_terms(weak: Views, strong: Views, temperature: float, thresholds: tuple[float, float]) -> Views:
    """The part within and the part across the views; a view is (student, teacher)."""
    batch = len(weak[0])
    within, across = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        student = [row(view[0], b, temperature) for view in (weak, strong)]
        teacher = [row(view[1].detach(), b, temperature) for view in (weak, strong)]
        confidences = [
            max(p.exp().item() for p in log_softmax(row(view[1].detach(), b, 1.0))) for view in (weak, strong)
        ]
        if confidences[0] >= thresholds[0]:
            within = within + kl(teacher[0], student[0]) + kl(teacher[1], student[1])
        if confidences[1] >= thresholds[1]:
            across = across + kl(teacher[0], student[1]) + kl(teacher[1], student[0])
    return temperature**2 * within / batch, temperature**2 * across / batch

"""DIST by its definition: correlations of rows and of columns, one number at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def pearson(x: list[Tensor], y: list[Tensor]) -> Tensor:
    """Correlation of two lists of scalars, with the published 1e-8 in the denominator."""
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    xy = xx = yy = torch.zeros((), dtype=torch.float64)
    for one, other in zip(x, y, strict=True):
        xy = xy + (one - mean_x) * (other - mean_y)
        xx = xx + (one - mean_x) ** 2
        yy = yy + (other - mean_y) ** 2
    if xx == 0 or yy == 0:
        return xy
    return xy / (torch.sqrt(xx) * torch.sqrt(yy) + 1e-8)


def dist_terms(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Inter part (rows) and intra part (columns), each T^2 times a mean of 1 - correlation."""
    batch, classes = student_logits.shape
    q = [[v.exp() for v in log_softmax(row(student_logits, b, temperature))] for b in range(batch)]
    p = [[v.exp() for v in log_softmax(row(teacher_logits.detach(), b, temperature))] for b in range(batch)]
    inter, intra = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        inter = inter + (1 - pearson(q[b], p[b])) / batch
    for c in range(classes):
        intra = intra + (1 - pearson([line[c] for line in q], [line[c] for line in p])) / classes
    return temperature**2 * inter, temperature**2 * intra

"""Wasserstein distillation of logits by its definition: one sample, one iteration and one class after another."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def class_cost(weight: Tensor, sharpness: float) -> list[list[float]]:
    """1 - exp(-sharpness (1 - cosine)), the distance itself for 0."""
    classes = len(weight)
    table = [[0.0] * classes for _ in range(classes)]
    for i in range(classes):
        for j in range(classes):
            dot = sum(float(x) * float(y) for x, y in zip(weight[i], weight[j], strict=True))
            lengths = [sum(float(x) ** 2 for x in weight[k]) ** 0.5 for k in (i, j)]
            distance = torch.tensor(1 - dot / (lengths[0] * lengths[1]), dtype=torch.float64)
            table[i][j] = float(1 - torch.exp(-sharpness * distance)) if sharpness else float(distance)
    return table


def transport(q: list[Tensor], p: list[Tensor], cost: list[list[float]], reg: float, iterations: int) -> Tensor:
    """Sinkhorn's iterations from equal scalings, then the cost of the plan from the student's q to the teacher's p."""
    count = len(q)
    kernel = [[torch.exp(torch.tensor(-c / reg, dtype=torch.float64)) for c in line] for line in cost]
    u = [torch.tensor(1 / count, dtype=torch.float64)] * count
    v = u
    for _ in range(iterations):
        v = [p[j] / (sum(kernel[i][j] * u[i] for i in range(count)) + 1e-8) for j in range(count)]
        u = [q[i] / (sum(kernel[i][j] * v[j] for j in range(count)) + 1e-8) for i in range(count)]
    return sum(u[i] * kernel[i][j] * v[j] * cost[i][j] for i in range(count) for j in range(count))


def wkd_l(
    student_logits: Tensor,
    teacher_logits: Tensor,
    target: Tensor,
    cost: Tensor,
    gamma: float,
    temperature: float,
    reg: float,
    iterations: int,
) -> Tensor:
    """Mean over samples of the target's cross-entropy and the transport between the other classes."""
    batch, classes = student_logits.shape
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        y = int(target[b])
        others = [c for c in range(classes) if c != y]
        table = [[max(float(cost[i, j]), 0.0) + 1e-8 for j in others] for i in others]
        log_q, log_p = (log_softmax(row(z, b, 1.0)) for z in (student_logits, teacher_logits.detach()))
        q, p = (
            [torch.exp(x) for x in log_softmax([row(z, b, temperature)[c] for c in others])]
            for z in (student_logits, teacher_logits.detach())
        )
        moved = transport(q, p, table, reg, iterations)
        total = total - torch.exp(log_p[y]) * log_q[y] + gamma * moved
    return total / batch

"""The generalized KL loss by its definition: every pair of classes in a loop."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def gkl_terms(
    student_logits: Tensor, teacher_logits: Tensor, weights: Tensor, temperature: float, normalize: bool
) -> tuple[Tensor, Tensor]:
    """The weighted squared differences of all pairs (weights after the exponent), and the soft cross-entropy."""
    batch, classes = student_logits.shape
    pairs = soft = torch.zeros((), dtype=torch.float64)
    weight = 0.0
    for b in range(batch):
        for j in range(classes):
            for k in range(classes):
                both = float(weights[b, j]) * float(weights[b, k])
                teacher_gap = float(teacher_logits[b, j]) - float(teacher_logits[b, k])
                pairs = pairs + both * (teacher_gap - (student_logits[b, j] - student_logits[b, k])) ** 2
                weight += both
        log_q, log_p = (log_softmax(row(z, b, temperature)) for z in (student_logits, teacher_logits.detach()))
        soft = soft - sum(torch.exp(p) * q for p, q in zip(log_p, log_q, strict=True)) / batch
    return pairs / 4 / (weight if normalize else batch), soft


def class_means(
    batches: list[tuple[int, Tensor, Tensor]], epoch: int, classes: int, temperature: float
) -> list[list[float]]:
    """The table of an epoch: each class's mean probabilities in the last epoch before it that has the class."""
    table = [[1 / classes] * classes for _ in range(classes)]
    for label in range(classes):
        for past in range(1, epoch):
            found = [
                torch.softmax(logits[i] / temperature, 0)
                for when, logits, target in batches
                for i in range(len(target))
                if when == past and int(target[i]) == label
            ]
            if found:
                table[label] = [float(sum(p[c] for p in found)) / len(found) for c in range(classes)]
    return table

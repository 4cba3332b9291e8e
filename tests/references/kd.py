"""Hinton's distillation, one sample and one class at a time, and the divergence all oracles share."""

from __future__ import annotations

import torch
from torch import Tensor


def log_softmax(values: list[Tensor]) -> list[Tensor]:
    """Log-probabilities of a list of scalars."""
    largest = max(value.item() for value in values)
    total = torch.zeros((), dtype=torch.float64)
    for value in values:
        total = total + torch.exp(value - largest)
    return [value - largest - torch.log(total) for value in values]


def kl(teacher: list[Tensor], student: list[Tensor]) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) of two lists of scalars."""
    total = torch.zeros((), dtype=torch.float64)
    for log_p, log_q in zip(log_softmax(teacher), log_softmax(student), strict=True):
        total = total + torch.exp(log_p) * (log_p - log_q)
    return total


def row(logits: Tensor, sample: int, temperature: float) -> list[Tensor]:
    """One sample's logits at a temperature, as float64 scalars that keep their graph."""
    return [logits[sample, c].double() / temperature for c in range(logits.shape[1])]


def kd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 times the mean over samples of the KL between softened softmaxes."""
    batch = student_logits.shape[0]
    total = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        student, teacher = row(student_logits, b, temperature), row(teacher_logits.detach(), b, temperature)
        total = total + kl(teacher, student)
    return temperature**2 * total / batch

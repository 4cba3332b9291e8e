"""The alpha-beta divergence by its definition and its limits, class by class."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import log_softmax, row


def abkd(student_logits: Tensor, teacher_logits: Tensor, alpha: float, beta: float, temperature: float) -> Tensor:
    """Mean over samples of the divergence of two softmaxes."""
    total = torch.zeros((), dtype=torch.float64)
    for b in range(len(student_logits)):
        log_q, log_p = (log_softmax(row(z, b, temperature)) for z in (student_logits, teacher_logits.detach()))
        for x, y in zip(log_p, log_q, strict=True):
            total = total + one_class(torch.exp(x), torch.exp(y), alpha, beta)
    return total / len(student_logits)


def one_class(p: Tensor, q: Tensor, a: float, b: float) -> Tensor:
    """What one class adds."""
    if a == 0 and b == 0:
        return (torch.log(p) - torch.log(q)) ** 2 / 2
    if a == 0:
        return (q**b * torch.log(q**b / p**b) - q**b + p**b) / b**2
    if b == 0:
        return (p**a * torch.log(p**a / q**a) - p**a + q**a) / a**2
    if a + b == 0:
        return (torch.log(q**a / p**a) + p**a / q**a - 1) / a**2
    return -(p**a * q**b - a / (a + b) * p ** (a + b) - b / (a + b) * q ** (a + b)) / (a * b)

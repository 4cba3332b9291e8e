"""SEED by its equations: one distribution over the queue and the own embedding per sample."""

from __future__ import annotations

from math import exp, log

import torch
from torch import Tensor


def embed_queue(student: Tensor, teacher: Tensor, queue: list[Tensor], warm: float, cold: float) -> Tensor:
    """Mean KL divergence; ``warm`` is the student's temperature and ``cold`` the teacher's."""
    total = torch.zeros((), dtype=torch.float64)
    for s, t in zip(student, teacher.detach(), strict=True):
        s, t = s / torch.sqrt(sum(s**2)), t / torch.sqrt(sum(t**2))
        entries = [d / torch.sqrt(sum(d**2)) for d in queue] + [t]
        theirs = [exp(float(sum(t * d)) / cold) for d in entries]
        ours = [torch.exp(sum(s * d) / warm) for d in entries]
        for p, q in zip(theirs, ours, strict=True):
            p, q = p / sum(theirs), q / sum(ours)
            total = total + p * (log(p) - torch.log(q))
    return total / len(student)

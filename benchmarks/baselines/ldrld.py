"""LDRLD as a recursion over masks of all classes, the way public distillation code is written.

What it imitates: the student's d largest logits are found, and every group of their ranks, each pair and all of them
together, gets a distillation loss of its own in a call of its own, which then calls itself for the groups that are
left. Such a loss marks its classes in a (B, C) mask and runs over all C classes: logits at temperature T, minus 1000
outside the mask, ``softmax``, ``log_softmax``, ``kl_div``. The remaining classes get one more. Weights are Python
numbers, and the backward pass is autograd's. That is 2 + d (d - 1) / 2 full KLs.

What it leaves out: the public code's accidents (see docs/methods/ldrld.md), so that its value is
:func:`stillroom.losses.ldrld`'s wherever no logit exceeds the others by about 1000 T.
"""

from __future__ import annotations

import math
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

FAR = 1000.0


def recursive_ldrld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    depth: int = 7,
    temperature: float = 4.0,
    alpha: float = 10.5,
    beta: float = 7.0,
    delta: float = 2.0,
    epsilon: float = 1.5,
    decay: float = 0.05,
) -> Tensor:
    """LDRLD with the averaged local term, for depth < C - 1; arguments as in :func:`stillroom.losses.ldrld`."""
    ranked = student_logits.topk(depth, dim=1).indices
    groups = []
    for i, j in combinations(range(depth), 2):
        weight = delta * math.exp(-decay * (i + j + 2)) / (j - i + epsilon)
        groups.append((weight, ranked[:, [i, j]]))
    groups.append((1.0, ranked))

    def decoupled(left: list[tuple[float, Tensor]]) -> Tensor | float:
        if not left:
            return 0.0
        weight, classes = left[0]
        inside = torch.zeros_like(student_logits).scatter_(1, classes, 1.0).bool()
        return weight * masked_kl(student_logits, teacher_logits, ~inside, temperature) + decoupled(left[1:])

    local = decoupled(groups) / len(groups)
    selected = torch.zeros_like(student_logits).scatter_(1, ranked, 1.0).bool()
    rest = masked_kl(student_logits, teacher_logits, selected, temperature)
    return alpha * local + beta * rest


def masked_kl(student_logits: Tensor, teacher_logits: Tensor, outside: Tensor, temperature: float) -> Tensor:
    """T^2 KL of the softmaxes, the classes outside pushed far away."""
    log_student = F.log_softmax(student_logits / temperature - FAR * outside, dim=1)
    teacher = F.softmax(teacher_logits / temperature - FAR * outside, dim=1)
    return F.kl_div(log_student, teacher, reduction="batchmean") * temperature**2

"""LDRLD by its definition: every sample, every pair of ranks, every class."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tests.references.kd import kl, row


def ranking(logits: list[Tensor], depth: int) -> list[int]:
    """Take the largest, set it aside, take the next (the lower class first where two are equal)."""
    left = list(range(len(logits)))
    ranked = []
    for _ in range(depth):
        largest = left[0]
        for c in left:
            if logits[c].item() > logits[largest].item():
                largest = c
        left.remove(largest)
        ranked.append(largest)
    return ranked


def chosen(student: list[Tensor], teacher: list[Tensor], depth: int, chosen_by: str) -> list[int]:
    """The classes in the order of their ranks: of one network, or of the union by the sum of both ranks."""
    of_student, of_teacher = ranking(student, depth), ranking(teacher, depth)
    if chosen_by != "union":
        return {"student": of_student, "teacher": of_teacher}[chosen_by]

    def rank(order: list[int], c: int) -> int:
        return order.index(c) + 1 if c in order else depth + 1

    union = sorted({*of_student, *of_teacher}, key=lambda c: (rank(of_student, c) + rank(of_teacher, c),
                                                              rank(of_student, c)))  # fmt: skip
    return union[:depth]


def ldrld_terms(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    depth: int = 7,
    temperature: float = 4.0,
    delta: float = 2.0,
    epsilon: float = 1.5,
    decay: float = 0.05,
    average: bool = True,
    pairs: bool = True,
    irw: bool = True,
    erd: bool = True,
    llki: bool = True,
    chosen_by: str = "student",
) -> tuple[Tensor, Tensor]:
    """The local term and the remaining non-target knowledge."""
    batch, classes = student_logits.shape
    local, rest = torch.zeros(2, dtype=torch.float64)
    for b in range(batch):
        # Ranks come from the logits as given: dividing by T could round two of them together.
        top = chosen(row(student_logits, b, 1.0), row(teacher_logits, b, 1.0), depth, chosen_by)
        student, teacher = row(student_logits, b, temperature), row(teacher_logits.detach(), b, temperature)
        for i in range(1, depth + 1):
            for j in range(i + 1, depth + 1):
                inverse_rank = 1 / (abs(i - j) + epsilon) if irw else 1.0
                rank_decay = delta * math.exp(-decay * (i + j)) if erd else 1.0
                first, second = top[i - 1], top[j - 1]
                if pairs:
                    two_way = kl([teacher[first], teacher[second]], [student[first], student[second]])
                    local = local + inverse_rank * rank_decay * two_way
        if llki:
            local = local + kl([teacher[c] for c in top], [student[c] for c in top])
        others = [c for c in range(classes) if c not in top]
        if others:
            rest = rest + kl([teacher[c] for c in others], [student[c] for c in others])
    scale = temperature**2 / batch
    divisor = depth * (depth - 1) / 2 + 1 if average else 1
    return scale * local / divisor, scale * rest


def ldrld(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    alpha: float = 10.5,
    beta: float = 7.0,
    rntk: bool = True,
    mass: float = 0.0,
    **settings: float | bool | str,
) -> Tensor:
    """The weighted sum."""
    local, rest = ldrld_terms(student_logits, teacher_logits, **settings)  # type: ignore[arg-type]
    loss = alpha * local + (beta * rest if rntk else 0.0)
    if mass:
        where = {name: settings[name] for name in ("depth", "temperature", "chosen_by") if name in settings}
        loss = loss + mass * masses(student_logits, teacher_logits, **where)  # type: ignore[arg-type]
    return loss


def masses(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    depth: int = 7,
    temperature: float = 4.0,
    chosen_by: str = "student",
) -> Tensor:
    """The KL between the probabilities of the chosen classes together and of the others together."""
    batch, classes = student_logits.shape
    loss = torch.zeros((), dtype=torch.float64)
    for b in range(batch if depth < classes else 0):
        top = chosen(row(student_logits, b, 1.0), row(teacher_logits, b, 1.0), depth, chosen_by)
        others = [c for c in range(classes) if c not in top]
        networks = row(teacher_logits.detach(), b, temperature), row(student_logits, b, temperature)
        loss = loss + kl(
            *([torch.stack([one[c] for c in part]).logsumexp(0) for part in (top, others)] for one in networks)
        )
    return temperature**2 / batch * loss

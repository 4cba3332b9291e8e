"""Multi-level distillation by its definition, every entry of every Gram matrix by itself."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.references.kd import kd, log_softmax, row
from tests.references.standardize import standardize


def probabilities(logits: Tensor, temperature: float) -> list[list[Tensor]]:
    """Softmaxes at a temperature, sample by sample, class by class."""
    return [[torch.exp(log_p) for log_p in log_softmax(row(logits, b, temperature))] for b in range(len(logits))]


def gram_distance(student: list[list[Tensor]], teacher: list[list[Tensor]]) -> Tensor:
    """The squared distance of the matrices of inner products between vectors, divided by their number."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(student)):
        for j in range(len(student)):
            of_teacher = sum(a * b for a, b in zip(teacher[i], teacher[j], strict=True))
            of_student = sum(a * b for a, b in zip(student[i], student[j], strict=True))
            total = total + (of_teacher - of_student) ** 2
    return total / len(student)


def turned(table: list[list[Tensor]]) -> list[list[Tensor]]:
    """Rows become columns."""
    return [list(column) for column in zip(*table, strict=True)]


def mlkd_terms(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Instance, batch and class level."""
    student, teacher = probabilities(student_logits, temperature), probabilities(teacher_logits.detach(), temperature)
    return (
        kd(student_logits, teacher_logits, temperature),
        gram_distance(student, teacher),
        gram_distance(turned(student), turned(teacher)),
    )


def share_up_to_median(values: list[float]) -> float:
    """The share of values that are at most the median, the mean of the middle two for an even number."""
    ordered, count = sorted(values), len(values)
    median = ordered[count // 2] if count % 2 else (ordered[count // 2 - 1] + ordered[count // 2]) / 2
    return len([value for value in values if value <= median]) / count


def mlkd(weak: tuple[Tensor, Tensor], strong: tuple[Tensor, Tensor], temperature: float, standardized: bool) -> Tensor:
    """The published sum, each of its terms computed where the public code computes it; pairs are (student, teacher)."""
    teacher = probabilities(weak[1].detach(), 1.0)
    samples = share_up_to_median([max(p.item() for p in sample) for sample in teacher])
    classes = share_up_to_median([sum(p.item() for p in column) for column in turned(teacher)])

    def instance(view: tuple[Tensor, Tensor], at: float) -> Tensor:
        student, teacher = (standardize(logits) for logits in view) if standardized else view
        return kd(student, teacher, at)

    total = torch.zeros((), dtype=torch.float64)
    for at in (temperature, 3.0, 5.0, 2.0, 6.0):
        _, batch, class_ = mlkd_terms(*weak, at)
        total = total + samples * instance(weak, at) + samples * batch + classes * class_
    for at in (temperature, 3.0, 5.0):
        total = total + instance(strong, at)
    for at in (2.0, 6.0):
        total = total + instance(weak, at)
    return total
